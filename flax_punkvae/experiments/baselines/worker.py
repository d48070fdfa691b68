"""The process of one implementation: it times the requests on standard input and answers each with a line of JSON."""

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from flax_punkvae.config import Config, DataConfig, TrainConfig
from flax_punkvae.errors import run_program


def main() -> None:
    """Run `work` with the command line's arguments; a UserError is printed as one line."""

    def run(arguments: Sequence[str]) -> int:
        name, batch_size, source, product_side = arguments
        work(name, int(batch_size), source, int(product_side))
        return 0

    run_program(run)


def work(name: str, batch_size: int, source: str, product_side: int) -> None:
    """Build the implementation `name`, print its versions and devices, then answer requests until input ends."""
    began = time.monotonic()
    if name == "load":
        print(json.dumps(_load(began, source)), flush=True)
        return
    if name.startswith("torch-"):
        from flax_punkvae.experiments.baselines import pytorch

        # Inductor and others print to standard output, so redirect theirs and keep the real one for answers.
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        requests: dict[str, Callable[[int], Any]] = {"train": pytorch.prepare(name.removeprefix("torch-"), batch_size)}
        facts = pytorch.describe()
    else:
        answers = sys.stdout
        requests, facts = _plain(batch_size) if name == "plain" else _ours(name, batch_size, product_side)
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


def _load(began: float, source: str) -> dict[str, Any]:
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
    dataset = data.load(DataConfig(source=source))
    spans["images"] = time.monotonic() - mark
    mark = time.monotonic()
    jax.block_until_ready(
        (jax.device_put(dataset.images[:]), train_state.create_state(Config(), jax.random.key(0)).params)
    )
    spans["state and transfer"] = time.monotonic() - mark
    spans["in all"] = time.monotonic() - began
    return {"count": len(dataset.images), "seconds": spans}


def _ours(precision: str, batch_size: int, product_side: int) -> tuple[dict[str, Callable[[int], Any]], dict[str, Any]]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from flax_punkvae.devices import backend
    from flax_punkvae.model import inference
    from flax_punkvae.training import state as train_state
    from flax_punkvae.training import steps

    backend.prepare("auto")
    train = TrainConfig(precision="bf16" if precision == "bf16" else "f32", batch_size=batch_size)
    state = train_state.create_state(Config(train=train), jax.random.key(0))
    images = jnp.array(np.random.default_rng(0).integers(0, 256, (4 * batch_size, 128, 128, 3), np.uint8))
    key = jax.random.key(1)
    side = jnp.ones((product_side, product_side), jnp.bfloat16 if precision == "bf16" else jnp.float32)
    multiply = jax.jit(lambda a: a @ a)
    gather = jax.jit(lambda images, batch: images[batch].astype(jnp.float32) / 255.0)

    order = steps.epoch_order(key, 0, len(images), (4, batch_size))

    def train_some(count: int) -> None:
        nonlocal state
        for begin in range(0, count, len(order)):
            state, _ = steps.train_steps(state, images, order, key, 0, min(len(order), count - begin))
        jax.block_until_ready(state.params)

    def repeat(function: Callable[[], Any]) -> Callable[[int], Any]:
        return lambda count: [jax.block_until_ready(function()) for _ in range(count)]

    z = jax.random.normal(key, (batch_size, Config().model.latent))
    return {
        "train": train_some,
        "forward": repeat(lambda: steps.eval_step(state.model, state.params, state.beta, images, order[0], key)),
        "sample": repeat(lambda: inference.decode(state.model, state.params, z)),
        "input": repeat(lambda: gather(images, order[0])),
        "product": repeat(lambda: multiply(side)),
    }, {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


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
