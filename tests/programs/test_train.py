"""The programs, run as a user runs them: as subprocesses, from another directory."""

import functools
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from flax_punkvae.config import Config, DataConfig, TrainConfig
from flax_punkvae.data import synthetic
from flax_punkvae.experiments import benchmark as benchmarking
from flax_punkvae.experiments import train as program
from flax_punkvae.experiments.baselines import plain
from flax_punkvae.presets import read_preset
from flax_punkvae.training import state
from helpers.programs import PICTURES, SMALL, TRAIN, ended, train, trained, trained_apart
from helpers.sources import tiled, write


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A directory with a run of two epochs in `run`, and the digest of its parameters."""
    cwd = tmp_path_factory.mktemp("two_epochs")
    return cwd, trained_apart(cwd, "run", *PICTURES, "--train.epochs", "2")


def test_a_run_directory_is_as_designed(two_epochs: tuple[Path, str]):
    run = two_epochs[0] / "run"
    assert sorted(path.name for path in run.iterdir()) == [
        ".lock",
        "checkpoints",
        "config.toml",
        "contact.png",
        "images",
        "metrics.jsonl",
        "run.json",
        "tensorboard",
    ]
    assert read_preset(run / "config.toml").train.epochs == 2
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(record["epoch"], record["step"]) for record in records] == [(1, 4), (2, 8)]
    for record in records:
        assert list(record) == ["epoch", "step", "seconds"] + [
            f"{part}/{name}" for part in ("train", "test") for name in ("loss", "mse", "kl")
        ] + ["test/active_units"]
        for part in ("train", "test"):
            total = record[f"{part}/mse"] + 3.4 * record[f"{part}/kl"]
            np.testing.assert_allclose(record[f"{part}/loss"], total, rtol=1e-5)
    # Ten columns; a row each of originals and reconstructions, two of samples.
    for epoch in (1, 2):
        with Image.open(run / "images" / f"epoch-{epoch:04d}.png") as grid:
            assert grid.size == (10 * 130 + 2, 4 * 130 + 2)
    assert {path.name for path in (run / "checkpoints").iterdir()} >= {"4", "8"}
    facts = json.loads((run / "run.json").read_text())
    assert facts["data"]["count"] == 40 and re.fullmatch("[0-9a-f]{64}", facts["data"]["sha256"])
    (start,) = facts["starts"]
    assert start["libraries"]["jax"] and start["backend"] == "cpu" and start["step"] == 0
    assert facts["config"]["train"]["epochs"] == 2


def test_the_same_seed_gives_the_same_parameters_another_others(two_epochs: tuple[Path, str], tmp_path: Path):
    again = trained(tmp_path, "again", "--config", str(two_epochs[0] / "run" / "config.toml"))
    assert again == two_epochs[1]
    other = trained(tmp_path, "other", *PICTURES, "--train.epochs", "2", "--seed", "1")
    assert other != two_epochs[1]


def test_one_epoch_and_a_resume_equal_two(two_epochs: tuple[Path, str], tmp_path: Path):
    first = trained(tmp_path, "run", *PICTURES, "--train.epochs", "1")
    assert first != two_epochs[1]
    # The two epochs were another process's.
    assert trained(tmp_path, "run", "--resume", "--train.epochs", "2") == two_epochs[1]
    ours, theirs = (
        [json.loads(line) for line in (cwd / "run" / "metrics.jsonl").read_text().splitlines()]
        for cwd in (tmp_path, two_epochs[0])
    )
    timeless = [[{**record, "seconds": 0} for record in records] for records in (ours, theirs)]
    assert timeless[0] == timeless[1]
    assert read_preset(tmp_path / "run" / "config.toml").train.epochs == 2
    # Resuming what is done changes nothing.
    assert trained(tmp_path, "run", "--resume") == two_epochs[1]


# One image a step: epochs long enough that a signal hardly ever falls between two.
LONG_EPOCHS = (*SMALL, "--train.batch-size", "1", "--train.epochs", "6")


@pytest.fixture(scope="module")
def never_stopped(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of LONG_EPOCHS without a signal."""
    return trained(tmp_path_factory.mktemp("whole"), "run", *LONG_EPOCHS)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_in_mid_epoch_and_the_resumed_run_is_the_same(
    tmp_path: Path, never_stopped: str, number: signal.Signals
):
    command = [*TRAIN, *LONG_EPOCHS, "--run-dir", "run"]
    # A shell that runs the tests in the background ignores SIGINT, and the program then does so too.
    usual = signal.signal(number, signal.SIG_DFL)
    try:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, bufsize=1)
    finally:
        signal.signal(number, usual)
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("epoch 2/6  train"):
                process.send_signal(number)
                break
        rest = process.stdout.read()
        assert process.wait(timeout=60) == 128 + number
    assert re.search(r"stopped and saved at step \d+; resume with: .*--run-dir run --resume", rest)
    assert trained(tmp_path, "run", "--resume") == never_stopped


def test_a_second_run_is_refused_without_resume(two_epochs: tuple[Path, str]):
    cwd, digest = two_epochs
    before = sorted(str(path) for path in cwd.rglob("*"))
    refused = train(cwd, "--run-dir", "run", *PICTURES)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1 and "add --resume to continue it" in refused.stderr
    changed = ended(cwd, "--run-dir", "run", "--resume", "--train.beta", "1", "--seed", "4")
    assert changed.returncode == 2
    assert "train.beta (1.0, was 3.4), seed (4, was 0)" in changed.stderr
    fewer = ended(cwd, "--run-dir", "run", "--resume", "--train.epochs", "1")
    assert fewer.returncode == 2
    assert "train.epochs: run has already passed epoch 1: choose at least 2" in fewer.stderr
    assert sorted(str(path) for path in cwd.rglob("*")) == before
    assert json.loads((cwd / "run" / "run.json").read_text())["params_sha256"] == digest


def test_without_a_run_dir_the_run_goes_by_the_time(tmp_path: Path):
    done = ended(tmp_path, *SMALL, "--train.epochs", "1")
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d-\d{6}", run.name)
    lines = done.stdout.splitlines()
    assert re.fullmatch(r"data: synthetic characters \(seed 0\), 40 images of 24x24, SHA-256 [0-9a-f]{64}", lines[0])
    # Nothing about punks.
    assert lines[1] == "split: 32 training, 8 test images"


def test_few_steps_are_said_and_only_of_own_sets():
    few = TrainConfig(epochs=100, fit_batches=True)
    config = Config(data=DataConfig(source="/my set"), train=few)
    assert program._batches_lines(config, 36) == [
        "batches: 1 of 36 images per epoch",
        "steps: 100 in all, few for any set: for a config that fits this one, run "
        "python -m flax_punkvae.experiments.inspect '/my set'",
    ]
    assert program._batches_lines(config, 64 * 5) == []
    assert program._batches_lines(Config(train=few), 64) == []


# In a process of their own: huggingface_hub reads its environment once; and a line at which a process ends.
APART = [
    (("--data.source", "hub:nobody/nothing"), "the hub cannot be reached"),
    (("--train.epochs", "0"), "train.epochs"),
]
# One of each kind of the many in test_bad_input.py.
BAD = [
    *APART,
    (("--data.source", "odd.png"), "25x48"),
    (("--config", "notes.txt"), "not valid TOML"),
    (("--run-dir", "full", *SMALL), "full holds other files (thesis.tex)"),
    (("--run-dir", "notes.txt/run", *SMALL), "notes.txt is not a directory: choose another"),
]


@pytest.mark.parametrize(("arguments", "named"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_line_and_status_2_and_nothing_is_made(tmp_path: Path, arguments: tuple[str, ...], named: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    (tmp_path / "notes.txt").write_text("a note, not an image")
    Image.effect_noise((25, 48), 50).save(tmp_path / "odd.png")
    before = sorted(tmp_path.rglob("*"))
    if (arguments, named) in APART:
        done = train(tmp_path, *arguments, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path.parent / "huggingface"))
    else:
        done = ended(tmp_path, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert named in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_help_shows_every_field_and_does_not_wait_for_jax(tmp_path: Path):
    script = (
        "import sys\nfrom flax_punkvae.experiments.train import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as stop:\n    print(stop.code, 'jax' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    *text, last = done.stdout.splitlines()
    assert last == "0 False"
    for flag in ("--data.source", "--model.latent", "--train.learning-rate", "--seed", "--resume", "--run-dir"):
        assert flag in "\n".join(text)
    preset = tmp_path / "preset.toml"
    preset.write_text("[train]\nbeta = 1.25\n")
    # Wide enough that no line is broken there.
    assert "(default: 1.25)" in train(tmp_path, "--config", str(preset), "--help", COLUMNS="200").stdout


# A worker, as the benchmark starts it, of small models: at the reference's size, compiling and steps take most of the
# time.
WORKER = """
import functools
from flax_punkvae.config import Config, ModelConfig
from flax_punkvae.experiments.baselines import plain, worker

small = ModelConfig(encoder_widths=(4,), decoder_widths=(), hidden=8, latent=4)
worker.Config = functools.partial(Config, model=small)
plain.PlainVAE = functools.partial(plain.PlainVAE, (4,), 8, 4)
worker.main()
"""


def test_the_benchmark_measures_ours_and_the_plain_layers_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def started(command: list[str], **pipes: Any) -> subprocess.Popen[str]:
        assert command[1:3] == ["-c", "from flax_punkvae.experiments.baselines.worker import main; main()"]
        return subprocess.Popen([*command[:2], WORKER, *command[3:]], cwd=tmp_path, **pipes)

    monkeypatch.setattr(benchmarking, "subprocess", SimpleNamespace(Popen=started, PIPE=subprocess.PIPE))
    write(tmp_path / "sheet.png", tiled(synthetic.draw(5, 0)[0], 5))
    small = ("--batch-size", "1", "--rounds", "2", "--steps", "1", "--product-side", "64", "--source", "sheet.png")
    done = ended(tmp_path, "--peer", "plain", *small, "--output", "speed.json", program=benchmarking.main)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "speed.json").read_text())
    assert set(result["training"]) == {"f32", "plain"}
    for row in result["training"].values():
        assert row["seconds_per_step"] > 0 and row["peak_memory_gb"] > 0
        assert len(row["ratios_to_ours"]) == 2
    assert result["training"]["f32"]["ratios_to_ours"] == [1.0, 1.0]
    assert result["loading"]["count"] == 5 and result["product_side"] == 64
    assert result["workers"]["f32"]["backend"] == "cpu"
    assert "matrix product ceiling" in done.stdout


def test_the_plain_layers_are_the_reference():
    """Oracle: the parameters of our own reference, by their shapes."""
    ours, theirs = (
        jax.eval_shape(create, jax.random.key(0)).params
        for create in (functools.partial(state.create_state, Config()), plain.create_state)
    )
    shapes = [sorted(leaf.shape for leaf in jax.tree.leaves(params)) for params in (ours, theirs)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--rounds", "0"), "rounds: 0 is out of range"),
        (("--peer", "tensorflow"), "tensorflow"),
        (("--output", "missing/speed.json"), "--output: missing/speed.json cannot be written"),
        (("--preset", "sprite"), "--preset sprite: there is no experiments/sprite/config.toml here"),
        (("--preset", "sprite", "--peer", "plain"), "--peer plain: there is only the reference"),
    ],
)
def test_a_bad_benchmark_is_one_line(tmp_path: Path, arguments: tuple[str, ...], named: str):
    done = ended(tmp_path, *arguments, program=benchmarking.main)
    assert done.returncode == 2
    assert named in done.stderr and done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
