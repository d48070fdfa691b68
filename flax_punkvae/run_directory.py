"""A run on disk: whether it may be started or resumed there, its lock, its config.toml and run.json."""

import contextlib
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock
import jax

from flax_punkvae import __version__
from flax_punkvae.config import Config, differences, read_preset, to_toml
from flax_punkvae.errors import UserError

_CONFIG = "config.toml"
_FACTS = "run.json"
_LOCK = ".lock"
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "datasets")
# What may differ between a run and its continuation: neither changes any step, but where a schedule counts on their
# number.
_MAY_CHANGE = ("train.epochs", "train.checkpoint_every")


def holds_run(path: Path) -> bool:
    """Whether a run was started there."""
    return (path / _CONFIG).is_file() and (path / _FACTS).is_file()


def check_free(path: Path) -> None:
    """Raise UserError where a new run would touch something that is there already."""
    if holds_run(path):
        raise UserError(
            f"{path}: expected a directory without a run, got one that holds a run: add --resume to continue it, "
            "or choose another --run-dir"
        )
    if path.exists() and not path.is_dir():
        raise UserError(f"{path}: expected a directory, got a file: choose another --run-dir")
    if path.exists() and any(path.iterdir()):
        raise UserError(f"{path}: expected a new or empty directory, got one with files: choose another --run-dir")


def read_config(path: Path) -> Config:
    """The config of the run there. Raises UserError where there is none."""
    if not holds_run(path):
        raise UserError(f"{path}: expected a run to resume, got none there: leave out --resume to start one")
    return read_preset(path / _CONFIG)


def check_same(path: Path, config: Config) -> None:
    """Raise UserError, naming the fields, where `config` would not continue the run there but make it another."""
    scheduled = config.train.schedule != "constant" or config.train.beta_warmup > 0
    may_change = tuple(f"{name} (" for name in _MAY_CHANGE if not (scheduled and name == "train.epochs"))
    changed = [text for text in differences(config, read_config(path)) if not text.startswith(may_change)]
    if changed:
        raise UserError(
            f"{path}: expected the config of the run, got other values for {', '.join(changed)}: "
            "leave them out, or start a new run in another --run-dir"
        )


def check_same_data(path: Path, provenance: dict[str, Any]) -> None:
    """Raise UserError where the images are not those of the run there."""
    expected = read_facts(path)["data"]["sha256"]
    if provenance["sha256"] != expected:
        raise UserError(
            f"{path}: expected the run's own images, SHA-256 {expected}, got {provenance['sha256']} "
            f"from {provenance['source']}: give the --data.source the run was started with"
        )


def start(path: Path, config: Config, facts: dict[str, Any]) -> None:
    """Make the directory with config.toml and run.json, at once or not at all. Raises UserError where that fails."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.mkdir(parents=True)
        (new / _CONFIG).write_text(to_toml(config), encoding="utf-8")
        (new / _FACTS).write_text(_json(facts), encoding="utf-8")
        new.rename(path)
    except OSError as error:
        raise UserError(f"{path}: expected a directory that can be written, got: {error.strerror}") from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the run there for this process; the lock dies with it. Raises UserError where another process holds it."""
    lock = filelock.FileLock(path / _LOCK)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(
            f"{path}: expected a run that no process is working on, got one that another process holds: "
            "stop that one first, or choose another --run-dir"
        ) from error
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """What is written to the run in this context; raises UserError where the disk refuses."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> UserError:
    """The line for a run directory that cannot be written: a full disk, missing rights."""
    return UserError(
        f"{path}: expected a directory that can be written, got: {error.strerror or error}: what was saved before is "
        "whole; make room or give the rights, then continue with --resume"
    )


def inside(run: Path, path: Path) -> Path:
    """`path`, which is to be written and lies in the run directory `run`.

    Raises UserError where a symbolic link leads out of it: a run directory may come from anybody.
    """
    if not path.resolve().is_relative_to(run.resolve()):
        raise UserError(f"{path}: a symbolic link leads out of the run directory: remove it, or name a place yourself")
    return path


def write_config(path: Path, config: Config) -> None:
    """Replace config.toml: a resumed run may have more epochs."""
    _replace(path / _CONFIG, to_toml(config))


def read_facts(path: Path) -> dict[str, Any]:
    """What run.json says. Raises UserError where it is not JSON."""
    try:
        return json.loads((path / _FACTS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path / _FACTS}: expected JSON, got: {error}") from error


def add_facts(path: Path, **facts: Any) -> None:
    """Add to run.json, or replace there."""
    _replace(path / _FACTS, _json({**read_facts(path), **facts}))


def environment() -> dict[str, Any]:
    """Versions, platform, device and git commit: what may explain a difference between two runs."""
    device = jax.devices()[0]
    return {
        "version": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "libraries": {name: importlib.metadata.version(name) for name in _LIBRARIES},
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "backend": device.platform,
        "device": device.device_kind,
        "devices": jax.device_count(),
    }


def _git_commit() -> str | None:
    """The commit of the checkout that this package is run from; None where it is installed elsewhere."""
    here = Path(__file__)
    try:
        # An installed copy may lie below somebody's checkout without being part of it.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", here.name], cwd=here.parent, check=True, capture_output=True
        )
        commit = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(commit, cwd=here.parent, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _json(facts: dict[str, Any]) -> str:
    return json.dumps(facts, indent=2) + "\n"


def _replace(path: Path, text: str) -> None:
    # Written beside and renamed, so that a kill leaves either the old text or the new.
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text, encoding="utf-8")
    new.replace(path)
