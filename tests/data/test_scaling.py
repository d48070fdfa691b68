"""Enlargements by a whole factor: found on all images, and undone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from flax_punkvae.data import scaling
from flax_punkvae.images import enlarge
from helpers.characters import sprites
from helpers.sources import write_folder


def load(folder: Path, **options: object) -> data.Dataset:
    config = DataConfig(source=str(folder), render="indices", **options)  # pyright: ignore[reportArgumentType]
    return data.load(config)


@given(st.integers(1, 7), st.integers(8, 12), st.integers(8, 12), st.integers(0, 2**31 - 1))
def test_the_factor_is_the_largest(by: int, height: int, width: int, seed: int):
    """Oracle: by trying. The image is an enlargement by a factor if it equals its every n-th pixel, enlarged."""
    small = np.random.default_rng(seed).integers(0, 2, (1, height, width, 1), np.uint8) * np.uint8(255)
    images = enlarge(np.broadcast_to(small, (1, height, width, 4)), by)
    exact = [
        n
        for n in range(1, 100)
        if images.shape[1] % n == 0
        and images.shape[2] % n == 0
        and np.array_equal(enlarge(images[:, ::n, ::n], n), images)
    ]
    assert scaling.factor(images) == exact[-1] >= by


def test_enlarged_sprites_are_shrunk_and_it_is_said(tmp_path: Path):
    small = sprites(6)
    folder = write_folder(tmp_path / "set", {f"{n}.png": image for n, image in enumerate(enlarge(small, 10))})
    dataset = load(folder)
    np.testing.assert_array_equal(dataset.sprites, np.where(small[..., 3:] > 0, small, 0))
    assert "the images are enlarged 10 times (whole blocks of 10x10 pixels): undone" in dataset.notes
    # Rendered at 128x128, they stay as they are.
    config = DataConfig(source=str(folder))
    assert not any("enlarged" in note for note in data.load(config).notes)


@pytest.mark.parametrize("place", [0, 5])
@pytest.mark.parametrize("limit", [None, 3])
def test_all_images_decide_whatever_the_limit(tmp_path: Path, place: int, limit: int | None):
    """One image that is enlarged 3 times, among others that are enlarged 6 times: 3 is undone, so are those of 6."""
    images = list(enlarge(sprites(6), 6))
    images[place] = enlarge(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 4), np.uint8), 3)[0]
    folder = write_folder(tmp_path / "set", {f"{n}.png": image for n, image in enumerate(images)})
    dataset = load(folder, limit=limit)
    assert dataset.images.shape == (limit or 6, 32, 32, 1)
    assert any("enlarged 3 times" in note for note in dataset.notes)
    # One odd pixel, and nothing is undone.
    images[place][0, 0] ^= 255
    folder = write_folder(tmp_path / "odd", {f"{n}.png": image for n, image in enumerate(images)})
    assert load(folder, limit=limit).images.shape == (limit or 6, 96, 96, 1)


def test_plain_images_prove_nothing_and_hidden_colours_do_not_count(tmp_path: Path):
    images = list(enlarge(sprites(4), 4))
    # Hidden below transparent pixels, colours of no shape.
    hidden = images[1][..., 3] == 0
    images[1][hidden, :3] = np.random.default_rng(0).integers(0, 256, (hidden.sum(), 3))
    plain = np.full((64, 64, 4), 200, np.uint8)
    folder = write_folder(tmp_path / "set", {f"{n}.png": image for n, image in enumerate([plain, *images])})
    dataset = load(folder)
    assert dataset.images.shape == (4, 16, 16, 1) and dataset.ids.tolist() == [1, 2, 3, 4]
    assert "left out 1 image of a single colour or transparent everywhere" in dataset.notes


def test_trimmed_enlarged_sprites_share_a_canvas(tmp_path: Path):
    small = sprites(4)[:, :, 1:]
    images = {f"{n}.png": enlarge(small[n : n + 1, : 16 - n], 5)[0] for n in range(4)}
    dataset = load(write_folder(tmp_path / "set", images))
    assert dataset.images.shape == (4, 16, 15, 1)
    assert any("enlarged 5 times" in note for note in dataset.notes)


@pytest.mark.parametrize(("factor", "side", "expected"), [(10, 160, 10), (10, 60, 5), (7, 40, 1), (16, 128, 16)])
def test_a_factor_leaves_sprites_of_8x8(factor: int, side: int, expected: int):
    assert scaling.bounded(factor, side, side + 16) == expected
