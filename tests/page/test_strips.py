"""Strips as files."""

import io

import numpy as np
import pytest
from PIL import Image, ImageSequence

from flax_punkvae import images
from flax_punkvae.page import strips

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("count", [2, 5])
def test_a_gif_goes_there_and_back_in_exact_colours(count: int):
    frames = RNG.integers(0, 256, (count, 8, 8, 3), np.uint8)
    with Image.open(io.BytesIO(strips.gif(frames, 2, 120))) as file:
        assert file.info["loop"] == 0 and file.info["duration"] == 120
        found = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(file)])
    order = [*range(count), *range(count - 2, 0, -1)]
    np.testing.assert_array_equal(found, images.enlarge(frames[order], 2))


def test_frames_of_many_colours_are_quantised():
    frames = RNG.integers(0, 256, (2, 40, 40, 3), np.uint8)
    with Image.open(io.BytesIO(strips.gif(frames, 1, 50))) as file:
        found = np.asarray(file.convert("RGB")).astype(int)
    assert found.shape == (40, 40, 3) and np.abs(found - frames[0]).mean() < 32


@pytest.mark.parametrize("side", [6, 40])
def test_a_gif_is_transparent_where_the_frames_are_mostly_so(side: int):
    """Oracle: alpha of 128 and more is opaque, less is not; no frame shows through the next."""
    frames = RNG.integers(0, 256, (3, side, side, 4), np.uint8)
    frames[1, ..., 3] = 255
    frames[2, 1:, :, 3] = 0
    with Image.open(io.BytesIO(strips.gif(frames, 1, 50))) as file:
        found = np.stack([np.asarray(frame.convert("RGBA")) for frame in ImageSequence.Iterator(file)])
    expected = frames[[0, 1, 2, 1]]
    solid = expected[..., 3] >= 128
    np.testing.assert_array_equal(found[..., 3], np.where(solid, 255, 0))
    differences = np.abs(found[solid][:, :3].astype(int) - expected[solid][:, :3])
    assert differences.mean() < 32 if side == 40 else not differences.any()


def test_a_sheet_has_the_frames_side_by_side():
    frames = RNG.integers(0, 256, (3, 8, 6, 3), np.uint8)
    with Image.open(io.BytesIO(strips.sheet(frames, 2))) as file:
        np.testing.assert_array_equal(np.asarray(file), np.concatenate(list(images.enlarge(frames, 2)), axis=1))
