"""Readers of a run's own labels: what they read, and what they say about it."""

import dataclasses

import numpy as np
import pytest

from flax_punkvae import data, images
from flax_punkvae.config import Config
from flax_punkvae.errors import UserError
from flax_punkvae.measures import sprite_probes
from flax_punkvae.trained import editing, probing, selection
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import OpenedRun
from flax_punkvae.trained.selection import Wanted
from helpers.descriptions import DESCRIPTION

NAMES = ("crown", "noise", "all", "rare")


@pytest.fixture(scope="module")
def run() -> OpenedRun:
    """160 made-up characters, half of them with a crown: labels that show, that do not, of all, and of few."""
    config = Config(data=data.DataConfig(source="synthetic", synthetic_count=160, render="indices"))
    dataset, random = data.load(config.data), np.random.default_rng(0)
    labels = (random.random((160, 4)) < [0.5, 0.5, 1.1, 0.02]).astype(np.uint8)
    labels[:3, 3] = 1
    assert dataset.sprites is not None
    sprites = dataset.sprites.copy()
    colours = images.palette_of(sprites)
    crowned = labels[:, 0] == 1
    # Of any colour: only the edges show it.
    sprites[crowned, 1, 4:20] = colours[random.integers(0, len(colours), (crowned.sum(), 16))]
    sprites[labels[:, 3] == 1, 0] = colours[0]
    parts = dataset.parts(config.data)
    described = dataclasses.replace(DESCRIPTION, label_names=NAMES, palette=images.palette_of(sprites, parts.train))
    dataset = dataclasses.replace(dataset, sprites=sprites, labels=labels, label_names=NAMES)
    return OpenedRun(Model(described, None, "last"), config, dataset, *parts)


def test_labels_that_show_are_read_and_others_say_why_not(run: OpenedRun):
    """Oracle: how the sprites were made."""
    reader = probing.reader_of(run)
    sprites, labels = run.dataset.originals[run.test_indices], run.dataset.labels[run.test_indices] == 1
    read = reader.read(sprites)
    assert (read[:, 0] == labels[:, 0]).mean() > 0.9 and not read[:, [1, 2]].any()
    assert set(reader.unreadable) == {"noise", "all"} and reader.label_names == NAMES
    assert reader.unreadable["all"] == "all or none of the training images have it"
    balanced = (read[labels[:, 0], 0].mean() + (~read[~labels[:, 0], 0]).mean()) / 2
    assert f"on {len(sprites)} held-out images, 'crown' has balanced accuracy {balanced:.2f}, precision" in reader.note
    assert f"unknown for 'rare' ({labels[:, 3].sum()} of {len(sprites)} held-out images have it)" in reader.note
    assert reader.note.endswith("not read: 'noise', 'all'") or reader.note.endswith("not read: 'all', 'noise'")
    assert "\n" not in reader.note


def test_only_the_labels_asked_for_are_read(run: OpenedRun):
    """Oracle: the reader of all."""
    some, sprites = probing.fit(run, ["rare", "crown", "rare"]), run.dataset.originals
    assert some.label_names == ("rare", "crown")
    np.testing.assert_array_equal(some.read(sprites), probing.reader_of(run).read(sprites)[:, [3, 0]])
    assert some.key == probing.fit(run, ["rare", "crown"]).key != probing.fit(run, ["crown"]).key
    with pytest.raises(UserError, match="there is no label 'clown' among the 4: perhaps you meant 'crown'"):
        probing.fit(run, ["clown"])


def test_a_wrong_reader_is_found_out(run: OpenedRun, monkeypatch: pytest.MonkeyPatch):
    """It reads the opposite of what is there: measured on held-out images, that is worse than chance."""
    read = sprite_probes.read
    monkeypatch.setattr(sprite_probes, "read", lambda probe, sprites: ~read(probe, sprites))
    reader = probing.fit(run, ["crown"])
    assert "balanced accuracy 0.0" in reader.unreadable["crown"] and reader.note.endswith("not read: 'crown'")
    with pytest.raises(UserError, match=r"'crown' cannot be read from samples .balanced accuracy 0.0.*leave it out"):
        selection.keep(Wanted(lacking=("crown",)), run.model.description, reader)


def test_edits_of_labels_that_cannot_be_read_are_not_measured(run: OpenedRun):
    reader = probing.fit(run, NAMES)
    assert editing.unmeasured(reader, run.test_indices, ["crown", "rare"]) == ""
    assert "'noise' cannot be read: balanced accuracy" in editing.unmeasured(reader, run.test_indices, ["noise"])
    nothing = editing.eligible(run, [2], [])
    assert not len(nothing) and "no held-out image lacks" in editing.unmeasured(reader, nothing, ["crown"])


def test_many_labels_are_told_on_average_and_large_sets_in_part(run: OpenedRun, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sprite_probes, "_MOST_NUMBERS", 100 * sprite_probes.numbers(run.dataset.originals[:1]).size)
    monkeypatch.setattr(probing, "_MOST_TOLD", 0)
    note = probing.fit(run, ["crown"]).note
    assert "learned from 100 training images" in note and "1 labels have, on average, balanced accuracy" in note
