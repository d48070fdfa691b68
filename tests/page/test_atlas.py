"""The atlas: every tile is where it is said to be."""

import io

import numpy as np
import pytest
from PIL import Image

from flax_punkvae.page import atlas


def tiles(made: atlas.Atlas, count: int) -> np.ndarray:
    """The tiles, cut out as the page does."""
    pages = [np.asarray(Image.open(io.BytesIO(page))) for page in made.pages]
    assert all(max(page.shape[:2]) <= atlas.PAGE for page in pages)
    found = []
    for i in range(count):
        page, j = pages[i // made.per_page], i % made.per_page
        top, left = j // made.columns * made.height, j % made.columns * made.width
        found.append(page[top : top + made.height, left : left + made.width])
    return np.stack(found)


@pytest.mark.parametrize("shape", [(1, 24, 24), (300, 24, 24), (7, 16, 9), (70, 64, 64)])
def test_tiles_are_the_sprites(shape: tuple[int, int, int]):
    sprites = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(tiles(atlas.make(sprites), len(sprites)), sprites)


def test_a_large_set_has_several_pages(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(atlas, "PAGE", 128)
    sprites = np.random.default_rng(0).integers(0, 256, (60, 24, 24, 3), np.uint8)
    made = atlas.make(sprites)
    assert len(made.pages) == 3 and made.columns == 5
    np.testing.assert_array_equal(tiles(made, 60), sprites)


def test_large_images_are_shrunk():
    """Oracle: the mean of each block of 2x2 pixels; Pillow rounds after each axis."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, 128, 96, 3), np.uint8)
    found = tiles(atlas.make(pictures), 3)
    assert found.shape == (3, 64, 48, 3)
    expected = pictures.reshape(3, 64, 2, 48, 2, 3).mean(axis=(2, 4))
    assert np.abs(found - expected).max() <= 1
