"""Train PunkVAE: `python -m flax_punkvae.experiments.train`; with no flags, the reference run."""

import contextlib
import datetime
import shlex
import signal
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from flax_punkvae import console
from flax_punkvae.config import Config, Device, TrainConfig, batches, by_name, validate
from flax_punkvae.errors import UserError, explain_out_of_memory, run_program
from flax_punkvae.flags import parse, parse_known
from flax_punkvae.presets import read_preset

PROG = "python -m flax_punkvae.experiments.train"
# With fewer, even a set of 50 sprites is hardly learned.
_FEW_STEPS = 500
# Fields that say where images come from; processes may differ in these if the images have the same SHA-256.
_SOURCE = (
    "data.source",
    "data.tile",
    "data.margin",
    "data.spacing",
    "data.frames",
    "data.synthetic_count",
    "data.synthetic_seed",
    "data.synthetic_size",
)


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
class _Init:
    init: str | None = None


@dataclass(frozen=True)
class Options(Config, Where):
    """Train PunkVAE, a beta-VAE of pixel-art characters. With no flags: the reference run on the 10,000 CryptoPunks."""


def main(arguments: Sequence[str]) -> int:
    """Train; the exit status is 0, or 128 plus the signal's number if a signal stopped it."""
    options = read_options(arguments)

    # Imported here, because these imports take seconds, and --help and flag errors should not wait for them.
    from flax_punkvae.devices import backend, processes

    with processes.joined(options.coordinator, options.processes, options.process):
        backend.prepare(options.compilation_cache, options.device)
        with explain_out_of_memory("choose a smaller --train.batch-size, a smaller model or fewer --data.colours"):
            return _train(options, [PROG, *arguments])


def _train(options: Options, command: list[str]) -> int:
    import jax

    from flax_punkvae import data
    from flax_punkvae.data import contact_sheet
    from flax_punkvae.devices import parallel, processes
    from flax_punkvae.training import environment, run_directory, session, transfer
    from flax_punkvae.training import state as train_state

    config = Config(**{field.name: getattr(options, field.name) for field in fields(Config)})
    machine = environment.describe()
    processes.agree(_common(options, config, machine))
    mesh = parallel.make_mesh()
    processes.on_all(lambda: _check_backend(options, jax.default_backend(), parallel.size(mesh)))
    if options.run_dir is not None:
        check = run_directory.check_same if options.resume else lambda path, _: run_directory.check_free(path)
        processes.on_first(partial(check, options.run_dir, config))
    dataset = processes.on_all(lambda: data.load(config.data))
    source = {name: value for name, value in by_name(config).items() if name in _SOURCE}
    processes.agree({**source, "SHA-256 of the images": dataset.sha256}, "SHA-256 of the images")
    config = replace(config, data=replace(config.data, source=data.address(config.data.source)))
    fine_tuned = cache(partial(_open, config, dataset.images.shape[1:3])) if config.init else None
    parts = dataset.parts(config.data)
    _check_batches(config.train, len(parts.train), parallel.size(mesh))
    shapes = train_state.state_shapes(config, dataset.images.at(parts.train), dataset.colours, mesh)
    if processes.is_first():
        _describe(machine, dataset, parts, shapes.params)
        for line in _batches_lines(config, len(parts.train)):
            console.say(line)
    init = None
    if fine_tuned and not options.resume:
        line = transfer.describe(fine_tuned(), dataset.palette, dataset.originals[parts.test])
        init = transfer.facts(fine_tuned())
        processes.agree({"SHA-256 of --init": init["params_sha256"]})
        if processes.is_first():
            console.say(f"init: {line}")
    run_dir = options.run_dir or run_directory.free_name(Path("runs", _now().strftime("%Y-%m-%d-%H%M%S")))
    with contextlib.ExitStack() as stack:
        processes.on_first(lambda: stack.enter_context(run_directory.locked(run_dir)))
        processes.on_first(lambda: session.claim(run_dir, options.resume, config, dataset, init))
        processes.on_first(lambda: run_directory.write_contact_sheet(run_dir, contact_sheet.png(dataset, parts)))
        start = {"time": _now().isoformat(timespec="seconds"), "command": command, **machine}
        ended = session.train(run_dir, options.resume, config, dataset, parts, shapes, start, fine_tuned)
    if processes.is_first():
        _print_end(run_dir, config.train, batches(config.train, len(parts.train))[0], ended)
    # Another process may have received the signal.
    return 0 if ended.params_sha256 else 128 + (ended.signals[0] if ended.signals else signal.SIGTERM)


def _open(config: Config, size: tuple[int, int]) -> Any:
    """The model to fine-tune on images of this size (height, width). Raises UserError if it does not fit."""
    from flax_punkvae.devices import processes
    from flax_punkvae.trained import runs
    from flax_punkvae.training import transfer

    name = str(config.init)
    model = processes.on_all(lambda: runs.load(name))
    trained = transfer.Trained(model.params, model.description, name)
    transfer.check(trained, config.model, config.data.render, size)
    return trained


def _common(options: Options, config: Config, machine: dict[str, Any]) -> dict[str, Any]:
    """Values that must be equal in all processes of a run before they load the images."""
    libraries = {name: machine["libraries"][name] for name in ("jax", "jaxlib", "flax", "optax", "numpy")}
    return {
        **{name: value for name, value in by_name(config).items() if name not in _SOURCE},
        "--run-dir": options.run_dir and str(options.run_dir.absolute()),
        "--resume": options.resume,
        **{f"the version of {name}": version for name, version in libraries.items()},
        "the version of flax_punkvae": machine["version"],
        "the backend": machine["backend"],
        **machine["settings"],
    }


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _print_end(run_dir: Path, train: TrainConfig, steps_per_epoch: int, ended: Any) -> None:
    if ended.params_sha256 is None:
        resume = f"{PROG} --run-dir {shlex.quote(str(run_dir))} --resume"
        console.say(f"stopped and saved at step {ended.step}; resume with: {resume}")
        return
    epoch, best = ended.step // steps_per_epoch, ended.progress.best
    if epoch < train.epochs:
        console.say(f"stopped after epoch {epoch}: no better validation loss for {train.patience} epochs")
    if best:
        console.say(f"best validation loss: {best.loss:.2f}, after epoch {best.epoch} (checkpoint kept)")
    console.say(f"final parameters: SHA-256 {ended.params_sha256}")
    console.say(f"run: {run_dir}")


def _check_backend(options: Options, backend: str, devices: int) -> None:
    import jax

    if options.run_dir is None and jax.process_count() > 1:
        raise UserError("--run-dir: several processes need the same run directory: give it to all of them")
    if options.train.precision == "bf16" and backend not in ("gpu", "tpu"):
        raise UserError(f"train.precision: bf16 is not supported or not faster on {backend}: use f32")
    if options.train.batch_size % devices:
        raise UserError(
            f"train.batch_size: {options.train.batch_size} does not divide evenly among {devices} devices: choose a "
            f"multiple of {devices}"
        )


def _check_batches(train: TrainConfig, count: int, devices: int) -> None:
    """Raise UserError if batches fitted to `count` training images do not divide evenly among the devices."""
    _, size = batches(train, count)
    if size % devices:
        smaller = (replace(train, batch_size=size) for size in range(train.batch_size, 0, -1) if size % devices == 0)
        even = next((other.batch_size for other in smaller if batches(other, count)[1] % devices == 0), None)
        raise UserError(
            f"train.batch_size: {count} training images make batches of {size}, which do not divide evenly among "
            f"{devices} devices: choose {even or 'fewer devices'}"
        )


def _batches_lines(config: Config, count: int) -> list[str]:
    """What a user may not expect of the batches of `count` training images: smaller ones, or few steps."""
    from flax_punkvae import data

    of, size = batches(config.train, count)
    lines = [f"batches: {of} of {size} images per epoch"] if size != config.train.batch_size else []
    steps, source = of * config.train.epochs, config.data.source
    if steps < _FEW_STEPS and data.is_own(source):
        command = f"python -m flax_punkvae.experiments.inspect {shlex.quote(source)}"
        lines.append(f"steps: {steps} in all, few for any set: for a config that fits this one, run {command}")
    return lines


def _describe(machine: dict[str, Any], dataset: Any, parts: Any, params: Any) -> None:
    import jax

    from flax_punkvae.data import inspection

    for line in inspection.summary(dataset, parts):
        console.say(line)
    console.say(f"model: {sum(leaf.size for leaf in jax.tree.leaves(params)):,} parameters")
    of = f" of {jax.process_count()} processes" if jax.process_count() > 1 else ""
    several = f", {machine['devices']} devices{of}" if machine["devices"] > 1 else ""
    console.say("device: {backend}, {device}".format(**machine) + f"{several} (jax {jax.__version__})")


def read_options(arguments: Sequence[str]) -> Options:
    """Flags override the preset, the preset overrides the defaults. Raises UserError."""
    where, init = parse_known(Where, arguments), parse_known(_Init, arguments).init
    preset = Config()
    if where.config is not None:
        preset = read_preset(where.config)
    elif where.resume and where.run_dir is not None:
        from flax_punkvae.training.run_directory import read_config

        preset = read_config(where.run_dir)
    elif init is not None:
        from flax_punkvae.trained import hub_models, runs

        preset = runs.read_config(hub_models.local(init))
    options = parse(Options, arguments, Options(**vars(preset)), PROG)
    validate(options)
    if options.init is not None and not options.init.startswith("hub:"):
        # So that the run can be resumed from another working directory.
        options = replace(options, init=str(Path(options.init).expanduser().absolute()))
    if options.resume and options.run_dir is None:
        raise UserError("--resume: add --run-dir to say which run to continue")
    return options


if __name__ == "__main__":
    run_program(main)
