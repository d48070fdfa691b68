"""Sheets: tiles that are empty, grids that are given, and what the sheet shows of its own."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from flax_punkvae.data import files, synthetic
from helpers.sources import opaque, refusal, tiled, write


def test_empty_tiles_are_left_out_and_counted(tmp_path: Path):
    sprites = opaque(11, 8)
    sprites[[1, 2, 6]] = 0
    sprites[4] = (9, 8, 7, 255)
    sheet = write(tmp_path / "sheet.png", tiled(sprites, 4))
    raw = files.load(sheet, (8, 8))
    drawn = [0, 3, 5, 7, 8, 9, 10]
    assert raw.ids.tolist() == drawn
    np.testing.assert_array_equal(raw.pixels, sprites[drawn])
    assert raw.notes == ("left out 4 empty and 1 of a single colour of 12 tiles; ids are positions in the sheet",)
    dataset = data.load(DataConfig(source=str(sheet), tile=(8, 8), render="sprite", limit=3))
    assert dataset.ids.tolist() == drawn[:3] and set(raw.notes) <= set(dataset.notes)
    assert files.load(write(sheet, tiled(opaque(12, 8), 4)), (8, 8)).notes == ()


# (margin, spacing, columns): widths that 8 divides.
GAPS = [(1, 1, 7), (0, 1, 9), (1, 2, 4), (2, 3, 5), (4, 0, 5), (3, 2, 6)]


@pytest.mark.parametrize(("margin", "spacing", "columns"), GAPS)
@pytest.mark.parametrize("colour", [(0, 0, 0, 0), (255, 0, 255, 255)], ids=["transparent", "magenta"])
def test_a_sheet_with_margin_or_spacing_is_refused_without(
    tmp_path: Path, margin: int, spacing: int, columns: int, colour: tuple[int, int, int, int]
):
    pixels = tiled(opaque(columns**2 - 1, 8), columns, margin, spacing)
    assert pixels.shape[1] % 8 == 0
    pixels[pixels[..., 3] == 0] = colour
    sheet = write(tmp_path / "sheet.png", pixels)
    message = refusal(files.load, sheet, (8, 8))
    assert "would cut through the sprites" in message and "--data.margin and --data.spacing" in message
    assert ("it looks like tiles of" if spacing else "around all of it, 4 pixels are of one colour") in message
    # With what is around and between them, it is read as the plain sheet is.
    config = DataConfig(tile=(8, 8), margin=margin, spacing=spacing)
    plain = write(tmp_path / "plain.png", tiled(opaque(columns**2 - 1, 8), columns))
    found, expected = files.load(sheet, (8, 8), config), files.load(plain, (8, 8))
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    wrong = refusal(files.load, sheet, (8, 8), DataConfig(tile=(8, 8), margin=margin, spacing=spacing + 1))
    between = f"{spacing + 1} pixel{'s' * (spacing > 0)} between them"
    assert f"cannot be cut into tiles of 8x8 with {between}" in wrong


def test_a_strip_with_spacing_is_refused_without(tmp_path: Path):
    message = refusal(files.load, write(tmp_path / "strip.png", tiled(opaque(9, 8), 9, spacing=1)), (8, 8))
    assert "it looks like tiles of 8x8 with 1 pixel between them: every 9th line is of one colour" in message


def test_small_tiles_cut_as_large_ones_are_refused(tmp_path: Path):
    sprites = opaque(36, 16)
    sprites[:, 0] = sprites[:, :, 0] = 0
    message = refusal(files.load, write(tmp_path / "sheet.png", tiled(sprites, 6)), (24, 24))
    assert "it looks like tiles of 16x16: nothing drawn crosses the lines between them" in message


@given(
    side=st.sampled_from([8, 12, 16, 24]),
    count=st.integers(1, 40),
    columns=st.integers(1, 12),
    border=st.integers(0, 3),
    density=st.sampled_from([0.3, 0.7, 1.0]),
    solid=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)
@settings(max_examples=50)
def test_plain_sheets_are_not_refused(
    tmp_path_factory: pytest.TempPathFactory,
    side: int,
    count: int,
    columns: int,
    border: int,
    density: float,
    solid: bool,
    seed: int,
):
    random = np.random.default_rng(seed)
    sprites = opaque(count, side)
    sprites[random.random(sprites.shape[:3]) >= density] = 0
    sprites[random.random(count) < 0.2] = 0
    for edge in (
        sprites[:, :border],
        sprites[:, :, :border],
        sprites[:, side - border :],
        sprites[:, :, side - border :],
    ):
        edge[:] = 0
    if solid:
        sprites[sprites[..., 3] == 0] = (9, 9, 9, 255)
    drawn = (sprites != sprites[:, :1, :1]).any((1, 2, 3))
    if not drawn.any():
        return
    sheet = write(tmp_path_factory.getbasetemp() / "plain.png", tiled(sprites, columns))
    raw = files.load(sheet, (side, side))
    assert raw.ids.tolist() == np.flatnonzero(drawn).tolist()
    np.testing.assert_array_equal(raw.pixels, sprites[drawn])


def test_gaps_within_sprites_are_no_other_grid(tmp_path: Path):
    sprites = opaque(16, 24)
    # Lines come every 8 pixels, and so every 16, but every 24 as well.
    sprites[:, ::8] = sprites[:, :, ::8] = 0
    found = files.load(write(tmp_path / "sheet.png", tiled(sprites, 4)), (24, 24))
    np.testing.assert_array_equal(found.pixels, sprites)


@pytest.mark.parametrize("background", [None, (99, 133, 150, 255)])
@pytest.mark.parametrize("tile", [None, (24, 24)])
def test_characters_are_a_plain_sheet(tmp_path: Path, background: tuple[int, ...] | None, tile: tuple[int, int] | None):
    sprites = synthetic.draw(200, 0)[0]
    if background:
        sprites[sprites[..., 3] == 0] = background
    found = files.load(write(tmp_path / "sheet.png", tiled(sprites, 20)), tile)
    np.testing.assert_array_equal(found.pixels, sprites)
    assert found.notes == (
        () if tile else ("tiles of 24x24 (nothing drawn crosses the lines between them): --data.tile overrides",)
    )
