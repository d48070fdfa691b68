"""The training loop: epochs of `train_steps`, each followed by an evaluation, a record, a grid and a checkpoint.

To continue, it needs only the state and progress in the checkpoint, the config and the seed.
"""

import math
import time
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Integer, Key, UInt8

from flax_punkvae import images
from flax_punkvae.config import TrainConfig, batches
from flax_punkvae.devices import processes
from flax_punkvae.errors import UserError
from flax_punkvae.model import inference
from flax_punkvae.training import checkpoints, retention, run_directory, steps
from flax_punkvae.training.description import Description
from flax_punkvae.training.placed import Placed
from flax_punkvae.training.reporting import Report, losses_text
from flax_punkvae.training.state import TrainState

_SECONDS_PER_CALL = 4.0
GRID_COLUMNS = 10

Totals = dict[str, float]


class Best(NamedTuple):
    """The lowest validation loss so far, and its epoch."""

    loss: float
    epoch: int


@dataclass
class Progress:
    """What the loop carries from call to call besides the state.

    Saved with a checkpoint: the sums of an unfinished epoch and the best validation loss. Not saved: the number of
    steps per call (`size`) and the last losses.
    """

    totals: Totals = field(default_factory=dict)
    best: Best | None = None
    size: int = 1
    losses: dict[str, float] | None = None

    @classmethod
    def of(cls, meta: dict[str, Any]) -> "Progress":
        """The progress in a checkpoint's meta."""
        best = meta.get("best")
        return cls(meta["totals"], Best(*best) if best else None)


class Run(NamedTuple):
    """What does not change during training, except `signals`, to which received signals are appended.

    `images` are on the devices; `grid_images` are the test images of the grid, `parallel.widened`; `palette` is for
    images of indices; `description` describes the model at step 0; only the first process has a `report`.
    """

    directory: Path
    config: TrainConfig
    images: Placed | Integer[Array, "n h w c"]
    grid_images: Integer[np.ndarray, "b h w c"]
    palette: UInt8[np.ndarray, "p c"] | None
    description: Description
    train_indices: Int[np.ndarray, "train"]
    validation_indices: Int[np.ndarray, "validation"]
    test_indices: Int[np.ndarray, "test"]
    keys: dict[str, Key[Array, ""]]
    report: Report | None
    signals: list[int]

    @property
    def steps_per_epoch(self) -> int:
        """The number of batches of training images."""
        return self.batches[0]

    @property
    def batches(self) -> tuple[int, int]:
        """(steps per epoch, images per step)."""
        return batches(self.config, len(self.train_indices))

    @property
    def checkpoints(self) -> Path:
        """The directory of the checkpoints."""
        return self.directory / "checkpoints"


def make_keys(seed: int) -> dict[str, Key[Array, ""]]:
    """The run's keys by purpose."""
    key = jax.random.key(seed)
    names = ("init", "run", "order", "test", "samples")
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    # New purposes are folded in by name, since splitting into more parts would change the existing keys.
    return keys | {name: jax.random.fold_in(key, zlib.crc32(name.encode())) for name in ("validation",)}


def steps_per_call(seconds_per_step: float) -> int:
    """The number of steps per call: four seconds' worth, so that the progress bar moves every few seconds."""
    return max(int(_SECONDS_PER_CALL / seconds_per_step), 1)


def train(run: Run, state: TrainState, progress: Progress) -> TrainState:
    """Train until `is_finished`; `progress` is from the same checkpoint as the state, or empty.

    Saves and returns early if any process caught a signal. Raises UserError if a loss, a parameter or a moment is not
    finite, before it is saved.
    """
    while not is_finished(run, state, progress):
        epoch = int(state.step) // run.steps_per_epoch
        state = _train_epoch(run, state, progress)
        if int(state.step) < (epoch + 1) * run.steps_per_epoch:
            _save(run, state, progress, None)
            return state
        record = _end_epoch(run, state, progress.totals)
        progress.totals = {}
        loss = record.get("validation/loss")
        is_best = loss is not None and loss < (progress.best.loss if progress.best else math.inf)
        if loss is not None and is_best:
            progress.best = Best(loss, epoch + 1)
        stop = processes.any_of(bool(run.signals))
        due = (epoch + 1) % run.config.checkpoint_every == 0
        if due or is_best or stop or is_finished(run, state, progress):
            _save(run, state, progress, loss)
        if stop:
            return state
    return state


def is_finished(run: Run, state: TrainState, progress: Progress) -> bool:
    """Whether all epochs are done, or the last `patience` of them did not improve the validation loss."""
    epochs, within = divmod(int(state.step), run.steps_per_epoch)
    waited = epochs - progress.best.epoch if progress.best and not within else 0
    return epochs >= run.config.epochs or 0 < run.config.patience <= waited


def _save(run: Run, state: TrainState, progress: Progress, validation_loss: float | None) -> None:
    if not bool(steps.is_finite(state)):
        raise _not_finite(run, int(state.step), "parameters or Adam's moments are not finite")
    meta = {"totals": progress.totals, "best": progress.best, "validation_loss": validation_loss}
    checkpoints.save(run.checkpoints, state, meta, run.description)


def _not_finite(run: Run, step: int, reason: str) -> UserError:
    epoch, within = divmod(step - 1, run.steps_per_epoch)
    saved = retention.steps(run.checkpoints)
    kept = f"the checkpoint of step {saved[-1]} is unchanged" if saved else "nothing was saved yet"
    return UserError(
        f"{run.directory}: training diverged ({reason}) in epoch {epoch + 1} at step {within + 1} of "
        f"{run.steps_per_epoch}; {kept}: start a new run with a smaller --train.learning-rate"
    )


def _train_epoch(run: Run, state: TrainState, progress: Progress) -> TrainState:
    """Train to the end of the current epoch or until a signal."""
    epoch, done = divmod(int(state.step), run.steps_per_epoch)
    order = steps.epoch_order(run.keys["order"], epoch, len(run.train_indices), run.batches)
    indices = run.train_indices[order]
    calls = 0
    # Agreed between processes, so that all stop at the same step.
    while done < run.steps_per_epoch and not processes.any_of(bool(run.signals)):
        count = min(progress.size, run.steps_per_epoch - done)
        began = time.monotonic()
        state, metrics = steps.train_steps(state, run.images, indices, run.keys["run"], done, done + count)
        values = {name: np.asarray(value, np.float64)[done : done + count] for name, value in metrics.items()}
        seconds = time.monotonic() - began
        for number in range(count):
            _count_step(run, progress, int(state.step) - count + number + 1, _at(values, number))
        progress.totals["seconds"] = progress.totals.get("seconds", 0.0) + seconds
        done += count
        calls += 1
        if run.report:
            run.report.steps(int(state.step), _at(values, -1), seconds / count)
        if calls == 2 and progress.size == 1:
            # The first call includes compilation, so the second one is timed.
            progress.size = processes.of_first(steps_per_call(seconds))
    return state


def _at(steps: dict[str, np.ndarray], number: int) -> dict[str, float]:
    return {name: float(values[number]) for name, values in steps.items()}


def _count_step(run: Run, progress: Progress, step: int, losses: dict[str, float]) -> None:
    """Add the losses of one step to the epoch's sums, so that these do not depend on the number of steps per call."""
    if not all(map(math.isfinite, losses.values())):
        last = f", previous step: {losses_text(progress.losses)}" if progress.losses else ""
        raise _not_finite(run, step, losses_text(losses) + last)
    progress.losses = losses
    for name, value in losses.items():
        progress.totals[name] = progress.totals.get(name, 0.0) + value


def _end_epoch(run: Run, state: TrainState, totals: Totals) -> dict[str, float | int]:
    """Evaluate on the held-out images, report, and return the record of the epoch."""
    began = time.monotonic()
    # In a fixed order, since jitted functions return dicts in another order.
    names = state.model.likelihood.metrics
    train = {name: totals[name] / run.steps_per_epoch for name in names}
    losses = {f"train/{name}": value for name, value in train.items()}
    for part, indices in (("validation", run.validation_indices), ("test", run.test_indices)):
        if len(indices):
            found = steps.evaluate(
                state.model,
                state.params,
                state.beta,
                run.images,
                indices,
                run.keys[part],
                run.config.batch_size,
                state.mesh,
            )
            if not all(map(math.isfinite, found.values())):
                reason = f"{losses_text(found)} on the {part} images, in training: {losses_text(train)}"
                raise _not_finite(run, int(state.step), reason)
            # Active units need the variance over several images.
            reported = (*names, "active_units") if part == "test" and len(indices) > 1 else names
            losses |= {f"{part}/{name}": found[name] for name in reported}
    record = {
        "epoch": int(state.step) // run.steps_per_epoch,
        "step": int(state.step),
        "seconds": totals["seconds"] + time.monotonic() - began,
        **losses,
    }
    image = epoch_grid(run, state)
    if run.report:
        with run_directory.writing(run.directory):
            run.report.epoch(record, image)
    return record


def epoch_grid(run: Run, state: TrainState) -> UInt8[np.ndarray, "h w c"]:
    """A grid of rows: test images, their reconstructions (from posterior means), samples from latents fixed per run."""
    model, params = state.model, state.params
    size = (2 * len(run.grid_images), model.config.latent)
    noise = jax.random.normal(run.keys["samples"], size)
    uniform = jax.random.uniform(jax.random.fold_in(run.keys["samples"], 1), size)
    z = inference.from_prior(model, params, noise, uniform)
    rows = [run.grid_images, inference.reconstruct(model, params, run.grid_images), inference.decode(model, params, z)]
    pictures = np.concatenate([images.to_colours(np.asarray(row), run.palette) for row in rows])
    return images.grid(images.enlarge_for_viewing(pictures), len(run.grid_images))
