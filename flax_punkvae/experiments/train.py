"""Train PunkVAE: `python -m flax_punkvae.experiments.train`; with no flags, the reference run."""

import contextlib
import datetime
import signal
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from flax_punkvae.config import Config, Device, parse, parse_known, read_preset, validate
from flax_punkvae.errors import UserError, run_program

PROG = "python -m flax_punkvae.experiments.train"


@dataclass(frozen=True)
class Where:
    """The flags that say where a run is, and not what it computes."""

    config: Path | None = None
    """TOML preset; flags override it."""
    run_dir: Path | None = None
    """Directory of the run; runs/<UTC date and time> where none is given."""
    resume: bool = False
    """Continue the run in --run-dir, bit for bit; what no flag sets comes from its own config.toml."""
    device: Device = "auto"
    """Backend to train on, with all of its devices; auto is jax's own choice."""
    compilation_cache: str = "auto"
    """Where compiled steps are kept, so that the next start begins at once: auto (the user's cache), off, or DIR."""
    coordinator: str | None = None
    """HOST:PORT of the first of several processes, which get the same flags but each its own --process; those of a
    SLURM step or of Open MPI's mpirun find each other without."""
    processes: int | None = None
    """How many processes meet there."""
    process: int | None = None
    """Which of them this one is, from 0."""


@dataclass(frozen=True)
class Options(Config, Where):
    """Train PunkVAE, a beta-VAE of pixel-art characters. With no flags: the reference run on the 10,000 CryptoPunks."""


def main(arguments: Sequence[str]) -> int:
    """Train; the exit status is 0, or 128 and the signal's number where one stopped it."""
    options = read_options(arguments)

    # Imported here, since they take seconds: --help and a mistyped flag are answered at once.
    from flax_punkvae import backend, processes

    with processes.joined(options.coordinator, options.processes, options.process):
        backend.prepare(options.compilation_cache, options.device)
        return _train(options, {"command": [PROG, *arguments]})


def _train(options: Options, facts: dict[str, Any]) -> int:
    import jax
    import numpy as np

    from flax_punkvae import checkpoints, data, loop, parallel, processes, run_directory, train_state
    from flax_punkvae.reporting import Report

    config = Config(**{field.name: getattr(options, field.name) for field in fields(Config)})
    mesh = parallel.make_mesh()
    processes.together(lambda: _check_backend(options, jax.default_backend(), parallel.size(mesh)))
    run_dir = options.run_dir or Path("runs", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d-%H%M%S"))
    check = (
        partial(run_directory.check_same, run_dir, config)
        if options.resume
        else partial(run_directory.check_free, run_dir)
    )
    processes.by_first(check)
    dataset = processes.together(lambda: data.load(config.data))
    train_indices, test_indices = data.split(len(dataset.images), config.data.test_fraction, config.data.split_seed)
    steps_per_epoch = len(train_indices) // config.train.batch_size
    if not steps_per_epoch:
        raise UserError(
            f"train.batch_size: expected at most the {len(train_indices)} training images, "
            f"got {config.train.batch_size}"
        )
    keys = loop.make_keys(config.seed)
    state = train_state.create_state(config, keys["init"], dataset.images[train_indices], dataset.colours, mesh)
    facts |= {"data": dataset.provenance(), **run_directory.environment()}
    if processes.is_first():
        _describe(facts, dataset, len(train_indices), test_indices, state.params)

    with contextlib.ExitStack() as stack:

        def take() -> None:
            if options.resume:
                run_directory.check_same_data(run_dir, facts["data"])
            else:
                run_directory.start(run_dir, config, facts)
            stack.enter_context(run_directory.locked(run_dir))

        processes.by_first(take)
        manager = stack.enter_context(contextlib.closing(checkpoints.open_manager(run_dir / "checkpoints")))
        totals: dict[str, float] = {}
        restored = checkpoints.restore(manager, state) if options.resume else None
        if restored:
            state, totals = restored.state, restored.meta["totals"]
        first_step = int(state.step)
        if first_step > config.train.epochs * steps_per_epoch:
            raise UserError(
                f"train.epochs: expected at least {-(-first_step // steps_per_epoch)}, which {run_dir} has begun, "
                f"got {config.train.epochs}"
            )
        signals = stack.enter_context(loop.signals_caught())
        report = None
        if processes.is_first():
            with run_directory.writing(run_dir):
                run_directory.write_config(run_dir, config)
                report = Report(run_dir, config.train.epochs, steps_per_epoch, config.train.batch_size, first_step)
            for damage in restored.damaged if restored else ():
                report.say(f"damaged checkpoint passed over: {damage}")
            if options.resume:
                report.say(f"resuming {run_dir} at step {first_step}")
            stack.enter_context(report)
        run = loop.Run(
            directory=run_dir,
            config=config.train,
            images=parallel.sharded(mesh, dataset.images),
            shown=dataset.images[np.resize(test_indices, loop.GRID_COLUMNS)],
            palette=dataset.palette,
            train_indices=train_indices,
            test_indices=test_indices,
            keys=keys,
            manager=manager,
            report=report,
            signals=signals,
        )
        state = loop.train(run, state, totals)
        finished = int(state.step) == config.train.epochs * steps_per_epoch
        digest = checkpoints.digest(state.params) if finished else None
        if report and finished:
            with run_directory.writing(run_dir):
                run_directory.add_facts(run_dir, final_step=int(state.step), params_sha256=digest)
    if finished:
        told = [f"final parameters: SHA-256 {digest}", f"run: {run_dir}"]
    else:
        told = [f"stopped and saved at step {int(state.step)}; resume with: {PROG} --run-dir {run_dir} --resume"]
    if processes.is_first():
        print(*told, sep="\n")
    # The signal may have been another process's.
    return 0 if finished else 128 + (signals[0] if signals else signal.SIGTERM)


def _check_backend(options: Options, backend: str, devices: int) -> None:
    import jax

    if options.run_dir is None and jax.process_count() > 1:
        raise UserError("--run-dir: expected one for several processes, whose clocks differ, got none: name one")
    if options.train.precision == "bf16" and backend not in ("gpu", "tpu"):
        raise UserError(
            f"train.precision: expected f32 on {backend}, which computes bf16 no faster or not at all, "
            "got bf16: leave it out"
        )
    if options.train.batch_size % devices:
        raise UserError(
            f"train.batch_size: expected a multiple of the {devices} devices, which share a batch equally, "
            f"got {options.train.batch_size}"
        )


def _describe(facts: dict[str, Any], dataset: Any, train: int, test_indices: Any, params: Any) -> None:
    import jax

    print("data: {source}, {count} images of {size}, SHA-256 {sha256}".format(**facts["data"]))
    print(*(f"data: {note}" for note in (dataset.verification, *dataset.notes)), sep="\n")
    print(f"split: {train} to train on, {len(test_indices)} to test on")
    if dataset.colours:
        pixels, sprites = dataset.outside_palette(test_indices)
        others = f"; {pixels} pixels of {sprites} test sprites have others, taken as the nearest" if pixels else ""
        print(f"palette: {dataset.colours} colours of the training sprites{others}")
    print(f"model: {sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters")
    of = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    several = f", {facts['devices']} devices{of}" if facts["devices"] > 1 else ""
    print("device: {backend}, {device}".format(**facts) + f"{several} (jax {jax.__version__})")


def read_options(arguments: Sequence[str]) -> Options:
    """Flags override the preset, the preset overrides the defaults. Raises UserError."""
    where = parse_known(Where, arguments)
    preset = Config()
    if where.config is not None:
        preset = read_preset(where.config)
    elif where.resume and where.run_dir is not None:
        from flax_punkvae.run_directory import read_config

        preset = read_config(where.run_dir)
    options = parse(Options, arguments, Options(**vars(preset)), PROG)
    validate(options)
    if options.resume and options.run_dir is None:
        raise UserError("--resume: expected --run-dir with it, to say which run to continue")
    return options


if __name__ == "__main__":
    run_program(main)
