"""The config that is proposed for a set, by its size. Oracle: the presets that were chosen by experiment."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flax_punkvae import data
from flax_punkvae.config import Config, DataConfig, batches, validate
from flax_punkvae.data import inspection, proposal, synthetic
from flax_punkvae.presets import read_preset

PRESETS = Path(__file__).parents[2] / "experiments"


def proposed(count: int, **other: Any) -> tuple[Config, data.Dataset]:
    config = DataConfig(source="synthetic", synthetic_count=count, **{"render": "indices", **other})
    dataset = data.load(config)
    return proposal.propose(config, dataset), dataset


def differences(ours: object, theirs: object) -> set[str]:
    return {name for name, value in asdict(ours).items() if asdict(theirs)[name] != value}  # pyright: ignore[reportArgumentType]


def test_ten_thousand_sprites_get_the_sprite_preset():
    ours, _ = proposed(10_000)
    preset = read_preset(PRESETS / "sprite" / "config.toml")
    assert ours == replace(preset, data=replace(preset.data, source="synthetic", synthetic_count=10_000))


def test_a_thousand_sprites_get_the_preset_for_own_sprites():
    ours, _ = proposed(1_000)
    preset = read_preset(PRESETS / "own_sprites" / "config.toml")
    assert ours.model == preset.model
    assert differences(ours.train, preset.train) <= {"epochs", "checkpoint_every", "patience"}
    # Made-up characters face left.
    assert differences(ours.data, preset.data) == {"source", "synthetic_count", "flip"}


@pytest.mark.parametrize("render", ["indices", "sprite", "reference", "crisp"])
@pytest.mark.parametrize("count", [2, 3, 12, 50, 200, 1_000])
def test_every_size_gets_a_valid_config_that_reads_back(count: int, render: str, tmp_path: Path):
    ours, dataset = proposed(count, render=render)
    validate(ours)
    path = tmp_path / "config.toml"
    path.write_text(proposal.to_preset(ours, ["two\nlines", *proposal.describe(ours, dataset)]))
    assert read_preset(path) == ours
    assert path.read_text().startswith("# two lines\n# training: ")


def test_more_sprites_get_fewer_epochs_and_more_steps():
    of = {}
    for count in (50, 200, 1_000, 5_000, 20_000):
        ours, dataset = proposed(count, synthetic_size=8)
        steps = batches(ours.train, len(dataset.parts(ours.data).train))[0]
        of[count] = (ours.train.epochs, ours.train.epochs * steps)
    epochs, steps = zip(*of.values(), strict=True)
    assert list(epochs) == sorted(epochs, reverse=True) and epochs[0] <= 400
    assert list(steps) == sorted(steps) and steps[0] >= 1_000 and steps[-1] <= 10_500


@pytest.mark.parametrize(("count", "validated"), [(199, False), (200, True), (7_600, False)])
def test_validation_images_are_set_apart_where_there_are_enough(count: int, validated: bool):
    ours, dataset = proposed(count, synthetic_size=8)
    assert (ours.data.validation_fraction > 0) == (ours.train.patience > 0) == validated
    lines = [line for line in proposal.describe(ours, dataset) if line.startswith("validation")]
    assert len(lines) == (count < 7_600) and ("none, since" in "".join(lines)) == (count == 199)


def test_what_the_user_sets_is_kept():
    ours, _ = proposed(60, validation_fraction=0.2, shift=3, flip=True, background="#112233", split_seed=4)
    kept = ours.data.validation_fraction, ours.data.shift, ours.data.flip, ours.data.background, ours.data.split_seed
    assert kept == (0.2, 3, True, "#112233", 4)
    assert ours.train.patience > 0


def test_facing():
    busts = synthetic.draw(300, 0)[0]
    assert inspection.facing(busts) > 0.1
    # Mirrored at random, they face either way; their symmetric halves, none.
    random = np.random.default_rng(0).random(300) < 0.5
    either = np.where(random[:, None, None, None], busts[:, :, ::-1], busts)
    assert abs(inspection.facing(either)) < 0.02
    assert inspection.facing(np.concatenate([busts, busts[:, :, ::-1]], axis=2)) == 0.0
    # Oracle: one sprite alone differs from its mirror image as the mean does, so all of it would be by chance.
    assert inspection.facing(busts[:1]) == pytest.approx(0)
