"""What must be set on jax before a program's first computation."""

import os
import sys
from pathlib import Path

import jax

from flax_punkvae.config import Device
from flax_punkvae.errors import UserError


def prepare(compilation_cache: str, device: Device = "auto") -> None:
    """Choose the backend, switch on the persistent compilation cache (`auto`, `off` or a directory).

    Device `auto` is jax's own choice; cache `auto` leaves a directory that JAX_COMPILATION_CACHE_DIR names as it is.
    Raises UserError where a backend that was asked for does not start, or a directory cannot be written.
    """
    _choose(device)
    if compilation_cache == "off":
        jax.config.update("jax_enable_compilation_cache", False)
    elif compilation_cache != "auto" or "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        directory = _user_cache() if compilation_cache == "auto" else Path(compilation_cache)
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if compilation_cache != "auto":
                raise UserError(
                    f"--compilation-cache: expected auto, off, or a directory that can be made, "
                    f"got {compilation_cache}: {error.strerror}"
                ) from error
            return
        jax.config.update("jax_compilation_cache_dir", str(directory.absolute()))


def _choose(device: Device) -> None:
    if device != "auto":
        # The one name that jax has in capitals. The CPU stays at hand beside each.
        platform = "METAL" if device == "metal" else device
        jax.config.update("jax_platforms", platform if device == "cpu" else f"{platform},cpu")
        # What jax calls the backend of both: and it passes over one that is not there, down to the CPU.
        expected = "gpu" if device in ("cuda", "rocm") else platform
        try:
            found = jax.default_backend()
        except RuntimeError as error:
            found = " ".join(str(error).split())
        if found != expected:
            install = f"pip install '.[{device}]'" if device in ("cuda", "metal", "mps") else "install its jax plugin"
            raise UserError(
                f"--device: expected a backend that starts here, got {device}, which does not ({found} instead): "
                f"{install}, or leave --device out"
            )
    if jax.default_backend() == "METAL":
        # Its plugin knows no 64-bit integers, which the default way of drawing random bits brings in.
        jax.config.update("jax_threefry_partitionable", False)


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "flax_punkvae"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flax_punkvae"
