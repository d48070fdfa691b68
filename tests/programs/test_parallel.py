"""Several devices and several processes: the same numbers as one device, up to the order of summation."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import pytest

from flax_punkvae.trained import runs
from flax_punkvae.training import retention
from helpers.programs import PICTURES, SMALL, start, train, trained

FOUR = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=4"}
# A batch that four devices can share, two images each.
EIGHT_IMAGES = ("--train.batch-size", "8")
EVEN = (*SMALL, *EIGHT_IMAGES)
TWO_EPOCHS = ("--train.epochs", "2")

# Four devices need a process of their own, since jax counts them once.
SCRIPT = """
import jax, jax.numpy as jnp, numpy as np
from flax_punkvae.devices import parallel

mesh = parallel.make_mesh()
assert parallel.size(mesh) == 4 and parallel.size(None) == 1
random = np.random.default_rng(0)
images = random.integers(0, 256, (37, 4, 4, 3), np.uint8)
spread = parallel.sharded(mesh, images)
assert spread.shape == (40, 4, 4, 3)
assert {shard.data.shape[0] for shard in spread.addressable_shards} == {10}
rows = jax.jit(lambda images, indices: parallel.rows(mesh, images, indices))
for _ in range(20):
    indices = random.integers(0, 37, 16).astype(np.int32)
    batch = rows(spread, indices)
    np.testing.assert_array_equal(batch, images[indices])
    assert {shard.data.shape[0] for shard in batch.addressable_shards} == {4}
weights = parallel.replicated(mesh, random.standard_normal((4, 3)).astype(np.float32))
batch = random.standard_normal((16, 4)).astype(np.float32)

def total(weights, batch):
    return jnp.sum(batch @ weights, axis=0)

found = jax.jit(lambda weights, batch: parallel.summed(mesh, total, weights, batch))(weights, batch)
np.testing.assert_allclose(found, batch.astype(float).sum(0) @ np.asarray(weights, float), rtol=1e-4, atol=1e-5)

def product(weights, batch):
    return batch @ weights

found = jax.jit(lambda weights, batch: parallel.mapped(mesh, product, weights, batch))(weights, batch)
np.testing.assert_allclose(found, batch @ np.asarray(weights), rtol=1e-5, atol=1e-6)

from flax_punkvae.training import state as train_state, steps
from flax_punkvae.config import Config, DataConfig, ModelConfig, TrainConfig

shape = dict(encoder_widths=(), decoder_widths=(), hidden=8, latent=3, residual_blocks=1, embedding=4)
config = Config(
    DataConfig(render="indices", shift=1, flip=True),
    ModelConfig(likelihood="categorical", prior="autoregressive", **shape),
    TrainConfig(batch_size=16, beta=1.0, beta_warmup=0.5, schedule="cosine", weight_decay=0.1),
)
sprites = random.integers(0, 300, (37, 6, 6, 1), np.uint16)
batches = random.integers(0, 37, (3, 16)).astype(np.int32)
bits = []
for devices in (None, mesh):
    state = train_state.create_state(config, jax.random.key(0), sprites, 300, devices)
    placed = parallel.sharded(devices, sprites)
    state, metrics = steps.train_steps(state, placed, batches, jax.random.key(1), 0, len(batches))
    tested = steps.evaluate(state.model, state.params, 1.0, placed, np.arange(20), jax.random.key(2), 16, devices)
    bits.append([*np.asarray(metrics["bits"]), tested["bits"]])
np.testing.assert_allclose(*bits, rtol=1e-5)

from flax_punkvae.errors import run_program
from flax_punkvae.experiments import train
run_program(train.main)
"""


def test_four_devices_share_rows_sums_and_maps_train_on_indices_and_refuse_uneven_batches(tmp_path: Path):
    """Oracle: NumPy on the whole arrays, and one device's bits; at the end, the training program's one line."""
    uneven = ("--run-dir", "uneven", *SMALL, "--train.batch-size", "6")
    command, env = [sys.executable, "-W", "error", "-c", SCRIPT, *uneven], {**os.environ, **FOUR}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(
        "error: train.batch_size: 6 does not divide evenly among 4 devices: choose a multiple of 4"
    )
    assert done.stderr.count("\n") == 1 and list(tmp_path.iterdir()) == []


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def flags(process: int, port: int) -> tuple[list[str], dict[str, str]]:
    return ["--coordinator", f"127.0.0.1:{port}", "--processes", "2", "--process", str(process)], {}


def slurm(process: int, port: int) -> tuple[list[str], dict[str, str]]:
    """What a SLURM step sets; jax takes its port from the job's number."""
    return [], {
        "SLURM_JOB_ID": str(port),
        "SLURM_STEP_NODELIST": "127.0.0.1",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NUM_NODES": "1",
        "SLURM_PROCID": str(process),
        "SLURM_LOCALID": str(process),
    }


def open_mpi(process: int, port: int) -> tuple[list[str], dict[str, str]]:
    return [], {
        "OMPI_MCA_orte_hnp_uri": f"{4096 * port}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(process),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(process),
    }


@contextlib.contextmanager
def two(cwd: Path, how, *arguments: str, second: Sequence[str] = ()):
    """Two processes of one run; the second gets more arguments."""
    port = free_port() if how is flags else random.Random().randrange(4096)
    with contextlib.ExitStack() as stack:
        pair = []
        for number in (0, 1):
            joining, environment = how(number, port)
            process = start(cwd, *arguments, *joining, *second[: number * len(second)], environment=environment)
            stack.callback(process.kill)
            pair.append(stack.enter_context(process))
        yield pair


def wait_for_line(process: subprocess.Popen[str], beginning: str) -> None:
    assert process.stdout is not None
    assert any(line.startswith(beginning) for line in process.stdout)


def differences(one: Path, other: Path) -> tuple[float, float]:
    """The largest relative difference of a loss, and the largest difference of a parameter."""
    records = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    assert [record["step"] for record in records[0]] == [record["step"] for record in records[1]]
    losses = [np.array([[record[f"{part}/loss"] for part in ("train", "test")] for record in run]) for run in records]
    params = [jax.tree.leaves(runs.load(run).params) for run in (one, other)]
    return float(np.max(np.abs(losses[0] / losses[1] - 1))), max(
        float(np.max(np.abs(ours - theirs))) for ours, theirs in zip(*params, strict=True)
    )


def check_close(name: str, cwd: Path, arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Hold `run` against one device's. Adam takes a step of full length also where a gradient is nothing but rounding,
    so parameters drift apart."""
    trained(cwd, "one", *arguments)
    loss, parameter = differences(cwd / "one", cwd / "run")
    with capsys.disabled():
        print(f"\n{name}: losses differ by at most {loss:.1e} of their size, parameters by {parameter:.1e}")
    steps = 8
    assert loss < 1e-4
    assert parameter <= 2 * steps * 0.0008


def test_four_devices_train_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = (*PICTURES, *EIGHT_IMAGES, *TWO_EPOCHS)
    done = train(tmp_path, "--run-dir", "run", *arguments, **FOUR)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and "device: cpu, cpu, 4 devices (jax" in done.stdout
    check_close("4 devices", tmp_path, arguments, capsys)


def test_two_processes_train_as_one_and_are_refused_as_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = (*EVEN, *TWO_EPOCHS)
    with two(tmp_path, flags, "--run-dir", "run", *arguments) as pair:
        printed = [process.communicate() for process in pair]
        assert [process.returncode for process in pair] == [0, 0], printed
    assert "device: cpu, cpu, 2 devices of 2 processes (jax" in printed[0][0]
    assert "epoch" not in printed[1][0]
    check_close("2 processes", tmp_path, arguments, capsys)
    with two(tmp_path, flags, "--run-dir", "run", *arguments) as pair:
        errors = [process.communicate()[1] for process in pair]
        assert [process.returncode for process in pair] == [2, 2], errors
    for error in errors:
        assert "error: run already holds a run: add --resume" in error


@pytest.mark.parametrize(
    ("how", "second", "named"),
    [
        (
            flags,
            ("--train.beta", "2", "--seed", "3"),
            r"train\.beta \(3.4 in process 0, 2.0 in process 1\), seed \(0 in",
        ),
        (slurm, ("--run-dir", "other"), r"--run-dir \(\S+/run in process 0, \S+/other in process 1\): "),
        (
            flags,
            ("--data.synthetic-seed", "1"),
            r"data\.synthetic_seed \(0 in process 0, 1 .*, SHA-256 of the images \(",
        ),
    ],
    ids=["config", "run directory", "data"],
)
def test_processes_that_differ_stop_with_one_line_and_leave_nothing(tmp_path: Path, how, second, named: str):
    with two(tmp_path, how, "--run-dir", "run", *EVEN, second=second) as pair:
        errors = [process.communicate(timeout=120)[1] for process in pair]
        assert [process.returncode for process in pair] == [2, 2], errors
    for error in errors:
        # Gloo says on its own that it is connected.
        (line,) = [line for line in error.splitlines() if not line.startswith("[Gloo] Rank ")]
        assert re.match("error: the processes of this run differ in " + named, line)
        assert "--processes 1" in line
    assert list(tmp_path.iterdir()) == []


def test_a_lost_process_stops_the_other_and_another_number_of_devices_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with two(tmp_path, open_mpi, "--run-dir", "run", *EVEN, "--train.epochs", "100000") as (first, second):
        wait_for_line(first, "epoch 2/100000  train")
        second.kill()
        _, error = first.communicate(timeout=60)
    assert first.returncode == 1
    assert "error: process 0 of 2 lost another one (" in error and "Traceback" not in error
    # Other epochs than the run was begun with: so that it can be held against the one device's.
    saved = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir() if path.name.isdecimal())
    epochs = str(saved // 4 + 1)
    resumed = train(tmp_path, "--run-dir", "run", "--resume", "--train.epochs", epochs, **FOUR)
    assert resumed.returncode == 0, resumed.stderr
    assert re.search(r"resuming run at step \d+\n", resumed.stdout)
    trained(tmp_path, "one", *EVEN, "--train.epochs", epochs)
    ours, theirs = (
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("run", "one")
    )
    assert len(ours) == len(theirs) == int(epochs)
    worst = max(abs(a["train/loss"] / b["train/loss"] - 1) for a, b in zip(ours, theirs, strict=True))
    with capsys.disabled():
        print(f"\n2 processes, one killed, then 4 devices: {epochs} epochs' losses differ by at most {worst:.1e}")
    assert worst < 1e-3


def test_a_signal_to_one_process_saves_and_stops_both(tmp_path: Path):
    with two(tmp_path, slurm, "--run-dir", "run", *EVEN, "--train.epochs", "100000") as (first, second):
        wait_for_line(first, "epoch 1/100000  train")
        second.send_signal(signal.SIGTERM)
        printed = [process.communicate(timeout=60) for process in (first, second)]
        assert [process.returncode for process in (first, second)] == [128 + signal.SIGTERM] * 2, printed
    (step,) = re.findall(r"stopped and saved at step (\d+); resume with", printed[0][0])
    assert retention.damage(tmp_path / "run" / "checkpoints" / step) == ""
