"""A run directory: started whole or not at all, refused where it would lose something."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from flax_punkvae import run_directory
from flax_punkvae.config import Config, TrainConfig, read_preset
from flax_punkvae.errors import UserError

FACTS = {"data": {"sha256": "abc", "source": "synthetic"}}


def test_start_writes_config_and_facts(tmp_path: Path):
    config = Config(seed=5)
    run_directory.start(tmp_path / "a" / "run", config, FACTS)
    assert read_preset(tmp_path / "a" / "run" / "config.toml") == config
    assert run_directory.read_facts(tmp_path / "a" / "run") == FACTS
    assert os.listdir(tmp_path / "a") == ["run"]
    run_directory.add_facts(tmp_path / "a" / "run", params_sha256="def")
    assert run_directory.read_facts(tmp_path / "a" / "run") == {**FACTS, "params_sha256": "def"}


def test_an_empty_directory_is_free_any_other_is_not(tmp_path: Path):
    run_directory.check_free(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    run_directory.check_free(tmp_path / "empty")
    run_directory.start(tmp_path / "empty", Config(), FACTS)
    with pytest.raises(UserError, match="holds a run: add --resume"):
        run_directory.check_free(tmp_path / "empty")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UserError, match="expected a new or empty directory"):
        run_directory.check_free(tmp_path / "full")
    with pytest.raises(UserError, match="got a file"):
        run_directory.check_free(tmp_path / "full" / "thesis.tex")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="expected a directory that can be written"):
        run_directory.start(tmp_path / "file" / "run", Config(), FACTS)


def test_what_matters_may_not_change(tmp_path: Path):
    config = Config()
    run_directory.start(tmp_path / "run", config, FACTS)
    more = TrainConfig(epochs=60, checkpoint_every=5)
    run_directory.check_same(tmp_path / "run", dataclasses.replace(config, train=more))
    other = dataclasses.replace(config, seed=1, train=TrainConfig(beta=1.0))
    with pytest.raises(UserError, match=r"train\.beta \(1\.0, was 3\.4\), seed \(1, was 0\)"):
        run_directory.check_same(tmp_path / "run", other)


def test_other_images_are_refused(tmp_path: Path):
    run_directory.start(tmp_path / "run", Config(), FACTS)
    run_directory.check_same_data(tmp_path / "run", {"sha256": "abc", "source": "synthetic"})
    with pytest.raises(UserError, match="expected the run's own images"):
        run_directory.check_same_data(tmp_path / "run", {"sha256": "xyz", "source": "folder"})


def test_no_run_to_resume(tmp_path: Path):
    with pytest.raises(UserError, match="expected a run to resume"):
        run_directory.read_config(tmp_path)


def test_the_environment_is_json():
    facts = json.loads(json.dumps(run_directory.environment()))
    assert facts["backend"] == "cpu"
    assert set(facts["libraries"]) >= {"jax", "flax", "optax", "orbax-checkpoint"}
