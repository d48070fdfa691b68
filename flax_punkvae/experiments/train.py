"""Train PunkVAE: `python -m flax_punkvae.experiments.train`; with no flags, the reference run."""

import contextlib
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from flax_punkvae.config import Config, parse, parse_known, read_preset, validate
from flax_punkvae.errors import UserError, run_program

PROG = "python -m flax_punkvae.experiments.train"


@dataclass(frozen=True)
class Where:
    """The flags that say where a run is, and not what it computes."""

    config: Path | None = None
    """TOML preset; flags override it."""
    run_dir: Path | None = None
    """Directory of the run; runs/<UTC date and time> where none is given."""
    compilation_cache: str = "auto"
    """Where compiled steps are kept, so that the next start begins at once: auto (the user's cache), off, or DIR."""
    resume: bool = False
    """Continue the run in --run-dir, bit for bit; what no flag sets comes from its own config.toml."""


@dataclass(frozen=True)
class Options(Config, Where):
    """Train PunkVAE, a beta-VAE of pixel-art characters. With no flags: the reference run on the 10,000 CryptoPunks."""


def main(arguments: Sequence[str]) -> int:
    """Train; the exit status is 0, or 128 and the signal's number where one stopped it."""
    options = read_options(arguments)
    config = Config(**{field.name: getattr(options, field.name) for field in fields(Config)})

    # Imported here, since they take seconds: --help and a mistyped flag are answered at once.
    import jax

    from flax_punkvae import backend, checkpoints, data, loop, run_directory, training
    from flax_punkvae.reporting import Report

    run_dir = options.run_dir or Path("runs", datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d-%H%M%S"))
    if options.resume:
        run_directory.check_same(run_dir, config)
    else:
        run_directory.check_free(run_dir)
    backend.prepare(options.compilation_cache)
    if config.train.precision == "bf16" and jax.default_backend() not in ("gpu", "tpu"):
        raise UserError(
            f"train.precision: expected f32 on {jax.default_backend()}, which computes bf16 no faster or not at all, "
            "got bf16: leave it out"
        )
    dataset = data.load(config.data)
    train_indices, test_indices = data.split(len(dataset.images), config.data.test_fraction, config.data.split_seed)
    if config.train.batch_size > len(train_indices):
        raise UserError(
            f"train.batch_size: expected at most the {len(train_indices)} training images, "
            f"got {config.train.batch_size}"
        )
    provenance = dataset.provenance()
    environment = run_directory.environment()
    keys = loop.make_keys(config.seed)
    state = training.create_state(config, keys["init"])
    print("data: {source}, {count} images of {size}, SHA-256 {sha256}".format(**provenance))
    print(f"data: {dataset.verification}")
    print(f"split: {len(train_indices)} to train on, {len(test_indices)} to test on")
    print(f"model: {sum(leaf.size for leaf in jax.tree.leaves(state.params)):,} parameters")
    print("device: {backend}, {device}".format(**environment), f"(jax {jax.__version__})")

    if options.resume:
        run_directory.check_same_data(run_dir, provenance)
    else:
        run_directory.start(run_dir, config, {"command": [PROG, *arguments], "data": provenance, **environment})
    with contextlib.ExitStack() as stack:
        manager = stack.enter_context(contextlib.closing(checkpoints.open_manager(run_dir / "checkpoints")))
        totals: dict[str, float] = {}
        restored = checkpoints.restore(manager, state) if options.resume else None
        if restored:
            state, totals = restored.state, restored.meta["totals"]
            for damage in restored.damaged:
                print(f"damaged checkpoint passed over: {damage}")
        steps_per_epoch = len(train_indices) // config.train.batch_size
        first_step = int(state.step)
        if first_step > config.train.epochs * steps_per_epoch:
            raise UserError(
                f"train.epochs: expected at least {-(-first_step // steps_per_epoch)}, which {run_dir} has begun, "
                f"got {config.train.epochs}"
            )
        if options.resume:
            run_directory.write_config(run_dir, config)
            print(f"resuming {run_dir} at step {first_step}")
        signals = stack.enter_context(loop.signals_caught())
        report = stack.enter_context(
            Report(run_dir, config.train.epochs, steps_per_epoch, config.train.batch_size, first_step)
        )
        images = jax.device_put(dataset.images)
        run = loop.Run(config.train, images, train_indices, test_indices, keys, manager, report, signals)
        state = loop.train(run, state, totals)
    if signals:
        print(f"stopped and saved at step {int(state.step)}; resume with: {PROG} --run-dir {run_dir} --resume")
        return 128 + signals[0]
    digest = checkpoints.digest(state.params)
    run_directory.add_facts(run_dir, final_step=int(state.step), params_sha256=digest)
    print(f"final parameters: SHA-256 {digest}")
    print(f"run: {run_dir}")
    return 0


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
