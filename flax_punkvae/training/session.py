"""One start or resume of a run, from the locked directory to the last checkpoint or to the signal that stopped it."""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from flax_punkvae.config import Config, batches
from flax_punkvae.data import Dataset, Parts
from flax_punkvae.devices import parallel, processes
from flax_punkvae.errors import UserError
from flax_punkvae.training import checkpoints, description, loop, retention, run_directory, signals, transfer
from flax_punkvae.training import state as train_state
from flax_punkvae.training.placed import placed
from flax_punkvae.training.reporting import Report
from flax_punkvae.training.state import TrainState


class Ended(NamedTuple):
    """How a session ended: `params_sha256` is None if a signal stopped it; `signals` lists those of this process."""

    step: int
    progress: loop.Progress
    params_sha256: str | None
    signals: list[int]


def claim(run_dir: Path, resume: bool, config: Config, dataset: Dataset, init: dict[str, Any] | None) -> None:
    """Check a run directory that this process has locked and, for a new run, write its first files.

    `init` are facts about the model to fine-tune. Raises UserError if the run cannot be started or continued there.
    """
    if resume:
        run_directory.check_links(run_dir)
        run_directory.check_same_data(run_dir, dataset.provenance(), dataset.images.sha256)
    else:
        # Checked again, since another process may have held the lock until now.
        run_directory.check_free(run_dir)
        run_directory.start(
            run_dir, config, {"data": dataset.provenance(), **({"init": init} if init else {}), "starts": []}
        )


def train(
    run_dir: Path,
    resume: bool,
    config: Config,
    dataset: Dataset,
    parts: Parts,
    shapes: TrainState,
    start: dict[str, Any],
    fine_tuned: Callable[[], transfer.Trained] | None = None,
) -> Ended:
    """Train in a claimed run directory; with `resume`, from its checkpoint if it has one.

    `shapes` is the state with shapes in place of arrays; `start` is the entry of this start in run.json; `fine_tuned`
    opens the model to start from, which is not needed if there is a checkpoint. Raises UserError if the run is already
    past its last epoch, if training diverges or if the disk cannot be written.
    """
    state, progress, damaged = _begin(run_dir, resume, config, dataset, parts, shapes, fine_tuned)
    first_step = int(state.step)
    with contextlib.ExitStack() as stack:
        run = loop.Run(
            directory=run_dir,
            config=config.train,
            images=placed(state.mesh, dataset.images),
            grid_images=parallel.widened(dataset.images[np.resize(parts.test, loop.GRID_COLUMNS)]),
            palette=dataset.palette,
            description=description.describe(config, dataset, parts, state.model.support),
            train_indices=parts.train,
            validation_indices=parts.validation,
            test_indices=parts.test,
            keys=loop.make_keys(config.seed),
            report=None,
            signals=stack.enter_context(signals.caught()),
        )

        def prepare() -> None:
            with run_directory.writing(run_dir):
                retention.tidy(run.checkpoints, first_step)
                run_directory.write_config(run_dir, config)
                unfinished = not loop.is_finished(run, state, progress)
                run_directory.begin(run_dir, config, {"step": first_step, **start}, unfinished)

        processes.on_first(prepare)
        if processes.is_first():
            with run_directory.writing(run_dir):
                report = Report(run_dir, config.train.epochs, *run.batches, first_step, state.beta_warmup)
            for damage in damaged:
                report.say(f"skipped damaged checkpoint {damage}")
            if resume:
                report.say(f"resuming {run_dir} at step {first_step}")
            run = run._replace(report=stack.enter_context(report))
        state = loop.train(run, state, progress)
        digest = checkpoints.digest(state.params) if loop.is_finished(run, state, progress) else None
        if run.report and digest:
            with run_directory.writing(run_dir):
                run_directory.finish(run_dir, int(state.step), digest)
    return Ended(int(state.step), progress, digest, run.signals)


def _begin(
    run_dir: Path,
    resume: bool,
    config: Config,
    dataset: Dataset,
    parts: Parts,
    shapes: TrainState,
    fine_tuned: Callable[[], transfer.Trained] | None,
) -> tuple[TrainState, loop.Progress, list[str]]:
    """The state to train from, its progress, and the damaged checkpoints that were skipped."""
    restored = processes.on_all(lambda: checkpoints.restore(run_dir / "checkpoints", shapes)) if resume else None
    if restored:
        state, progress, damaged = restored.state, loop.Progress.of(restored.meta), restored.damaged
    else:
        key, train_images = loop.make_keys(config.seed)["init"], dataset.images.at(parts.train)
        state = train_state.create_state(config, key, train_images, dataset.colours, shapes.mesh)
        if fine_tuned:
            params = transfer.transferred(fine_tuned(), state.params, dataset.palette, state.model.support)
            state = state.replace(params=parallel.replicated(state.mesh, jax.tree.map(jnp.array, params)))
        progress, damaged = loop.Progress(), []
    step, steps_per_epoch = int(state.step), batches(config.train, len(parts.train))[0]
    processes.agree({"the step of the checkpoint": step}, advice=f"put {run_dir} on a disk that all of them share")
    if step > config.train.epochs * steps_per_epoch:
        raise UserError(
            f"train.epochs: {run_dir} has already passed epoch {config.train.epochs}: choose at least "
            f"{-(-step // steps_per_epoch)}"
        )
    return state, progress, damaged
