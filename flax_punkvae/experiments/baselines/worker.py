"""The process of one implementation: it times the requests on standard input and answers each with a line of JSON."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Shaped

from flax_punkvae import presets
from flax_punkvae.config import Config
from flax_punkvae.errors import run_program

# What takes time to import is imported later, by functions, since `_load` measures that too.
if TYPE_CHECKING:
    from flax_punkvae.data import Dataset

# Multiply-adds of the reference's forward pass on one image.
_REFERENCE_MACS = 318e6


def main() -> None:
    """Run `work` with the command line's arguments; a UserError is printed as one line."""

    def run(arguments: Sequence[str]) -> int:
        name, preset, batch_size, source, product_side = arguments
        config = presets.read_preset(Path(preset)) if preset else Config()
        config = replace(config, train=replace(config.train, batch_size=int(batch_size)))
        work(name, replace(config, data=replace(config.data, source=source)), int(product_side))
        return 0

    run_program(run)


def work(name: str, config: Config, product_side: int) -> None:
    """Build the implementation `name`, print its versions and devices, then answer requests until input ends."""
    began = time.monotonic()
    if name == "load":
        print(json.dumps(_load(began, config)), flush=True)
        return
    if name.startswith("torch-"):
        # Inductor and others print to standard output, so redirect theirs and keep the real one for answers.
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        requests, facts = _torch(name.removeprefix("torch-"), config)
    else:
        answers = sys.stdout
        plain = name == "plain"
        requests, facts = _plain(config.train.batch_size) if plain else _ours(name, config, product_side)
    print(json.dumps(facts), file=answers, flush=True)
    warm = set()
    for line in sys.stdin:
        request, count = line.split()[0], int(line.split()[1])
        if line not in warm:
            # The first call compiles and is not timed; each count has its own shapes.
            requests[request](count)
            warm.add(line)
        processor, wall = time.process_time(), time.perf_counter()
        requests[request](count)
        answer = {
            "seconds": (time.perf_counter() - wall) / count,
            "processor_seconds": (time.process_time() - processor) / count,
            "peak_memory_gb": _peak_memory_gb(),
        }
        print(json.dumps(answer), file=answers, flush=True)


def _peak_memory_gb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**30 if sys.platform == "darwin" else peak / 2**20


def _load(began: float, config: Config) -> dict[str, Any]:
    """Seconds from the start of `work` until images and state are on the device, in all and by part."""
    import jax

    from flax_punkvae import data
    from flax_punkvae.devices import backend
    from flax_punkvae.training import loop
    from flax_punkvae.training import state as train_state

    del loop  # Imported for its time: a training run imports it.
    spans = {"imports": time.monotonic() - began}
    backend.prepare("auto")
    mark = time.monotonic()
    dataset = data.load(config.data)
    spans["images"] = time.monotonic() - mark
    mark = time.monotonic()
    sprites = _training_sprites(config, dataset) if dataset.colours else (None, 0)
    state = train_state.create_state(config, jax.random.key(0), *sprites)
    jax.block_until_ready((jax.device_put(dataset.images.pixels), state.params))
    spans["state and transfer"] = time.monotonic() - mark
    spans["in all"] = time.monotonic() - began
    return {"count": len(dataset.images), "seconds": spans}


def _training_sprites(config: Config, dataset: "Dataset") -> tuple[Shaped[np.ndarray, "n h w 1"], int]:
    """The training sprites as palette indices, and the number of colours: a model with a palette depends on them."""
    return dataset.images[dataset.parts(config.data).train], dataset.colours


def _training_images(config: Config) -> tuple[Shaped[np.ndarray, "n h w c"], int]:
    """The images to time steps on, and their number of colours: noise, or sprites if the model has a palette."""
    from flax_punkvae import data
    from flax_punkvae.model.likelihoods import LIKELIHOODS

    if LIKELIHOODS[config.model.likelihood].palette:
        return _training_sprites(config, data.load(config.data))
    return np.random.default_rng(0).integers(0, 256, (4 * config.train.batch_size, 128, 128, 3), np.uint8), 0


def _torch(setting: str, config: Config) -> tuple[dict[str, Callable[[int], Any]], dict[str, Any]]:
    from flax_punkvae.experiments.baselines import pytorch, pytorch_sprites
    from flax_punkvae.model.palette import Support

    images, colours = _training_images(config)
    if colours:
        train = pytorch_sprites.prepare(setting, config, images, Support.of(images, colours))
    else:
        train = pytorch.prepare(setting, config.train.batch_size)
    return {"train": train}, pytorch.describe()


def _ours(precision: str, config: Config, product_side: int) -> tuple[dict[str, Callable[[int], Any]], dict[str, Any]]:
    import jax
    import jax.numpy as jnp

    from flax_punkvae.devices import backend
    from flax_punkvae.model import inference
    from flax_punkvae.training import state as train_state
    from flax_punkvae.training import steps

    backend.prepare("auto")
    config = replace(config, train=replace(config.train, precision="bf16" if precision == "bf16" else "f32"))
    batch_size, (host_images, colours) = config.train.batch_size, _training_images(config)
    state = train_state.create_state(config, jax.random.key(0), host_images, colours)
    images = jnp.array(host_images)
    key = jax.random.key(1)
    side = jnp.ones((product_side, product_side), jnp.bfloat16 if precision == "bf16" else jnp.float32)
    multiply = jax.jit(lambda a: a @ a)
    gather = jax.jit(lambda images, batch: state.model.likelihood.pixels(images[batch]))

    batch = np.arange(batch_size, dtype=np.int32)

    def train_some(count: int) -> None:
        # In one call, as in a training run, whose calls take some seconds.
        nonlocal state
        order = steps.epoch_order(key, 0, min(len(images), 4 * batch_size), (count, batch_size))
        state, _ = steps.train_steps(state, images, order, key, 0, count)
        jax.block_until_ready(state.params)

    def repeat(function: Callable[[], Any]) -> Callable[[int], Any]:
        return lambda count: [jax.block_until_ready(function()) for _ in range(count)]

    z = jax.random.normal(key, (batch_size, config.model.latent))
    return {
        "train": train_some,
        "forward": repeat(lambda: steps.eval_step(state.model, state.params, state.beta, images, batch, key)),
        "sample": repeat(lambda: inference.decode(state.model, state.params, z)),
        "input": repeat(lambda: gather(images, batch)),
        "product": repeat(lambda: multiply(side)),
    }, {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "forward_macs": _forward_macs(state),
    }


def _forward_macs(state: Any) -> float:
    """Multiply-adds of the forward pass on one image."""
    if not (support := state.model.support):
        return _REFERENCE_MACS
    kernels = {path: leaf.size for path, leaf in _paths(state.params) if leaf.ndim == 2 and "kernel" in path}
    pixels = sum(size for path, size in kernels.items() if "pixels" in path and "palette" not in path)
    dense = sum(size for path, size in kernels.items() if "pixels" not in path and "palette" not in path)
    features = sum(leaf.shape[1] for path, leaf in _paths(state.params) if "palette" in path and "kernel" in path)
    listed = int((support.open_lists < support.colours).sum())
    return dense + pixels * len(support.open) + features * listed


def _paths(params: Any) -> list[tuple[str, Any]]:
    import jax

    return [(jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(params)]


def _plain(batch_size: int) -> tuple[dict[str, Callable[[int], Any]], dict[str, Any]]:
    import flax
    import jax

    from flax_punkvae.experiments.baselines import plain

    state = plain.create_state(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (batch_size, 128, 128, 3))

    def train_some(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, _ = plain.train_step(state, images, jax.random.key(2))
        jax.block_until_ready(state.params)

    return {"train": train_some}, {"jax": jax.__version__, "flax": flax.__version__}
