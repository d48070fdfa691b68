"""Copies: found by their pixels, used once or kept together."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from flax_punkvae.data import duplicates, synthetic
from flax_punkvae.data.raw import Raw
from helpers.sources import refusal, tiled, write, write_folder

CONFIG = DataConfig(source="own/", render="indices")
numbers = hnp.arrays(np.int64, st.shared(st.integers(1, 30), key="n"), elements=st.integers(0, 12))


@pytest.fixture(scope="module")
def sprites() -> np.ndarray:
    """Ten made-up characters, uint8 [10, 24, 24, 4]."""
    return synthetic.draw(10, 0)[0]


def labelled(pixels: np.ndarray, groups: np.ndarray | None = None) -> Raw:
    """Image i has label i alone."""
    names = tuple(f"label {place}" for place in range(len(pixels)))
    return Raw(pixels, np.arange(len(pixels)), np.eye(len(pixels), dtype=np.uint8), names, "own", groups=groups)


def test_copies_are_those_with_the_same_pixels(sprites: np.ndarray):
    order = [3, 1, 3, 0, 1, 3]
    assert duplicates.copies(sprites[order], CONFIG).tolist() == [0, 1, 0, 3, 1, 0]
    # Colours that are wholly transparent do not show.
    painted = sprites[[0, 0]]
    painted[1, painted[1, ..., 3] == 0] = (9, 9, 9, 0)
    assert duplicates.copies(painted, CONFIG).tolist() == [0, 0]
    painted[1, 0, 0] = (9, 9, 9, 1)
    assert duplicates.copies(painted, CONFIG).tolist() == [0, 1]


def test_copies_are_found_far_apart(sprites: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    """In parts of which one has transparent pixels and the other has not."""
    monkeypatch.setattr(duplicates, "_AT_ONCE", 2)
    opaque = np.full((3, 24, 24, 4), 255, np.uint8)
    images = np.concatenate([sprites[:1], opaque])
    assert duplicates.copies(images, CONFIG).tolist() == [0, 1, 1, 1]


def test_once_the_first_copy_has_the_labels_of_all(sprites: np.ndarray):
    raw = duplicates.settled(labelled(sprites[[3, 1, 3, 0, 1, 3]]), CONFIG)
    assert raw.ids.tolist() == [0, 1, 3] and raw.groups is None
    assert raw.labels.tolist() == [[1, 0, 1, 0, 0, 1], [0, 1, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0]]
    (note,) = raw.notes
    assert note.startswith("left out 3 exact copies of other images, such as 2 (of 0), 4 (of 1), 5 (of 0); originals")


def test_kept_copies_share_a_group(sprites: np.ndarray):
    config = DataConfig(source="own/", duplicates="keep")
    raw = duplicates.settled(labelled(sprites[[3, 1, 3, 0, 1, 3]]), config)
    assert raw.groups is not None and raw.groups.tolist() == [0, 1, 0, 3, 1, 0]
    assert len(raw.pixels) == 6 and "there are 3 exact copies" in raw.notes[0]


@pytest.mark.parametrize("how", ["once", "keep"])
def test_nothing_changes_without_copies(sprites: np.ndarray, how: str):
    raw = labelled(sprites)
    assert duplicates.settled(raw, DataConfig(source="own/", duplicates=how)) is raw  # pyright: ignore[reportArgumentType]


def test_a_pose_that_two_animations_share_joins_them_and_a_blank_frame_does_not(sprites: np.ndarray):
    blank = np.zeros_like(sprites[:1])
    images = np.concatenate([sprites[:3], sprites[2:5], blank, sprites[5:7], blank])
    groups = np.array([0, 0, 0, 1, 1, 1, 1, 2, 2, 2])
    once = duplicates.settled(labelled(images, groups), CONFIG)
    assert once.ids.tolist() == [0, 1, 2, 4, 5, 6, 7, 8]
    assert once.groups is not None and once.groups.tolist() == [0, 0, 0, 0, 0, 0, 7, 7]
    kept = duplicates.settled(labelled(images, groups), DataConfig(source="own/", duplicates="keep"))
    assert kept.groups is not None and not kept.groups.any()


@given(numbers, numbers)
def test_joined_groups(groups: np.ndarray, others: np.ndarray):
    """Oracle: paths in the graph of images that share a group, by powers of its matrix."""
    near = (groups[:, None] == groups) | (others[:, None] == others)
    reached = np.linalg.matrix_power(near.astype(float) / len(near), len(near)) > 0
    found = duplicates.joined(groups, others)
    np.testing.assert_array_equal(found[:, None] == found, reached)


def test_loading_a_folder_with_copies(sprites: np.ndarray, tmp_path: Path):
    images = {f"{name}.png": sprites[place] for name, place in zip("abcdefgh", [0, 1, 2, 3, 4, 0, 0, 1], strict=True)}
    folder = write_folder(tmp_path / "images", images)
    once = DataConfig(source=str(folder), render="indices", test_fraction=0.4)
    dataset = data.load(once)
    assert dataset.files == ("a.png", "b.png", "c.png", "d.png", "e.png")
    assert any("left out 3 exact copies of other images, such as f.png (of a.png)" in note for note in dataset.notes)
    np.testing.assert_array_equal(data.load_sprites(once)[0], dataset.sprites)
    keep = DataConfig(source=str(folder), render="indices", test_fraction=0.4, duplicates="keep")
    dataset = data.load(keep)
    parts = dataset.parts(keep)
    assert dataset.sprites is not None and len(dataset.sprites) == 8
    train, test = ({sprite.tobytes() for sprite in dataset.sprites[part]} for part in (parts.train, parts.test))
    assert train and test and not train & test


def test_a_sheet_of_copies_is_one_image(sprites: np.ndarray, tmp_path: Path):
    sheet = write(tmp_path / "sheet.png", tiled(sprites[[0] * 6], 3))
    message = refusal(data.load, DataConfig(source=str(sheet)))
    assert "found 1 image, too few to split: use at least 2 that differ" in message
    message = refusal(data.load, DataConfig(source=str(sheet), render="indices", duplicates="keep"))
    assert message.startswith("all 6 images are of one group")


def test_synthetic_characters_are_used_as_they_are():
    """At 8x8, many characters look alike."""
    config = DataConfig(source="synthetic", synthetic_count=2_000, synthetic_size=8, render="indices")
    dataset = data.load(config)
    assert len(dataset.images) == 2_000 and dataset.groups is None
    assert dataset.sprites is not None and len(np.unique(dataset.sprites, axis=0)) < 2_000
