"""Sets in the forms in which people have them (`helpers.forms`): each is read without a flag."""

from pathlib import Path

import numpy as np
import pytest

from flax_punkvae import data
from flax_punkvae.config import DataConfig
from helpers.characters import sprites
from helpers.forms import FORMS

COUNT = 12
# What becomes of the sprites: opaque ones have another background, a few forms change colours, and some drop sprites.
EXACT = {
    *("flat folder", "folder per class", "nested folders", "enlarged 10 times", "16-bit PNGs", "sheet of 16x16 tiles"),
    *("sheet with a spacing", "sheet with margin and spacing", "sheet enlarged 10 times", "sheet with Aseprite's JSON"),
    *("tileset of Tiled", "ZIP archive", "stray previews", "names in Unicode"),
}
SIZES = {"trimmed exports": (15, 15), "JPEGs, enlarged 4 times": (64, 64)}
COUNTS = {"sheet with a background and empty cells": 10}


@pytest.mark.parametrize("form", FORMS)
def test_a_form_is_read(tmp_path: Path, form: str):
    """Oracle: the sprites before they were brought to that form."""
    source = FORMS[form](tmp_path / "my set", COUNT)
    dataset = data.load(DataConfig(source=str(source), render="indices"))
    assert dataset.images.shape == (COUNTS.get(form, COUNT), *SIZES.get(form, (16, 16)), 1)
    assert len(set(dataset.ids.tolist())) == len(dataset.ids)
    assert all(len(note) < 300 and "\n" not in note for note in dataset.notes)
    if form in EXACT:
        expected = sprites(COUNT)
        expected[expected[..., 3] == 0] = 0
        assert dataset.sprites is not None
        # Whatever the order.
        np.testing.assert_array_equal(np.unique(dataset.sprites, axis=0), np.unique(expected, axis=0))
    # And the first few of it are the first few of the whole.
    few = data.load(DataConfig(source=str(source), render="indices", limit=6))
    assert few.ids.tolist() == dataset.ids[:6].tolist() and few.images.shape == (6, *dataset.images.shape[1:])
