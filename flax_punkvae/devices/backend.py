"""Configure jax before its first computation: backend, matrix product precision, compilation cache."""

import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import jax

from flax_punkvae import console
from flax_punkvae.config import Device
from flax_punkvae.errors import UserError

_CACHE_VARIABLE = "JAX_COMPILATION_CACHE_DIR"
# Linux follows at most this many symbolic links.
_MOST_LINKS = 40


def prepare(compilation_cache: str, device: Device = "auto") -> None:
    """Set the backend, the matrix product precision and the compilation cache (`auto`, `off` or a directory).

    Device `auto` leaves the choice to jax. Cache `auto` is the directory in JAX_COMPILATION_CACHE_DIR, else one in the
    user's cache; if that cannot be created or trusted, prints a warning to standard error and uses no cache.
    Raises UserError if a requested backend does not start or a named directory cannot be used.
    """
    _choose(device)
    jax.config.update("jax_default_matmul_precision", matmul_precision(jax.default_backend()))
    if compilation_cache == "off":
        jax.config.update("jax_enable_compilation_cache", False)
    elif compilation_cache != "auto":
        path = _checked("--compilation-cache", compilation_cache)
        jax.config.update("jax_compilation_cache_dir", str(path))
    elif _CACHE_VARIABLE not in os.environ:
        _use_own_cache()
    elif (named := os.environ[_CACHE_VARIABLE]) and "://" not in named:
        # Only checked: jax reads the variable itself.
        _checked(_CACHE_VARIABLE, named)


def matmul_precision(backend: str) -> str | None:
    """The jax_default_matmul_precision at which this backend computes float32 products and convolutions in float32.

    By default, GPUs round the operands to TF32 (10 bits of mantissa instead of 23) and TPUs to bfloat16 (7 bits).
    Products of bfloat16 operands (--train.precision bf16) are not affected. None is jax's default: CPUs always compute
    in float32, and the METAL plugin supports no other setting.
    """
    return "highest" if backend in ("gpu", "tpu") else None


def _choose(device: Device) -> None:
    # jax writes only this name in capitals. The CPU stays available next to every backend.
    platform = "METAL" if device == "metal" else device
    if device != "auto":
        jax.config.update("jax_platforms", platform if device == "cpu" else f"{platform},cpu")
    try:
        found, reason = jax.default_backend(), ""
    except (RuntimeError, AssertionError) as error:
        # jax 0.5 and 0.10 raise AssertionError without a message if no backend starts.
        found, reason = "", " ".join(str(error).split()) or "it is not installed or finds no device"
    if device == "auto" and reason:
        variables = [name for name in ("JAX_PLATFORMS", "JAX_PLATFORM_NAME") if os.environ.get(name)]
        asked = "".join(f"{name}={os.environ[name]}: " for name in variables)
        raise UserError(f"{asked}no backend starts on this machine ({reason}): set JAX_PLATFORMS=cpu, or unset it")
    # jax reports both as gpu, and falls back to the CPU if a backend is missing.
    expected = "gpu" if device in ("cuda", "rocm") else platform
    if device != "auto" and found != expected:
        install = f"pip install '.[{device}]'" if device in ("cuda", "metal", "mps") else "install its jax plugin"
        raise UserError(
            f"--device: {device} does not start on this machine ({found or reason} instead): {install}, or leave "
            "--device out"
        )
    if found == "METAL":
        # The METAL plugin lacks 64-bit integers, which jax's default random bits need.
        jax.config.update("jax_threefry_partitionable", False)


def _checked(name: str, directory: str) -> Path:
    """The directory that the user gave as `name`, created if missing. Raises UserError if it cannot be used."""
    if not directory.strip():
        raise UserError(f"{name} is empty: give auto, off or a directory")
    try:
        path = Path(directory).expanduser().absolute()
    except RuntimeError as error:
        raise UserError(f"{name}: the home directory in {directory} is unknown: give another directory") from error
    if problem := _make_private(path):
        raise UserError(f"{name}: {problem}, or choose another directory")
    return path


def own_cache(name: str) -> Path | None:
    """A private directory of this name in the user's cache, created if missing; None if there can be none."""
    path = _user_cache()
    return path / name if path is not None and _make_private(path / name) is None else None


def _use_own_cache() -> None:
    path = _user_cache()
    problem = "no home directory: set HOME or XDG_CACHE_HOME" if path is None else _make_private(path)
    if problem:
        console.complain(f"continuing without a compilation cache: {problem}")
    else:
        jax.config.update("jax_compilation_cache_dir", str(path))


def _user_cache() -> Path | None:
    """The user's cache directory; None if there is no home directory."""
    # The XDG specification says to ignore relative paths; a relative HOME would mean the working directory.
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if sys.platform != "darwin" and named.is_absolute():
        return named / "flax_punkvae"
    try:
        home = Path.home()
    except RuntimeError:
        return None
    cache = Path("Library", "Caches") if sys.platform == "darwin" else Path(".cache")
    return home / cache / "flax_punkvae" if home.is_absolute() else None


def _make_private(directory: Path) -> str | None:
    """Create the directory, mode 0700, if it is missing; return why it must not be used and what to do, or None.

    jax runs the files in it as code, so no other user may be able to write them.
    """
    try:
        str(directory).encode()
    except UnicodeEncodeError:
        # jax accepts only UTF-8; a name of undecodable bytes would end in its traceback.
        return f"{str(directory).encode(errors='backslashreplace').decode()} is not UTF-8: set XDG_CACHE_HOME"
    try:
        for path in (*reversed(directory.parents), directory):
            path.mkdir(mode=0o700, exist_ok=True)
        if os.name == "posix" and (problem := _distrust(directory)):
            return problem
    except OSError as error:
        return f"{directory} cannot be created ({error.strerror}): create it first"
    return None if os.access(directory, os.W_OK | os.X_OK) else f"{directory} is not writable: change its permissions"


def _distrust(directory: Path) -> str | None:
    user = os.geteuid()
    for link in _links(directory):
        if link.lstat().st_uid not in (0, user):
            return f"the symbolic link {link} belongs to another user, who may change it: remove it"
    status = directory.stat()
    if status.st_uid != user:
        return f"{directory} belongs to another user, whose code would be run: remove it"
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write to {directory}, and their code would be run: empty it and `chmod go-w` it"
    return None


def _links(path: Path) -> Iterator[Path]:
    """The symbolic links followed on the way to an absolute path, including links to links."""
    for _ in range(_MOST_LINKS):
        link = next((place for place in (*reversed(path.parents), path) if place.is_symlink()), None)
        if link is None:
            return
        yield link
        path = link.parent / link.readlink() / path.relative_to(link)
