"""Describe the environment of a run, to explain differences between runs."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import jax

from flax_punkvae import __version__

# jax settings that affect random numbers and rounding.
_SETTINGS = (
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_enable_x64",
    "jax_threefry_partitionable",
)
_LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "pillow", "datasets")


def describe() -> dict[str, Any]:
    """Versions, platform, device, jax settings and git commit."""
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
        "settings": {name: getattr(jax.config, name) for name in _SETTINGS},
    }


def _git_commit() -> str | None:
    """The commit of the checkout that contains this package; None if it is installed elsewhere."""
    here = Path(__file__)
    try:
        # An installed copy may lie inside an unrelated checkout.
        subprocess.run(
            ["git", "ls-files", "--error-unmatch", here.name], cwd=here.parent, check=True, capture_output=True
        )
        commit = ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
        return subprocess.run(commit, cwd=here.parent, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
