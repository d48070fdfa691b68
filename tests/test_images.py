"""Rendering, its inverse, compositing, grids."""

import tracemalloc
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.spatial
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flax_punkvae import images as im
from helpers import all_punks

SPRITES = hnp.arrays(np.uint8, st.tuples(st.integers(1, 3), st.just(24), st.just(24), st.just(3)))


@given(SPRITES)
@settings(max_examples=20)
def test_crisp_is_read_back_exactly(sprites: np.ndarray):
    rendered = im.render(sprites, "crisp")
    assert rendered.shape == (len(sprites), 128, 128, 3)
    np.testing.assert_array_equal(im.read_crisp(rendered), sprites)


def test_crisp_is_blocks_of_five_in_a_border_of_four():
    sprite = np.random.default_rng(1).integers(0, 256, (1, 24, 24, 3), np.uint8)
    inner = im.render(sprite, "crisp")[0, 4:124, 4:124]
    np.testing.assert_array_equal(inner, np.kron(sprite[0], np.ones((5, 5, 1), np.uint8)))


def by_pillow(sprite: np.ndarray) -> np.ndarray:
    hub = Image.fromarray(sprite.repeat(14, 0).repeat(14, 1))
    assert hub.size == (336, 336)
    return np.asarray(hub.resize((128, 128), Image.Resampling.BILINEAR))


@given(SPRITES | hnp.arrays(np.uint8, (1, 24, 24, 3), elements=st.sampled_from((0, 1, 127, 128, 254, 255))))
@settings(max_examples=25)
def test_reference_is_pillows_resize_of_the_hubs_image(sprites: np.ndarray):
    np.testing.assert_array_equal(im.render(sprites, "reference"), [by_pillow(sprite) for sprite in sprites])


def test_the_reference_of_punks_and_noise_is_pillows_too():
    random = np.random.default_rng(4)
    noise = np.concatenate([random.integers(0, 256, (100, 24, 24, 3)), random.choice((0, 255), (100, 24, 24, 3))])
    shown = im.over_background(all_punks.load().pixels[::50], im.parse_colour("#638596"))
    sprites = np.concatenate([noise.astype(np.uint8), shown])
    tracemalloc.start()
    rendered = im.render(sprites, "reference")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(sprites) == 400 and peak < rendered.nbytes + 2**23
    np.testing.assert_array_equal(rendered, [by_pillow(sprite) for sprite in sprites])


def test_resize_of_the_hubs_image_equals_the_rendered_sprite():
    sprites = np.random.default_rng(2).integers(0, 256, (3, 24, 24, 3), np.uint8)
    np.testing.assert_array_equal(im.resize(im.enlarge(sprites, 14)), im.render(sprites, "reference"))


@given(SPRITES, st.sampled_from(("reference", "crisp")))
@settings(max_examples=20)
def test_sprites_are_read_back_from_either_render(sprites: np.ndarray, how: im.Render):
    np.testing.assert_array_equal(im.read_sprites(im.render(sprites, how), how), sprites)


@given(hnp.arrays(np.uint8, (2, 3, 4, 3)), hnp.arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(3))))
def test_snapping_takes_the_nearest_colour(sprites: np.ndarray, palette: np.ndarray):
    """Oracle: every distance of every pixel, one by one."""
    snapped = im.snap(sprites, palette)
    for pixel, found in zip(sprites.reshape(-1, 3), snapped.reshape(-1, 3), strict=True):
        distances = [sum((int(a) - int(b)) ** 2 for a, b in zip(pixel, colour, strict=True)) for colour in palette]
        assert found.tolist() == palette[distances.index(min(distances))].tolist()


@pytest.mark.parametrize("spread", [256, 12])
def test_the_nearest_of_many_colours_is_the_first_of_the_nearest(spread: int):
    random = np.random.default_rng(spread)
    palette, colours = random.integers(0, spread, (2, 3000, 3)).astype(np.uint8)
    # Oracle: every distance, in one array; argmin takes the first.
    distances = ((colours[:, None].astype(int) - palette) ** 2).sum(-1)
    np.testing.assert_array_equal(im.to_indices(colours[None, None], palette)[0, 0], distances.argmin(1))


def test_many_colours_take_little_memory():
    random = np.random.default_rng(0)
    sprites, others = random.integers(0, 256, (2, 40, 24, 24, 3), np.uint8)
    tracemalloc.start()
    palette = im.palette_of(sprites)
    snapped = im.snap(others, palette)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # All distances at once would be 6 GB.
    assert len(palette) > 20_000 and peak < 2**26
    # Oracle: SciPy's k-d tree.
    distances, _ = scipy.spatial.KDTree(palette.astype(float)).query(others.reshape(-1, 3).astype(float))
    ours = np.linalg.norm(others.astype(float) - snapped, axis=-1)
    np.testing.assert_allclose(ours.ravel(), distances)


@given(hnp.arrays(np.uint8, (2, 3, 4, 3)))
def test_a_palette_is_every_colour_once(sprites: np.ndarray):
    palette = im.palette_of(sprites)
    assert sorted(map(tuple, palette.tolist())) == [tuple(c) for c in palette.tolist()]
    assert {tuple(c) for c in palette.tolist()} == {tuple(c) for c in sprites.reshape(-1, 3).tolist()}
    np.testing.assert_array_equal(im.snap(sprites, palette), sprites)


@given(st.integers(1, 6), SPRITES)
@settings(max_examples=10)
def test_enlarged_sprites_are_recognised(scale: int, sprites: np.ndarray):
    found = im.shrink_to_sprites(im.enlarge(sprites, scale))
    assert found is not None
    np.testing.assert_array_equal(found, sprites)


@pytest.mark.parametrize("shape", [(1, 25, 25, 3), (1, 24, 48, 3), (1, 12, 12, 3), (1, 1, 1, 3)])
def test_other_sizes_are_no_sprites(shape: tuple[int, ...]):
    assert im.shrink_to_sprites(np.zeros(shape, np.uint8)) is None


def test_an_image_with_one_odd_pixel_is_no_enlarged_sprite():
    enlarged = im.enlarge(np.zeros((1, 24, 24, 3), np.uint8), 2)
    enlarged[0, 47, 47] = 1
    assert im.shrink_to_sprites(enlarged) is None


@given(hnp.arrays(np.uint8, (1, 4, 4, 4)), st.tuples(*[st.integers(0, 255)] * 3))
def test_compositing_equals_float64(rgba: np.ndarray, colour: tuple[int, int, int]):
    alpha = rgba[..., 3:].astype(np.float64) / 255
    exact = alpha * rgba[..., :3] + (1 - alpha) * np.array(colour)
    # Within half a step of the exact value; ties cannot occur, since 255 is odd.
    assert np.all(np.abs(im.over_background(rgba, colour) - exact) <= 0.5 + 1e-9)


def test_compositing_ends():
    rgba = np.array([[[[1, 2, 3, 255], [1, 2, 3, 0]]]], np.uint8)
    composed = im.over_background(rgba, im.parse_colour("#638596"))
    assert composed.tolist() == [[[[1, 2, 3], [0x63, 0x85, 0x96]]]]


@given(hnp.arrays(np.uint8, (1, 2, 2, 3)))
def test_floats_and_back(images: np.ndarray):
    np.testing.assert_array_equal(im.to_uint8(images.astype(np.float32) / np.float32(255)), images)


def test_to_uint8_clips():
    assert im.to_uint8(np.array([[[[-1.0, 2.0, 0.5]]]])).tolist() == [[[[0, 255, 128]]]]


@given(st.integers(1, 7), st.integers(1, 4), st.integers(0, 3))
def test_grid_places_images_in_reading_order(count: int, columns: int, gap: int):
    images = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 3), np.uint8)
    sheet = im.grid(images, columns, gap)
    rows = -(-count // columns)
    assert sheet.shape == (rows * (2 + gap) + gap, columns * (3 + gap) + gap, 3)
    for index in range(count):
        row, column = divmod(index, columns)
        top, left = gap + row * (2 + gap), gap + column * (3 + gap)
        assert np.all(sheet[top : top + 2, left : left + 3] == index)
    # All else is white.
    assert np.sum(sheet == 255) == sheet.size - images.size


def test_png_round_trip(tmp_path: Path):
    image = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)
    im.save_png(image, tmp_path / "image.png")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "image.png")), image)
