"""Train PunkVAE: `python -m flax_punkvae.experiments.train`; with no flags, the reference run."""

import contextlib
import datetime
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

from flax_punkvae import console
from flax_punkvae.config import Config, Device, by_name, validate
from flax_punkvae.errors import UserError, explain_out_of_memory, run_program
from flax_punkvae.flags import parse, parse_known
from flax_punkvae.presets import read_preset

PROG = "python -m flax_punkvae.experiments.train"
# Where images come from; processes may differ in this as long as the images have the same SHA-256.
_ADDRESS = ("data.source", "data.tile", "data.synthetic_count", "data.synthetic_seed", "data.synthetic_size")


@dataclass(frozen=True)
class Where:
    """Flags that say where a run is stored and computed; they do not change what it computes."""

    config: Path | None = None
    """TOML preset; flags override it."""
    run_dir: Path | None = None
    """Run directory; runs/<UTC date and time> by default."""
    resume: bool = False
    """Continue the run in --run-dir, bit for bit on the same CPU (Linux x86-64). Values without a flag come from
    its config.toml."""
    device: Device = "auto"
    """Backend to train on, using all of its devices; auto leaves the choice to jax. A backend that does not
    start is an error."""
    compilation_cache: str = "auto"
    """Where to keep compiled steps, so that the next start does not compile again: auto (the user's cache), off, or
    DIR."""
    coordinator: str | None = None
    """HOST:PORT of the first process of a run on several processes. Start all of them with the same flags, each with
    its own --process. Tasks of one srun or mpirun (Open MPI) form one run without these flags."""
    processes: int | None = None
    """Number of processes of the run. --processes 1 without --coordinator makes each task of an srun or mpirun a
    separate run, as in a sweep."""
    process: int | None = None
    """Index of this process, from 0."""


@dataclass(frozen=True)
class Options(Config, Where):
    """Train PunkVAE, a beta-VAE of pixel-art characters. With no flags: the reference run on the 10,000 CryptoPunks."""


def main(arguments: Sequence[str]) -> int:
    """Train; the exit status is 0, or 128 plus the signal's number if a signal stopped it."""
    options = read_options(arguments)

    # Imported here, since they take seconds: --help and a mistyped flag are answered at once.
    from flax_punkvae.devices import backend, processes

    with processes.joined(options.coordinator, options.processes, options.process):
        backend.prepare(options.compilation_cache, options.device)
        with explain_out_of_memory("choose a smaller --train.batch-size or a smaller model"):
            return _train(options, [PROG, *arguments])


def _train(options: Options, command: list[str]) -> int:
    import jax

    from flax_punkvae import data
    from flax_punkvae.devices import parallel, processes
    from flax_punkvae.training import environment, run_directory
    from flax_punkvae.training import state as train_state

    config = Config(**{field.name: getattr(options, field.name) for field in fields(Config)})
    here = environment.describe()
    processes.agree(_common(options, config, here))
    mesh = parallel.make_mesh()
    processes.on_all(lambda: _check_backend(options, jax.default_backend(), parallel.size(mesh)))
    if options.run_dir is not None:
        check = run_directory.check_same if options.resume else lambda path, _: run_directory.check_free(path)
        processes.by_first(partial(check, options.run_dir, config))
    dataset = processes.on_all(lambda: data.load(config.data))
    addresses = {name: value for name, value in by_name(config).items() if name in _ADDRESS}
    processes.agree({**addresses, "SHA-256 of the images": dataset.sha256}, "SHA-256 of the images")
    config = replace(config, data=replace(config.data, source=data.address(config.data.source)))
    parts = data.parts(len(dataset.images), config.data)
    if len(parts.train) < config.train.batch_size:
        raise UserError(
            f"train.batch_size: {config.train.batch_size} is more than the {len(parts.train)} training images: "
            "choose a smaller one"
        )
    shapes = train_state.state_shapes(config, dataset.images[parts.train], dataset.colours, mesh)
    if processes.is_first():
        _describe(here, dataset, parts, shapes.params)
    run_dir = options.run_dir or run_directory.free_name(Path("runs", _now().strftime("%Y-%m-%d-%H%M%S")))
    with contextlib.ExitStack() as stack:
        processes.by_first(lambda: stack.enter_context(run_directory.locked(run_dir)))
        processes.by_first(lambda: _claim(run_dir, options.resume, config, dataset.provenance()))
        return _run(run_dir, options.resume, config, dataset, parts, shapes, {"command": command, **here})


def _common(options: Options, config: Config, environment: dict[str, Any]) -> dict[str, Any]:
    """Facts that must be equal in all processes of a run before they load the images."""
    libraries = {name: environment["libraries"][name] for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    return {
        **{name: value for name, value in by_name(config).items() if name not in _ADDRESS},
        "--run-dir": options.run_dir and str(options.run_dir.absolute()),
        "--resume": options.resume,
        **{f"the version of {name}": version for name, version in libraries.items()},
        "the version of flax_punkvae": environment["version"],
        "the backend": environment["backend"],
        **environment["settings"],
    }


def _claim(run_dir: Path, resume: bool, config: Config, provenance: dict[str, Any]) -> None:
    """Check the locked run directory and, for a new run, write its first files."""
    from flax_punkvae.training import run_directory

    if resume:
        run_directory.check_links(run_dir)
        run_directory.check_same_data(run_dir, provenance)
    else:
        # Again, since another process may have held the lock until now.
        run_directory.check_free(run_dir)
        run_directory.start(run_dir, config, {"data": provenance, "starts": []})


def _run(
    run_dir: Path, resume: bool, config: Config, dataset: Any, parts: Any, shapes: Any, start: dict[str, Any]
) -> int:
    """Train in a run directory that this process has locked, from its checkpoint if it has one.

    `shapes` are those of the state.
    """
    import numpy as np

    from flax_punkvae.devices import parallel, processes
    from flax_punkvae.training import checkpoints, description, loop, retention, run_directory, signals
    from flax_punkvae.training import state as train_state
    from flax_punkvae.training.reporting import Report

    keys = loop.make_keys(config.seed)
    restored = processes.on_all(lambda: checkpoints.restore(run_dir / "checkpoints", shapes)) if resume else None
    if restored:
        state = restored.state
    else:
        train_images = dataset.images[parts.train]
        state = train_state.create_state(config, keys["init"], train_images, dataset.colours, shapes.mesh)
    processes.agree(
        {"the step of the checkpoint": int(state.step)}, advice=f"put {run_dir} on a disk that all of them share"
    )
    progress = loop.Progress.of(restored.meta) if restored else loop.Progress()
    first_step, steps_per_epoch = int(state.step), len(parts.train) // config.train.batch_size
    if first_step > config.train.epochs * steps_per_epoch:
        raise UserError(
            f"train.epochs: {run_dir} has already passed epoch {config.train.epochs}: choose at least "
            f"{-(-first_step // steps_per_epoch)}"
        )
    with contextlib.ExitStack() as stack:
        run = loop.Run(
            directory=run_dir,
            config=config.train,
            images=parallel.sharded(state.mesh, dataset.images),
            grid_images=dataset.images[np.resize(parts.test, loop.GRID_COLUMNS)],
            palette=dataset.palette,
            description=description.describe(config, dataset, parts),
            train_indices=parts.train,
            validation_indices=parts.validation,
            test_indices=parts.test,
            keys=keys,
            report=None,
            signals=stack.enter_context(signals.caught()),
        )

        def prepare() -> None:
            with run_directory.writing(run_dir):
                retention.tidy(run.checkpoints, first_step)
                run_directory.write_config(run_dir, config)
                begin = {"step": first_step, "time": _now().isoformat(timespec="seconds"), **start}
                run_directory.begin(run_dir, config, begin, not loop.is_finished(run, state, progress))

        processes.by_first(prepare)
        if processes.is_first():
            with run_directory.writing(run_dir):
                report = Report(run_dir, config.train.epochs, steps_per_epoch, config.train.batch_size, first_step)
            for damage in restored.damaged if restored else ():
                report.say(f"skipped damaged checkpoint {damage}")
            if resume:
                report.say(f"resuming {run_dir} at step {first_step}")
            run = run._replace(report=stack.enter_context(report))
        state = loop.train(run, state, progress)
        finished = loop.is_finished(run, state, progress)
        digest = checkpoints.digest(state.params) if finished else None
        if run.report and digest:
            with run_directory.writing(run_dir):
                run_directory.finish(run_dir, int(state.step), digest)
    if processes.is_first():
        _tell_end(run, int(state.step), progress, digest)
    # The signal may have been another process's.
    return 0 if finished else 128 + (run.signals[0] if run.signals else signal.SIGTERM)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _tell_end(run: Any, step: int, progress: Any, digest: str | None) -> None:
    if digest is None:
        resume = f"{PROG} --run-dir {shlex.quote(str(run.directory))} --resume"
        console.say(f"stopped and saved at step {step}; resume with: {resume}")
        return
    epoch = step // run.steps_per_epoch
    if epoch < run.config.epochs:
        console.say(f"stopped after epoch {epoch}: no better validation loss for {run.config.patience} epochs")
    if progress.best:
        console.say(
            f"best validation loss: {progress.best.loss:.2f}, after epoch {progress.best.epoch} (checkpoint kept)"
        )
    console.say(f"final parameters: SHA-256 {digest}")
    console.say(f"run: {run.directory}")


def _check_backend(options: Options, backend: str, devices: int) -> None:
    import jax

    if options.run_dir is None and jax.process_count() > 1:
        raise UserError("--run-dir: several processes need a common run directory: give all of them the same one")
    if options.train.precision == "bf16" and backend not in ("gpu", "tpu"):
        raise UserError(f"train.precision: bf16 is not faster on {backend}, or not supported there: use f32")
    if options.train.batch_size % devices:
        raise UserError(
            f"train.batch_size: {options.train.batch_size} does not divide evenly among {devices} devices: choose a "
            f"multiple of {devices}"
        )


def _describe(environment: dict[str, Any], dataset: Any, parts: Any, params: Any) -> None:
    import jax

    console.say("data: {source}, {count} images of {size}, SHA-256 {sha256}".format(**dataset.provenance()))
    for note in (dataset.verification, *dataset.notes):
        console.say(f"data: {note}")
    validation = f"{len(parts.validation)} for validation, " if len(parts.validation) else ""
    console.say(f"split: {len(parts.train)} to train on, {validation}{len(parts.test)} to test on")
    if dataset.colours:
        pixels, sprites = dataset.outside_palette(parts.test)
        others = (
            f"; {pixels} pixels of {sprites} test sprites have other colours, replaced by the nearest" if pixels else ""
        )
        console.say(f"palette: {dataset.colours} colours of the training sprites{others}")
    console.say(f"model: {sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters")
    of = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    several = f", {environment['devices']} devices{of}" if environment["devices"] > 1 else ""
    console.say("device: {backend}, {device}".format(**environment) + f"{several} (jax {jax.__version__})")


def read_options(arguments: Sequence[str]) -> Options:
    """Flags override the preset, the preset overrides the defaults. Raises UserError."""
    where = parse_known(Where, arguments)
    preset = Config()
    if where.config is not None:
        preset = read_preset(where.config)
    elif where.resume and where.run_dir is not None:
        from flax_punkvae.training.run_directory import read_config

        preset = read_config(where.run_dir)
    options = parse(Options, arguments, Options(**vars(preset)), PROG)
    validate(options)
    if options.resume and options.run_dir is None:
        raise UserError("--resume: add --run-dir to say which run to continue")
    return options


if __name__ == "__main__":
    run_program(main)
