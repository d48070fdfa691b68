"""Images of different sizes on one canvas."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from flax_punkvae.data import decode, fitting
from flax_punkvae.errors import UserError
from flax_punkvae.images import over_background, parse_colour
from helpers.sources import refusal, write, write_folder

SIDES = st.integers(1, 7)


def drawn(height: int, width: int, alpha: int = 255) -> np.ndarray:
    pixels = np.random.default_rng(height * 10 + width).integers(0, 256, (height, width, 4), np.uint8)
    pixels[..., 3] = alpha
    return pixels


@given(SIDES, SIDES, SIDES, SIDES, st.sampled_from(("centre", "bottom", "crop")))
def test_an_image_lies_where_it_should(height: int, width: int, rows: int, columns: int, fit: fitting.Fit):
    """Oracle: pixel by pixel. Half of what is missing or too much is at each side, or all of it above."""
    image = drawn(height, width)
    found = fitting.fitted(image, (rows, columns), fit)
    above = rows - height if fit == "bottom" else (rows - height) // 2
    left = (columns - width) // 2
    for y, x in np.ndindex(rows, columns):
        inside = 0 <= y - above < height and 0 <= x - left < width
        expected = image[y - above, x - left] if inside else image[0, 0]
        np.testing.assert_array_equal(found[y, x], expected)


def test_what_is_added_to_a_transparent_image_is_transparent():
    image = drawn(2, 2)
    image[0, 0, 3] = 0
    assert (fitting.fitted(image, (4, 4), "centre")[[0, -1]] == 0).all()


def load(folder: Path, **options: object) -> data.Dataset:
    return data.load(DataConfig(source=str(folder), render="sprite", **options))  # pyright: ignore[reportArgumentType]


def test_trimmed_sprites_share_a_canvas(tmp_path: Path):
    """Oracle: `fitted`, over the background."""
    images = {"a.png": drawn(9, 12), "b.png": drawn(16, 16), "c.png": drawn(12, 10)}
    folder = write_folder(tmp_path / "set", images)
    fits: tuple[fitting.Fit, ...] = ("auto", "bottom")
    for fit in fits:
        found = load(folder, fit=fit)
        expected = np.stack([fitting.fitted(image, (16, 16), fit) for image in images.values()])
        np.testing.assert_array_equal(found.images, over_background(expected, parse_colour("#638596")))
        assert any("images of 3 sizes were padded" in note and "to 16x16" in note for note in found.notes)
    assert load(folder, fit="crop").images.shape == (3, 9, 10, 3)
    assert "expected images of one size" in refusal(load_refusing, folder)


def load_refusing(folder: Path) -> data.Dataset:
    return load(folder, fit="refuse")


def test_sizes_that_differ_much_are_listed(tmp_path: Path):
    folder = write_folder(tmp_path / "set", {f"{n}.png": drawn(8 + 3 * n, 8) for n in range(6)})
    assert refusal(load, folder).endswith(
        "images of 6 sizes, mostly 8x8 (1), 8x11 (1), 8x14 (1): put them on one canvas with --data.fit centre, "
        "bottom or crop, or leave some out"
    )
    assert load(folder, fit="centre").images.shape == (6, 23, 8, 3)


def test_a_stray_picture_is_left_out_and_named(tmp_path: Path):
    images = {f"{n}.png": drawn(8, 8, 255 - n) for n in range(4)} | {"logo9.png": drawn(100, 300)}
    found = load(write_folder(tmp_path / "set", images))
    assert found.images.shape == (4, 8, 8, 3) and found.ids.tolist() == [0, 1, 2, 3]
    assert "left out 1 much larger than the others: logo9.png (300x100)" in found.notes
    # Of two images, neither is the stray one.
    with pytest.raises(UserError, match="images of 2 sizes"):
        load(write_folder(tmp_path / "two", {"a.png": drawn(8, 8), "b.png": drawn(99, 99)}))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_image_as_it_is_read(orientation: int, tmp_path: Path):
    image = Image.fromarray(drawn(3, 5)[..., :3])
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("jpg", "png", "webp"):
        image.save(tmp_path / f"a.{suffix}", exif=exif)
        found = decode.head(tmp_path / f"a.{suffix}")
        assert found and found.size == decode.read_rgba(tmp_path / f"a.{suffix}").shape[:2]
    (tmp_path / "b.png").write_bytes(b"no image")
    assert decode.head(tmp_path / "b.png") is None
    assert decode.head(write(tmp_path / "c.png", drawn(2, 7))) == ((2, 7), 1, False)
