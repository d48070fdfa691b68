"""Images that are rendered when they are asked for."""

import tracemalloc

import numpy as np
import pytest

from flax_punkvae import data
from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import LazyImages

SPRITES = np.random.default_rng(0).integers(0, 256, (12, 24, 24, 3), np.uint8)


@pytest.mark.parametrize("how", ["reference", "crisp", "sprite", "indices"])
def test_images_are_indexed_like_the_array_of_their_renderings(how: im.Render):
    """Oracle: that array, by `images.render`."""
    images, rendered = LazyImages(SPRITES, how), im.render(SPRITES, how)
    assert (images.shape, images.dtype, len(images)) == (rendered.shape, rendered.dtype, 12)
    for where in (slice(2, 7), np.array([5, 0, 5]), 3, slice(0)):
        np.testing.assert_array_equal(images[where], rendered[where])
    np.testing.assert_array_equal(images, rendered)
    np.testing.assert_array_equal(images.at(np.array([4, 1])), rendered[[4, 1]])


def test_indices_of_two_bytes_are_returned_as_they_are():
    pixels = np.arange(600, dtype=np.uint16).reshape(6, 10, 10, 1)
    images = LazyImages(pixels)
    assert images.shape == pixels.shape and images.dtype == np.uint16
    np.testing.assert_array_equal(images[[3, 2]], pixels[[3, 2]])


def test_a_dataset_takes_the_memory_of_its_sprites():
    """Oracle: 1,728 bytes for a sprite in RGB; renderings would take 49,152 each."""
    data.load(DataConfig(source="synthetic", synthetic_count=2))
    tracemalloc.start()
    dataset = data.load(DataConfig(source="synthetic", synthetic_count=20_000))
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert dataset.images.shape == (20_000, 128, 128, 3) and dataset.images.pixels.nbytes == 20_000 * 1728
    assert held < 1.2 * 20_000 * 1728 and peak < 3 * 20_000 * 1728
