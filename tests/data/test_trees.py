"""Folders and archives of every kind: what is read, what is left out, and limits."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_punkvae.data import files, trees
from helpers.bad_input import BAD_IMAGES
from helpers.characters import sprites
from helpers.forms import FORMS
from helpers.sources import refusal, write


def test_an_archive_is_read_as_the_folder_that_it_holds(tmp_path: Path):
    packed = files.load(FORMS["ZIP archive"](tmp_path / "set", 9))
    unpacked = files.load(tmp_path / "set" / "My Pack 1.0")
    np.testing.assert_array_equal(packed.pixels, unpacked.pixels)
    assert packed.files == tuple(f"My Pack 1.0/{name}" for name in unpacked.files)
    np.testing.assert_array_equal(packed.labels, unpacked.labels)
    assert packed.label_names == unpacked.label_names == ("knights", "mages", "thieves")
    assert packed.notes[0] == "left out 1 file of other formats (.txt) and 9 hidden files"
    # By what it holds, not by its name.
    (tmp_path / "set" / "my pack.zip").rename(tmp_path / "download")
    assert len(files.load(tmp_path / "download").pixels) == 9


def archive(path: Path, **content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, body in content.items():
            packed.writestr(f"{name}.png", body)
    return path


def test_archives_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "a.png", sprites(1)[0])
    image = (tmp_path / "a.png").read_bytes()
    good = archive(tmp_path / "good.zip", a=image, b=image)
    cut = tmp_path / "cut.zip"
    cut.write_bytes(good.read_bytes()[:100])
    assert "not an image in a known format" in refusal(files.load, cut)
    damaged = bytearray(good.read_bytes())
    damaged[60:70] = bytes(10)
    (tmp_path / "damaged.zip").write_bytes(damaged)
    assert "1 of 2 images cannot be read: a.png (damaged: " in refusal(files.load, tmp_path / "damaged.zip")
    locked = bytearray(good.read_bytes())
    locked[good.read_bytes().index(b"PK\1\2") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    assert "a.png (encrypted: unzip it first" in refusal(files.load, tmp_path / "locked.zip")
    bomb = archive(tmp_path / "bomb.zip", a=image, b=BAD_IMAGES["a bomb"][0])
    assert "b.png (too large: " in refusal(files.load, bomb)
    empty = archive(tmp_path / "empty.zip")
    assert "no images" in refusal(files.load, empty)
    for limit in ("_LARGEST_FILE", "_LARGEST_ARCHIVE"):
        with monkeypatch.context() as patch:
            patch.setattr(trees, limit, len(image) - 1)
            assert "too large: an archive may hold" in refusal(files.load, good)


@pytest.mark.parametrize("name", ["Grün Held ☆ ({}).PNG", "a b.{}.png", "{}.JPEG"])
def test_names_and_suffixes_of_every_kind(tmp_path: Path, name: str):
    tmp_path.joinpath("set").mkdir()
    for number, pixels in enumerate(sprites(3)):
        write(tmp_path / "set" / name.format(number), pixels[..., :3])
    assert files.load(tmp_path / "set").ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize("suffix", ["tif", "TGA", "qoi", "bmp", "gif", "webp", "apng", "jfif"])
def test_formats(tmp_path: Path, suffix: str):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2:5, 3:6] = 200
    image = write(tmp_path / "image.png", pixels)
    formats = {"apng": "PNG", "jfif": "JPEG", "tif": "TIFF", "TGA": "TGA"}
    Image.open(image).save(tmp_path / f"other.{suffix}", formats.get(suffix, suffix.upper()), lossless=True)
    image.unlink()
    found = files.load(tmp_path).pixels[0, ..., :3].astype(int)
    assert np.abs(found - pixels).max() <= (60 if suffix == "jfif" else 0)


def test_junk_is_no_targa_image(tmp_path: Path):
    """The format has no mark of its own: only files with its suffix are tried as such."""
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[2] = 9
    write(tmp_path / "a.tga", pixels)
    (tmp_path / "a.tga").rename(tmp_path / "a.png")
    assert "not an image in a known format" in refusal(files.load, tmp_path)
