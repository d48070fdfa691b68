"""The training loop: epochs of `train_steps`, each with its evaluation, record, grid and checkpoint.

Everything it needs to continue is the state, the averages of a half-done epoch, the config and the seed.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, Float, Int, Key, UInt8

from flax_punkvae import checkpoints, training
from flax_punkvae.config import TrainConfig
from flax_punkvae.images import grid, to_uint8
from flax_punkvae.reporting import Report
from flax_punkvae.training import TrainState

_SECONDS_PER_CALL = 4.0
_GRID_COLUMNS = 10

Totals = dict[str, float]


class Run(NamedTuple):
    """What stays the same from the first step to the last."""

    config: TrainConfig
    images: UInt8[Array, "n h w c"]
    train_indices: Int[np.ndarray, "train"]
    test_indices: Int[np.ndarray, "test"]
    keys: dict[str, Key[Array, ""]]
    manager: ocp.CheckpointManager
    report: Report
    signals: list[int]

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self.train_indices) // self.config.batch_size


def make_keys(seed: int) -> dict[str, Key[Array, ""]]:
    """The run's keys, by what they are for; each is used for that alone."""
    names = ("init", "run", "order", "test", "samples")
    return dict(zip(names, jax.random.split(jax.random.key(seed), len(names)), strict=True))


@contextmanager
def signals_caught() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are put in the list, for the loop to save and stop; a second one acts as usual."""
    received: list[int] = []

    def note(number: int, _frame: object) -> None:
        received.append(number)
        signal.signal(number, usual[signal.Signals(number)])

    usual = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)


def steps_per_call(seconds_per_step: float, steps_per_epoch: int) -> int:
    """How many steps to scan in one call: at most four seconds' worth, with the fewest calls an epoch.

    So the bar moves every few seconds on a slow machine, and a fast one is asked rarely. What a number of steps leaves
    over of an epoch counts as a call each.
    """
    most = min(max(int(_SECONDS_PER_CALL / seconds_per_step), 1), steps_per_epoch)
    return min(range(1, most + 1), key=lambda steps: sum(divmod(steps_per_epoch, steps)))


def train(run: Run, state: TrainState, totals: Totals) -> TrainState:
    """Train up to `run.config.epochs`; `totals` are those of a half-done epoch, or empty.

    Saves and returns early where a signal was caught.
    """
    size = 1
    while int(state.step) < run.config.epochs * run.steps_per_epoch:
        state, totals, size = _train_epoch(run, state, totals, size)
        if int(state.step) % run.steps_per_epoch:
            checkpoints.save(run.manager, state, {"totals": totals}, None)
            return state
        record = _end_epoch(run, state, totals)
        totals = {}
        last = record["epoch"] == run.config.epochs
        if last or run.signals or record["epoch"] % run.config.checkpoint_every == 0:
            checkpoints.save(run.manager, state, {"totals": totals}, record["test/loss"])
        if run.signals:
            return state
    return state


def _train_epoch(run: Run, state: TrainState, totals: Totals, size: int) -> tuple[TrainState, Totals, int]:
    """The rest of the epoch that the state is in, up to a signal."""
    epoch, done = divmod(int(state.step), run.steps_per_epoch)
    order = training.epoch_order(run.keys["order"], epoch, len(run.train_indices), run.config.batch_size)
    batches = run.train_indices[order]
    calls = 0
    while done < run.steps_per_epoch and not run.signals:
        # What the last whole call leaves over goes in single steps, a length that is compiled already.
        count = size if done + size <= run.steps_per_epoch else 1
        began = time.monotonic()
        state, metrics = training.train_steps(state, run.images, batches[done : done + count], run.keys["run"])
        steps = {name: np.asarray(value, np.float64) for name, value in metrics.items()}
        seconds = time.monotonic() - began
        for name, values in steps.items():
            # One by one, so that the sum does not depend on how many steps a call took.
            for value in values.tolist():
                totals[name] = totals.get(name, 0.0) + value
        totals["seconds"] = totals.get("seconds", 0.0) + seconds
        done += count
        calls += 1
        run.report.steps(int(state.step), {name: float(values[-1]) for name, values in steps.items()}, seconds / count)
        if calls == 2 and size == 1:
            # The first call compiled, so the second is the first to tell how long a step takes.
            size = steps_per_call(seconds, run.steps_per_epoch)
    return state, totals, size


def _end_epoch(run: Run, state: TrainState, totals: Totals) -> dict[str, float | int]:
    """Evaluate on the test images and report; returns the record of the epoch."""
    began = time.monotonic()
    test = training.evaluate(state, run.images, run.test_indices, run.keys["test"], run.config.batch_size)
    record = {
        "epoch": int(state.step) // run.steps_per_epoch,
        "step": int(state.step),
        "seconds": totals["seconds"] + time.monotonic() - began,
        **{f"train/{name}": totals[name] / run.steps_per_epoch for name in test},
        **{f"test/{name}": value for name, value in test.items()},
    }
    run.report.epoch(record, epoch_grid(run, state))
    return record


def epoch_grid(run: Run, state: TrainState) -> UInt8[np.ndarray, "h w 3"]:
    """Rows: test originals, their reconstructions (from posterior means), samples from latents fixed for the run."""
    shown = run.images[np.resize(run.test_indices, _GRID_COLUMNS)]
    latent = state.params["encoder"]["mean"]["bias"].shape[0]
    z = jax.random.normal(run.keys["samples"], (2 * _GRID_COLUMNS, latent))
    rows: list[Float[Array, "b h w c"]] = [training.reconstruct(state, shown), training.decode(state, z)]
    return grid(np.concatenate([np.asarray(shown), *(to_uint8(np.asarray(row)) for row in rows)]), _GRID_COLUMNS)
