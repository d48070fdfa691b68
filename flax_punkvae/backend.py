"""What must be set on jax before a program's first computation."""

import os
import sys
from pathlib import Path

import jax

from flax_punkvae.errors import UserError


def prepare(compilation_cache: str) -> None:
    """Switch on the persistent compilation cache (`auto`, `off` or a directory), and what a backend needs.

    `auto` leaves a directory that JAX_COMPILATION_CACHE_DIR names as it is. Raises UserError where a directory that was
    asked for cannot be written.
    """
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
    if jax.default_backend() == "METAL":
        # Its plugin knows no 64-bit integers, which the default way of drawing random bits brings in.
        jax.config.update("jax_threefry_partitionable", False)


def _user_cache() -> Path:
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "flax_punkvae"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flax_punkvae"
