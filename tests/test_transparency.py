"""Transparency: what becomes of RGBA pixels, and the colours, palettes and grids made of them."""

import io

import hypothesis.extra.numpy as hnp
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from flax_punkvae import colours, transparency
from flax_punkvae import images as im

# Of few levels, so that equal and similar colours, and all kinds of alpha, are there.
LEVELS = st.sampled_from((0, 1, 127, 128, 200, 254, 255))
PIXELS = hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(3), st.just(4), st.just(4)), elements=LEVELS)
PALETTES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(4)), elements=LEVELS)
MAGENTA = (255, 0, 255)


def over(colour: np.ndarray, behind: int) -> np.ndarray:
    """255 times what shows over black or white, exactly."""
    *rgb, alpha = map(int, colour)
    return np.array([alpha * level + (255 - alpha) * behind for level in rgb])


@given(PIXELS, PALETTES)
def test_the_nearest_rgba_colour_is_the_one_that_looks_nearest(sprites: np.ndarray, palette: np.ndarray):
    """Oracle: every distance over black and over white, in Python's integers; the first of equal ones."""
    found = im.to_indices(sprites, palette).ravel()
    for pixel, index in zip(sprites.reshape(-1, 4), found, strict=True):
        distances = [
            sum(int(x) ** 2 for behind in (0, 255) for x in over(pixel, behind) - over(each, behind))
            for each in palette
        ]
        known = (palette == pixel).all(1)
        assert index == (known.argmax() if known.any() else distances.index(min(distances)))


@pytest.mark.parametrize("spread", [256, 12])
def test_opaque_colours_have_the_same_nearest_colour_with_alpha_as_without(spread: int):
    palette, pixels = np.random.default_rng(spread).integers(0, spread, (2, 2000, 3)).astype(np.uint8)
    opaque = [np.pad(each, ((0, 0), (0, 1)), constant_values=255) for each in (pixels, palette)]
    np.testing.assert_array_equal(colours.nearest(*opaque), colours.nearest(pixels, palette))


@given(PIXELS)
def test_an_rgba_palette_is_every_colour_once(sprites: np.ndarray):
    palette = im.palette_of(sprites)
    assert [tuple(x) for x in palette.tolist()] == sorted({tuple(x) for x in sprites.reshape(-1, 4).tolist()})
    np.testing.assert_array_equal(im.snap(sprites, palette), sprites)
    np.testing.assert_array_equal(im.unpacked(im.packed(palette), 4), palette)


def test_a_palette_of_more_pixels_than_are_looked_at_once():
    sprites = np.random.default_rng(0).integers(0, 4, (3, 400, 400, 4)).astype(np.uint8)
    assert len(im.palette_of(sprites)) == 4**4


@given(PIXELS)
def test_alpha_is_cleared_and_made_hard(pixels: np.ndarray):
    cleared, hard = transparency.cleared(pixels), transparency.hardened(pixels)
    for before, kept, made in zip(*(each.reshape(-1, 4).tolist() for each in (pixels, cleared, hard)), strict=True):
        assert kept == (before if before[3] else [0, 0, 0, 0])
        assert made == ([*before[:3], 255] if before[3] >= 128 else [0, 0, 0, 0])


@given(PIXELS)
def test_alpha_goes_if_nothing_is_transparent(pixels: np.ndarray):
    found = transparency.without_needless_alpha(pixels)
    assert found.shape[-1] == (4 if (pixels[..., 3] < 255).any() else 3)
    np.testing.assert_array_equal(found, pixels[..., : found.shape[-1]])


@given(PIXELS)
def test_pixels_are_brought_to_the_channels_of_a_model(pixels: np.ndarray):
    rgb = pixels[..., :3]
    opaque = transparency.to_channels(rgb, 4, MAGENTA)
    np.testing.assert_array_equal(opaque[..., :3], rgb)
    assert (opaque[..., 3] == 255).all()
    np.testing.assert_array_equal(transparency.to_channels(rgb, 3, MAGENTA), rgb)
    np.testing.assert_array_equal(transparency.to_channels(pixels, 4, MAGENTA), transparency.cleared(pixels))
    np.testing.assert_array_equal(transparency.to_channels(pixels, 3, MAGENTA), im.over_background(pixels, MAGENTA))
    # A single row of colours too, such as a palette.
    np.testing.assert_array_equal(
        transparency.to_channels(pixels[0, 0], 4, MAGENTA), transparency.cleared(pixels[0, 0])
    )


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_premultiplied_is_what_shows_over_black(array):
    pixels = np.random.default_rng(1).random((2, 3, 4, 4)).astype(np.float32)
    found = np.asarray(transparency.premultiplied(array(pixels)))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., :3], pixels[..., :3] * pixels[..., 3:])
    np.testing.assert_array_equal(found[..., 3], pixels[..., 3])
    np.testing.assert_array_equal(transparency.premultiplied(array(pixels[..., :3])), pixels[..., :3])


def test_a_grid_of_transparent_images_is_transparent_between_them():
    sheet = im.grid(np.full((3, 2, 2, 4), 77, np.uint8), columns=2, gap=1)
    assert sheet.shape == (7, 7, 4)
    assert (sheet[1:3, 1:3] == 77).all() and (sheet == 77).sum() == 3 * 2 * 2 * 4 and (sheet == 0).sum() == 49 * 4 - 48
    with Image.open(io.BytesIO(im.to_png(sheet))) as file:
        assert file.mode == "RGBA"
        np.testing.assert_array_equal(np.asarray(file), sheet)
