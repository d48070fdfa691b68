"""What becomes of the transparent pixels of a set: of sheets and folders, of any size, and of the punks."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flax_punkvae import data
from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import punks
from helpers import transparent
from helpers.sources import tiled, write, write_folder

KEPT = "transparent pixels are kept, at 5 levels of alpha (--data.alpha)"


def as_sheet(tmp_path: Path, sprites: np.ndarray) -> dict[str, Any]:
    _, height, width, _ = sprites.shape
    return {"source": str(write(tmp_path / "sheet.png", tiled(sprites, 4))), "tile": (width, height)}


def as_folder(tmp_path: Path, sprites: np.ndarray) -> dict[str, Any]:
    return {"source": str(write_folder(tmp_path / "set", {f"{i}.png": x for i, x in enumerate(sprites)}))}


def as_enlarged(tmp_path: Path, sprites: np.ndarray) -> dict[str, Any]:
    """A folder of sprites enlarged 3 times; what colours the transparent pixels have differs from pixel to pixel."""
    large = im.enlarge(sprites, 3)
    hidden = large[..., 3] == 0
    large[hidden, :3] = np.random.default_rng(0).integers(0, 256, (hidden.sum(), 3))
    return as_folder(tmp_path, large)


Source = Callable[[Path, np.ndarray], dict[str, Any]]
SOURCES = [(as_sheet, 16), (as_sheet, 24), (as_folder, 16), (as_folder, 24), (as_enlarged, 24)]


@pytest.mark.parametrize(("source", "size"), SOURCES)
def test_transparent_sprites_are_rgba(tmp_path: Path, source: Source, size: int):
    """Oracle: the pixels that were written."""
    sprites = transparent.sprites(20, size=size)
    config = DataConfig(**source(tmp_path, sprites), render="indices")
    dataset = data.load(config)
    assert dataset.sprites is not None and dataset.palette is not None
    np.testing.assert_array_equal(dataset.sprites, sprites)
    train = data.parts(20, config).train
    np.testing.assert_array_equal(dataset.palette, np.unique(sprites[train].reshape(-1, 4), axis=0))
    assert tuple(dataset.palette[0]) == (0, 0, 0, 0) and dataset.images.shape == (20, size, size, 1)
    np.testing.assert_array_equal(dataset.palette[dataset.images[train, ..., 0]], sprites[train])
    assert [note for note in dataset.notes if "alpha" in note] == [KEPT]
    again, ids = data.load_sprites(config)
    np.testing.assert_array_equal(again, sprites)
    np.testing.assert_array_equal(ids, dataset.ids)


@pytest.mark.parametrize(("source", "size"), SOURCES)
def test_alpha_is_made_hard_or_composited_if_the_config_says_so(tmp_path: Path, source: Source, size: int):
    """Oracle: by hand, from the pixels that were written."""
    sprites = transparent.sprites(20, size=size)
    given = source(tmp_path, sprites)
    hard = data.load(DataConfig(**given, render="indices", alpha="hard")).sprites
    solid = sprites[..., 3:] >= 128
    expected = np.where(solid, np.concatenate([sprites[..., :3], np.full_like(sprites[..., :1], 255)], -1), 0)
    assert hard is not None
    np.testing.assert_array_equal(hard, expected)
    others: list[dict[str, Any]] = [{"render": "indices", "alpha": "background"}, {"render": "sprite"}]
    for other in others:
        dataset = data.load(DataConfig(**given, **other, background="#ff0000"))
        assert dataset.sprites is not None
        np.testing.assert_array_equal(dataset.sprites, im.over_background(sprites, (255, 0, 0)))


@pytest.mark.parametrize("alpha", ["auto", "keep", "hard", "background"])
def test_a_set_without_transparent_pixels_is_rgb(tmp_path: Path, alpha: str):
    sprites = transparent.sprites(8)
    sprites[..., 3] = 255
    dataset = data.load(DataConfig(**as_folder(tmp_path, sprites), render="indices", alpha=alpha))  # pyright: ignore
    assert dataset.sprites is not None and not [note for note in dataset.notes if "transparent" in note]
    np.testing.assert_array_equal(dataset.sprites, sprites[..., :3])


def test_soft_pixels_that_become_opaque_leave_a_set_in_rgb(tmp_path: Path):
    sprites = transparent.sprites(8)
    sprites[..., 3] = 200
    dataset = data.load(DataConfig(**as_folder(tmp_path, sprites), render="indices", alpha="hard"))
    assert dataset.sprites is not None and dataset.sprites.shape[-1] == 3
    assert any("no pixel is transparent after" in note for note in dataset.notes)


def test_the_images_within_the_limit_decide(tmp_path: Path):
    sprites = transparent.sprites(8)
    sprites[:5, ..., 3] = 255
    given = as_folder(tmp_path, sprites)
    for limit, channels in ((5, 3), (6, 4), (None, 4)):
        dataset = data.load(DataConfig(**given, render="indices", limit=limit))
        assert dataset.sprites is not None and dataset.sprites.shape[-1] == channels


@pytest.mark.parametrize("limit", [50, None])
def test_the_punks_and_the_synthetic_characters_keep_their_background(limit: int | None):
    """Oracle: the characters as the package and the source have them, over the default background."""
    for source in ("punks", "synthetic"):
        config = DataConfig(source=source, render="indices", limit=limit, synthetic_count=100)
        dataset, raw = data.load(config), data._read(replace(config, alpha="keep")).first(limit)
        assert dataset.sprites is not None and not [note for note in dataset.notes if "transparent" in note]
        np.testing.assert_array_equal(dataset.sprites, im.over_background(raw.pixels, (0x63, 0x85, 0x96)))
        np.testing.assert_array_equal(data.load_sprites(config)[0], dataset.sprites)


def test_the_punks_are_transparent_if_they_are_asked_for_so():
    kept = data.load(DataConfig(source="punks", render="indices", limit=50, alpha="keep")).sprites
    np.testing.assert_array_equal(kept, punks.load().pixels[:50])
