"""Which draws are kept, and how many were drawn for them."""

import dataclasses

import numpy as np
import pytest

from flax_punkvae.errors import UserError
from flax_punkvae.trained import selection
from flax_punkvae.trained.samplers import Draws
from flax_punkvae.trained.selection import Wanted
from flax_punkvae.trained.traits import Reader
from flax_punkvae.training.description import digests
from helpers.descriptions import DESCRIPTION

NAMES = ("pipe", "top hat", "mole")
RNG = np.random.default_rng(0)
# Each sprite has its labels in its first pixel.
LABELS = RNG.random((60, 3)) < 0.5
SPRITES = RNG.integers(0, 256, (60, 24, 24, 3), np.uint8)
SPRITES[:, 0, 0] = LABELS
KNOWN = {"train_indices": np.arange(20), "train_digests": digests(SPRITES[:20])}
DESCRIBED = dataclasses.replace(DESCRIPTION, label_names=NAMES, **KNOWN)


READER = Reader(NAMES, lambda sprites: sprites[:, 0, 0] == 1, "", "")


@pytest.mark.parametrize("new", [False, True])
def test_sprites_are_kept_that_have_and_lack_the_labels(new: bool):
    """Oracle: the labels that the sprites were made with; the first twenty are training sprites."""
    kept = selection.keep(Wanted(new, having=("pipe", "mole"), lacking=("top hat",)), DESCRIBED, READER)
    expected = LABELS[:, 0] & LABELS[:, 2] & ~LABELS[:, 1]
    if new:
        expected[:20] = False
    np.testing.assert_array_equal(kept(SPRITES), expected)
    assert 0 < expected.sum() < 20
    # What has been kept is new no more.
    np.testing.assert_array_equal(kept(SPRITES), expected & (not new))


def test_the_first_kept_draws_and_how_many_they_took():
    """Oracle: counted by hand: rows 1, 5, 6 and 7 of three batches of 3."""
    z, seeds = np.arange(18, dtype=np.float32).reshape(9, 2), np.arange(9, dtype=np.uint32)
    chunks = map(Draws, np.split(z, 3), np.split(seeds, 3))
    batches = list(zip(chunks, np.split(np.isin(np.arange(9), [1, 5, 6, 7]), 3), strict=True))
    said: list[tuple[int, int]] = []
    for count, rows, drawn, reports in (
        (1, [1], 2, []),
        (2, [1, 5], 6, [(1, 3)]),
        (3, [1, 5, 6], 7, [(1, 3), (2, 6)]),
        (5, [1, 5, 6, 7], 9, [(1, 3), (2, 6), (4, 9)]),
    ):
        said.clear()
        found = selection.select(batches, count, 2, lambda *numbers: said.append(numbers))
        assert said == reports
        np.testing.assert_array_equal(found.draws.latents, z[rows])
        np.testing.assert_array_equal(found.draws.seeds, seeds[rows])
        assert found.drawn == drawn
    assert selection.select([], 1, 2).draws.latents.shape == (0, 2)


def test_limits():
    assert Wanted(new=True).draws(3) == 60 and Wanted(lacking=("pipe",)).draws(3) == selection.LABEL_DRAWS
    assert Wanted(having=("pipe",)).draws(10_000) == 200_000 and Wanted(having=("pipe",), limit=7).draws(3) == 7


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        (Wanted(having=("tophat",)), "there is no label 'tophat' among the 3: perhaps you meant 'top hat'"),
        (Wanted(having=("pipe",), lacking=("mole", "pipe")), "no sprite can have and lack 'pipe'"),
    ],
)
def test_labels_that_cannot_be_wanted(wanted: Wanted, named: str):
    with pytest.raises(UserError, match=named):
        selection.keep(wanted, DESCRIBED, READER)
    with pytest.raises(UserError, match=r"labels of punks, so a reader of labels has to be learned .* use the program"):
        selection.keep(Wanted(having=("pipe",)), DESCRIBED)
    with pytest.raises(UserError, match="made up has no labels, so 'pipe' is unknown"):
        selection.keep(Wanted(having=("pipe",)), dataclasses.replace(DESCRIBED, label_names=()))
