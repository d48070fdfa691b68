"""Measure the reference's speed: `python -m flax_punkvae.experiments.benchmark [--peer torch|plain]`.

Every contender runs in a process of its own, so that each has its own peak memory, and they take turns: what the
machine does beside meets them alike, and only ratios within a round are compared. A figure is the median over rounds.
"""

import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from flax_punkvae.config import Config, DataConfig, TrainConfig, parse
from flax_punkvae.errors import UserError, run_program

PROG = "python -m flax_punkvae.experiments.benchmark"
# Multiply-adds of a forward pass of the reference on one image; a step is counted as three forward passes.
_FORWARD_MACS = 318e6
_PRODUCT_SIDE = 4096


@dataclass(frozen=True)
class Options:
    """Time the reference's training step, forward pass, sampling and loading, beside a peer where one is named."""

    peer: Literal["none", "torch", "plain"] = "none"
    """torch: our PyTorch version in its best setting (extra `bench`); plain: Flax's own layers."""
    rounds: int = 5
    """Turns that each contender has."""
    steps: int = 4
    """Training steps in a turn."""
    batch_size: int = 64
    """Images a step."""
    source: str = "auto"
    """What loading loads, as --data.source of train."""
    output: Path = Path("benchmark.json")
    """Where the figures go, as JSON."""


class Worker:
    """A process that answers a request, a line with a name, with a line of JSON."""

    def __init__(self, name: str, batch_size: int, source: str) -> None:
        self.name = name
        code = f"from flax_punkvae.experiments.benchmark import work; work({name!r}, {batch_size}, {source!r})"
        self._started = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self._answer()

    def ask(self, request: str, count: int = 1) -> dict[str, Any]:
        """Have the worker do it `count` times; answers with at least `seconds`, for one of them."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{request} {count}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise UserError(f"benchmark: expected an answer from {self.name}, but its process ended (see above)")
        return json.loads(line)


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write JSON; the exit status is 0."""
    options = parse(Options, arguments, Options(), PROG)
    for name in ("rounds", "steps", "batch_size"):
        if not 1 <= getattr(options, name) <= 65_536:
            raise UserError(f"{name}: expected a whole number from 1 to 65536, got {getattr(options, name)}")
    if options.peer == "torch" and importlib.util.find_spec("torch") is None:
        raise UserError("--peer torch: expected PyTorch, got none installed: `pip install torch==2.13.0`")
    if not options.output.parent.is_dir():
        raise UserError(f"--output: expected a file in a directory that is there, got {options.output}")

    def start(name: str) -> Worker:
        print(f"starting {name}", file=sys.stderr)
        return Worker(name, options.batch_size, options.source)

    ours = start("f32")
    contenders = [ours]
    if ours.facts["backend"] in ("gpu", "tpu"):
        contenders.append(start("bf16"))
    settings = {}
    if options.peer == "plain":
        contenders.append(start("plain"))
    elif options.peer == "torch":
        best, settings = _best_torch(start)
        contenders.append(best)
    rounds = [{worker.name: worker.ask("train", options.steps) for worker in contenders} for _ in range(options.rounds)]
    parts = {
        request: median(ours.ask(request, options.steps)["seconds"] for _ in range(options.rounds))
        for request in ("forward", "sample", "input", "product")
    }
    facts = {worker.name: worker.facts for worker in contenders}
    for worker in contenders:
        worker.close()
    loader = start("load")
    loading = loader.facts
    loader.close()
    result = _summary(options, rounds, parts, settings, loading)
    result["machine"] = {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "python": sys.version.split()[0],
    }
    result["workers"] = facts
    options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _print_table(result, options)
    return 0


def _best_torch(start: Callable[[str], Worker]) -> tuple[Worker, dict[str, float]]:
    """The fastest of PyTorch's settings by the median of three turns each, and those of all."""
    workers = [start(f"torch-{setting}") for setting in ("eager", "channels-last", "compiled")]
    turns = [{worker.name: worker.ask("train", 2)["seconds"] for worker in workers} for _ in range(3)]
    settings = {worker.name: median(turn[worker.name] for turn in turns) for worker in workers}
    best = min(workers, key=lambda worker: settings[worker.name])
    for worker in workers:
        if worker is not best:
            worker.close()
    return best, settings


def _summary(
    options: Options,
    rounds: list[dict[str, dict[str, Any]]],
    parts: dict[str, float],
    settings: dict[str, float],
    loading: dict[str, Any],
) -> dict[str, Any]:
    ceiling = 2 * _PRODUCT_SIDE**3 / parts["product"]
    flops = 3 * 2 * _FORWARD_MACS * options.batch_size
    training = {}
    for name in rounds[0]:
        seconds = median(turn[name]["seconds"] for turn in rounds)
        training[name] = {
            "seconds_per_step": seconds,
            "processor_seconds_per_step": median(turn[name]["processor_seconds"] for turn in rounds),
            "images_per_second": options.batch_size / seconds,
            "share_of_product_ceiling": flops / seconds / ceiling,
            "peak_memory_gb": rounds[-1][name]["peak_memory_gb"],
            "ratios_to_ours": [turn[name]["seconds"] / turn["f32"]["seconds"] for turn in rounds],
        }
        training[name]["median_ratio_to_ours"] = median(training[name]["ratios_to_ours"])
    return {
        "batch_size": options.batch_size,
        "training": training,
        "torch_settings_seconds_per_step": settings,
        "product_gflops": ceiling / 1e9,
        "forward_images_per_second": options.batch_size / parts["forward"],
        "sampling_images_per_second": options.batch_size / parts["sample"],
        "input_share_of_step": parts["input"] / training["f32"]["seconds_per_step"],
        "loading": loading,
    }


def _print_table(result: dict[str, Any], options: Options) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("training", "s/step", "cpu s/step", "images/s", "of ceiling", "peak GB", "s/step over ours, by round")
    for name, row in result["training"].items():
        ratios = " ".join(f"{ratio:.2f}" for ratio in row["ratios_to_ours"])
        table.add_row(
            name,
            f"{row['seconds_per_step']:.3f}",
            f"{row['processor_seconds_per_step']:.3f}",
            f"{row['images_per_second']:.1f}",
            f"{row['share_of_product_ceiling']:.0%}",
            f"{row['peak_memory_gb']:.2f}",
            f"{row['median_ratio_to_ours']:.2f} ({ratios})",
        )
    console = Console(width=120, highlight=False)
    console.print(table)
    for name, seconds in result["torch_settings_seconds_per_step"].items():
        console.print(f"{name}: {seconds:.3f} s/step before the rounds")
    console.print(f"matrix product ceiling, measured: {result['product_gflops']:.0f} GFLOP/s")
    console.print(f"forward pass: {result['forward_images_per_second']:.0f} images/s")
    console.print(f"sampling: {result['sampling_images_per_second']:.0f} images/s")
    console.print(f"input pipeline: {result['input_share_of_step']:.2%} of a step")
    spans = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["loading"]["seconds"].items())
    console.print(f"from cold start to ready, {result['loading']['count']} images: {spans}")
    console.print(f"written to {options.output}")


def work(name: str, batch_size: int, source: str) -> None:
    """A worker's process: build, warm up, say what it is, then answer requests until there are no more."""
    began = time.monotonic()
    if name == "load":
        print(json.dumps(_load(began, source)), flush=True)
        return
    if name.startswith("torch-"):
        from flax_punkvae.peers import pytorch

        # Inductor and others print; the answers go to the real standard output alone.
        answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)
        requests: dict[str, Callable[[int], Any]] = {"train": pytorch.prepare(name.removeprefix("torch-"), batch_size)}
        facts = pytorch.describe()
    else:
        answers = sys.stdout
        requests, facts = _plain(batch_size) if name == "plain" else _ours(name, batch_size)
    print(json.dumps(facts), file=answers, flush=True)
    warm = set()
    for line in sys.stdin:
        request, count = line.split()[0], int(line.split()[1])
        if line not in warm:
            # Compiles, which is not timed; another count is another shape.
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
    """Seconds from this process's first line to images and state on the device, and where they go."""
    import jax

    from flax_punkvae import backend, data, training
    from flax_punkvae.reporting import Report

    del Report
    spans = {"imports": time.monotonic() - began}
    backend.prepare("auto")
    mark = time.monotonic()
    dataset = data.load(DataConfig(source=source))
    spans["images"] = time.monotonic() - mark
    mark = time.monotonic()
    jax.block_until_ready((jax.device_put(dataset.images), training.create_state(Config(), jax.random.key(0)).params))
    spans["state and transfer"] = time.monotonic() - mark
    spans["in all"] = time.monotonic() - began
    return {"count": len(dataset.images), "seconds": spans}


def _ours(precision: str, batch_size: int) -> tuple[dict[str, Callable[[int], Any]], dict[str, Any]]:
    import jax
    import jax.numpy as jnp
    import numpy as np

    from flax_punkvae import backend, training

    backend.prepare("auto")
    train = TrainConfig(precision="bf16" if precision == "bf16" else "f32", batch_size=batch_size)
    state = training.create_state(Config(train=train), jax.random.key(0))
    images = jnp.array(np.random.default_rng(0).integers(0, 256, (4 * batch_size, 128, 128, 3), np.uint8))
    key = jax.random.key(1)
    side = jnp.ones((_PRODUCT_SIDE, _PRODUCT_SIDE), jnp.bfloat16 if precision == "bf16" else jnp.float32)
    multiply = jax.jit(lambda a: a @ a)
    gather = jax.jit(lambda images, batch: images[batch].astype(jnp.float32) / 255.0)

    def steps(count: int) -> None:
        nonlocal state
        order = training.epoch_order(key, 0, len(images), batch_size)
        indices = order[np.arange(count) % len(order)]
        state, metrics = training.train_steps(state, images, indices, key)
        jax.block_until_ready((state.params, metrics))

    def repeat(function: Callable[[], Any]) -> Callable[[int], Any]:
        return lambda count: [jax.block_until_ready(function()) for _ in range(count)]

    z = jax.random.normal(key, (batch_size, Config().model.latent))
    return {
        "train": steps,
        "forward": repeat(lambda: training.eval_step(state, images[:batch_size], key)),
        "sample": repeat(lambda: training.decode(state, z)),
        "input": repeat(lambda: gather(images, training.epoch_order(key, 0, len(images), batch_size)[0])),
        "product": repeat(lambda: multiply(side)),
    }, {
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
    }


def _plain(batch_size: int) -> tuple[dict[str, Callable[[int], Any]], dict[str, Any]]:
    import flax
    import jax

    from flax_punkvae.peers import plain

    state = plain.create_state(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (batch_size, 128, 128, 3))

    def steps(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, _ = plain.train_step(state, images, jax.random.key(2))
        jax.block_until_ready(state.params)

    return {"train": steps}, {"jax": jax.__version__, "flax": flax.__version__}


if __name__ == "__main__":
    run_program(main)
