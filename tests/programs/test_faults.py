"""Runs that are killed, cut short by the disk or held by another process: nothing is lost, what is wrong is said."""

import json
import os
import random
import re
import shutil
import signal
import stat
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from flax_punkvae.training import checkpoints, retention, run_directory, sums
from flax_punkvae.training import state as train_state
from helpers.descriptions import DESCRIPTION
from helpers.programs import SMALL, ended, start, trained, wait_for

MOMENTS = ("in a save", "in training", "at any time")
# Set it to the seed that a run printed, to have the same kills again.
SEED = "PUNKVAE_KILL_SEED"
STEPS_PER_EPOCH = 10
# Random bits of a file, besides its first and last: each is found by hashing all files again. More of the sums, whose
# lines are parsed: of other files, any bit changes the hash.
FLIPS, FLIPS_OF_SUMS = 40, 200
# Three images a step, so that a kill may fall within an epoch as well as within its end.
LONG = (*SMALL, "--train.batch-size", "3", "--train.epochs", "100000")


def kill(cwd: Path, moment: str, chance: random.Random) -> None:
    """Start or resume the run, and kill it at a random moment of a kind."""
    run = cwd / "run"
    arguments = ("--resume", "--run-dir", "run") if (run / "run.json").exists() else (*LONG, "--run-dir", "run")
    steps = set((run / "checkpoints").glob("*")) if run.exists() else set()

    def saving() -> bool:
        return any(".saving" in path.name for path in (run / "checkpoints").glob("*"))

    def saved() -> bool:
        return any(path.name.isdecimal() for path in set((run / "checkpoints").glob("*")) - steps)

    with start(cwd, *arguments) as process:
        if moment == "in a save":
            # A directory that the last kill left is none of this process's.
            wait_for(lambda: not saving(), process)
            wait_for(saving, process)
            time.sleep(chance.uniform(0, 0.03))
        elif moment == "in training":
            wait_for(saved, process)
            time.sleep(chance.uniform(0, 0.5))
        else:
            time.sleep(chance.uniform(0, 3))
        process.kill()
        printed, error = process.communicate()
        assert process.returncode == -signal.SIGKILL, (
            f"ended by itself, {moment}: {process.returncode}\n{printed}{error}"
        )


def test_kills_at_random_moments_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    # The clock's, so that the two lanes kill at different moments.
    seed = int(os.environ.get(SEED) or time.time_ns() % 2**32)
    with capsys.disabled():
        print(f"\n{SEED}={seed}")
    chance = random.Random(seed)
    moments = chance.sample(MOMENTS, len(MOMENTS))
    in_saves = 0
    for moment in moments:
        kill(tmp_path, moment, chance)
        in_saves += any(".saving" in path.name for path in (tmp_path / "run" / "checkpoints").glob("*"))
    saved = [int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdecimal()]
    epochs = max(saved, default=0) // STEPS_PER_EPOCH + 2
    survived = trained(tmp_path, "run", "--resume", "--train.epochs", str(epochs))
    assert survived == trained(tmp_path, "whole", *LONG, "--train.epochs", str(epochs))
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, epochs + 1))
    with capsys.disabled():
        print(
            f"\n{len(MOMENTS)} kills in {epochs} epochs, {in_saves} with a save half done: "
            f"the same final digest {survived[:16]}..."
        )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run of two epochs in `run`, a checkpoint each."""
    cwd = tmp_path_factory.mktemp("base")
    trained(cwd, "run", *SMALL, "--train.epochs", "2")
    return cwd


@pytest.fixture(scope="module")
def three_epochs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest after three epochs without any fault."""
    return trained(tmp_path_factory.mktemp("whole"), "run", *SMALL, "--train.epochs", "3")


@pytest.fixture
def cwd(base: Path, tmp_path: Path) -> Path:
    """A copy of `base` to spoil."""
    return Path(shutil.copytree(base, tmp_path / "copy"))


@pytest.fixture(scope="module")
def target(base: Path) -> train_state.TrainState:
    """A state of the run's shape, to restore to."""
    config = run_directory.read_config(base / "run")
    return train_state.create_state(config, jax.random.key(3), np.zeros((1, 24, 24, 3), np.uint8))


def restored_step(directory: Path, target: train_state.TrainState) -> tuple[int, list[str]]:
    restored = checkpoints.restore(directory, target)
    assert restored is not None
    return int(restored.state.step), restored.damaged


def test_every_damage_to_every_file_is_found(
    cwd: Path, target: train_state.TrainState, capsys: pytest.CaptureFixture[str]
):
    directory = cwd / "run" / "checkpoints"
    newest = directory / "8"
    assert retention.damage(newest) == ""
    files = sorted(path for path in newest.rglob("*") if path.is_file())
    chance = random.Random(0)
    flips = others = 0
    for path in files:
        content = path.read_bytes()
        bits = range(8 * len(content))
        some = min(FLIPS_OF_SUMS if path.name == sums.NAME else FLIPS, len(bits))
        for bit in sorted({*bits[:1], *bits[-1:], *chance.sample(bits, some)}):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            assert retention.damage(newest), f"bit {bit} of {path}"
            flips += 1
        if content:
            for length in {0, len(content) // 2, len(content) - 1}:
                path.write_bytes(content[:length])
                assert retention.damage(newest), f"{path} cut to {length} bytes"
                others += 1
        path.unlink()
        assert retention.damage(newest), f"{path} missing"
        # One damage a file the whole way: named, and the checkpoint before taken.
        step, (skipped,) = restored_step(directory, target)
        assert step == 4 and skipped.startswith("8 (")
        path.write_bytes(content)
        others += 1
    assert retention.damage(newest) == ""
    assert restored_step(directory, target) == (8, [])
    with capsys.disabled():
        print(f"\n{flips} flipped bits in {len(files)} files found, and {others} cuts and missing files")


def spoil(checkpoint: Path) -> None:
    path = max((path for path in checkpoint.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 16
    path.write_bytes(content)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_run_goes_on_from_the_newest_good_checkpoint(cwd: Path, three_epochs: str):
    spoil(cwd / "run" / "checkpoints" / "8")
    done = ended(cwd, "--run-dir", "run", "--resume", "--train.epochs", "3")
    assert "skipped damaged checkpoint 8 (damaged: " in done.stdout
    assert "resuming run at step 4\n" in done.stdout
    assert f"final parameters: SHA-256 {three_epochs}" in done.stdout
    # The damaged one was saved anew on the way.
    assert retention.damage(cwd / "run" / "checkpoints" / "8") == ""


def test_with_no_good_checkpoint_nothing_is_touched(cwd: Path):
    for checkpoint in (cwd / "run" / "checkpoints").iterdir():
        spoil(checkpoint)
    before = contents(cwd)
    done = ended(cwd, "--run-dir", "run", "--resume", "--train.epochs", "3")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "no intact checkpoint, only 8 (damaged: " in done.stderr
    assert contents(cwd) == before


@pytest.mark.parametrize("limit", [2_000, 60_000])
def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(cwd: Path, three_epochs: str, limit: int):
    """Oracle: with room again the run ends as the uninterrupted one. Here no file may grow beyond the limit."""
    more = ("--run-dir", "run", "--resume", "--train.epochs", "3")
    # The compilation cache is only read: what it lacks could not be written there either, of which jax warns.
    reading = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1000000"}
    with start(cwd, *more, restricted=("file size", str(limit)), environment=reading) as process:
        _, error = process.communicate()
    assert process.returncode == 2, error
    assert error.startswith("error: ") and error.count("\n") == 1 and "free some space" in error
    assert trained(cwd, *more[1:]) == three_epochs


@pytest.mark.skipif(sys.platform != "linux", reason="root's right to write is dropped by Linux's own call")
def test_a_read_only_run_directory_is_one_line(cwd: Path, three_epochs: str):
    before = contents(cwd)
    paths = [cwd / "run", *(cwd / "run").rglob("*")]
    for path in paths:
        path.chmod(path.stat().st_mode & ~0o222)
    more = ("--run-dir", "run", "--resume", "--train.epochs", "3")
    with start(cwd, *more, restricted=("rights", "")) as process:
        _, error = process.communicate()
    for path in paths:
        path.chmod(path.stat().st_mode | stat.S_IWUSR)
    assert process.returncode == 2, error
    assert error.startswith("error: run cannot be written (Permission denied)")
    assert error.count("\n") == 1
    assert contents(cwd) == before
    assert trained(cwd, *more[1:]) == three_epochs


def test_a_run_is_one_processs_at_a_time(tmp_path: Path):
    with start(tmp_path, *LONG, "--run-dir", "run") as first:
        assert first.stdout is not None
        assert any(line.startswith("epoch 1/100000  train") for line in first.stdout)
        second = ended(tmp_path, "--run-dir", "run", "--resume")
        assert second.returncode == 2
        assert "another process is working on this run" in second.stderr and second.stderr.count("\n") == 1
        first.kill()
        first.communicate()
    # The lock died with its process.
    with start(tmp_path, "--run-dir", "run", "--resume") as third:
        assert third.stdout is not None
        assert any(line.startswith("resuming run at step ") for line in third.stdout)
        third.kill()
        third.communicate()


def test_a_loss_that_is_not_finite_stops_before_anything_is_saved(cwd: Path, target: train_state.TrainState):
    directory = cwd / "run" / "checkpoints"
    restored = checkpoints.restore(directory, target)
    assert restored is not None
    # Parameters that are finite, and whose next loss is not.
    mad = jax.tree.map(lambda leaf: leaf * 1e25, restored.state.params)
    state = restored.state.replace(params=mad, step=restored.state.step + 2)
    checkpoints.save(directory, state, {"totals": {"loss": 1.0, "mse": 1.0, "kl": 1.0}}, DESCRIPTION)
    before = contents(directory)
    done = ended(cwd, "--run-dir", "run", "--resume", "--train.epochs", "3")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.search(r"training diverged \(loss (nan|inf) .*\) in epoch 3 at step 3 of 4", done.stderr)
    assert "the checkpoint of step 10 is unchanged" in done.stderr
    assert contents(directory) == before


def test_a_collapsed_run_is_warned_of(tmp_path: Path):
    done = ended(tmp_path, "--run-dir", "run", *SMALL, "--train.epochs", "3", "--train.beta", "100000")
    assert done.returncode == 0, done.stderr
    assert "warning: posterior collapse: the latents hold " in done.stdout
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["test/active_units"] == 0 and last["test/kl"] < 0.5
