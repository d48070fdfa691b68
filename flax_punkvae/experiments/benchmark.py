"""Measure the speed of training: `python -m flax_punkvae.experiments.benchmark [--preset sprite] [--peer torch|plain]`.

Each implementation runs in its own process, so that its peak memory is measured separately. They take turns, so that
other load on the machine affects all alike; only compare ratios within a round. Figures are medians over rounds.
"""

import importlib.util
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

from flax_punkvae import console
from flax_punkvae.errors import UserError, run_program
from flax_punkvae.flags import parse

PROG = "python -m flax_punkvae.experiments.benchmark"
_SPRITE = Path("experiments/sprite/config.toml")


@dataclass(frozen=True)
class Options:
    """Time a preset's training step, forward pass, sampling and loading, optionally next to a peer."""

    preset: Literal["reference", "sprite"] = "reference"
    """Which model: the reference, or the sprite preset (experiments/sprite/config.toml of a checkout)."""
    peer: Literal["none", "torch", "plain"] = "none"
    """torch: our PyTorch version in its fastest setting (extra `bench`); plain: Flax's own layers, reference only."""
    rounds: int = 5
    """Number of turns per implementation."""
    steps: int = 4
    """Training steps per turn."""
    batch_size: int = 64
    """Images per step."""
    source: str = "auto"
    """Images for the loading test, and to train the sprite preset on; the same values as train's --data.source."""
    product_side: int = 4096
    """Side of the square matrices whose product gives the machine's matrix-product ceiling."""
    output: Path = Path("benchmark.json")
    """JSON file to write."""


class Worker:
    """A process that answers each request (a line with a name) with a line of JSON."""

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        command = [sys.executable, "-c", "from flax_punkvae.experiments.baselines.worker import main; main()"]
        preset = str(_SPRITE) if options.preset == "sprite" else ""
        sizes = [preset, str(options.batch_size), options.source, str(options.product_side)]
        self._process = subprocess.Popen(
            [*command, name, *sizes], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self._answer()

    def ask(self, request: str, count: int = 1) -> dict[str, Any]:
        """Run the request `count` times in the worker; the answer has at least `seconds`, per run."""
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
            raise UserError(f"benchmark: the process of {self.name} ended without an answer: see its messages above")
        return json.loads(line)


def main(arguments: Sequence[str]) -> int:
    """Measure, print a table, write JSON; the exit status is 0."""
    options = parse(Options, arguments, Options(), PROG)
    for name in ("rounds", "steps", "batch_size", "product_side"):
        if not 1 <= getattr(options, name) <= 65_536:
            raise UserError(f"{name}: {getattr(options, name)} is out of range: choose a whole number from 1 to 65536")
    if options.peer == "torch" and importlib.util.find_spec("torch") is None:
        raise UserError("--peer torch: PyTorch is not installed: `pip install torch==2.13.0`")
    if options.peer == "plain" and options.preset != "reference":
        raise UserError("--peer plain: there is only the reference in Flax's own layers: leave out --preset")
    if options.preset == "sprite" and not _SPRITE.is_file():
        raise UserError(f"--preset sprite: there is no {_SPRITE} here: run this in a checkout of the repository")
    if not options.output.parent.is_dir() or options.output.is_dir():
        raise UserError(f"--output: {options.output} cannot be written: name a file in an existing directory")

    def start(name: str) -> Worker:
        console.complain(f"starting {name}")
        return Worker(name, options)

    ours = start("f32")
    workers = [ours]
    if ours.facts["backend"] in ("gpu", "tpu"):
        workers.append(start("bf16"))
    settings = {}
    if options.peer == "plain":
        workers.append(start("plain"))
    elif options.peer == "torch":
        best, settings = _best_torch(start)
        workers.append(best)
    rounds = [{worker.name: worker.ask("train", options.steps) for worker in workers} for _ in range(options.rounds)]
    parts = {
        request: median(ours.ask(request, options.steps)["seconds"] for _ in range(options.rounds))
        for request in ("forward", "sample", "input")
    }
    products = {
        worker.name: median(worker.ask("product", options.steps)["seconds"] for _ in range(options.rounds))
        for worker in workers
        if worker.name in ("f32", "bf16")
    }
    facts = {worker.name: worker.facts for worker in workers}
    for worker in workers:
        worker.close()
    loader = start("load")
    loading = loader.facts
    loader.close()
    result = _summary(options, ours.facts["forward_macs"], rounds, parts, products, settings, loading)
    result["machine"] = {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "python": sys.version.split()[0],
    }
    result["workers"] = facts
    try:
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{options.output} cannot be written ({error.strerror}): choose another --output") from error
    finally:
        # Print the figures even if the file cannot be written: they took minutes.
        _print_table(result)
    console.say(f"written to {options.output}")
    return 0


def _best_torch(start: Callable[[str], Worker]) -> tuple[Worker, dict[str, float]]:
    """Find PyTorch's fastest setting by the median of three turns; also return the medians of all settings."""
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
    forward_macs: float,
    rounds: list[dict[str, dict[str, Any]]],
    parts: dict[str, float],
    products: dict[str, float],
    settings: dict[str, float],
    loading: dict[str, Any],
) -> dict[str, Any]:
    # The ceiling is that of the implementation's own precision; peers use float32.
    ceilings = {name: 2 * options.product_side**3 / seconds for name, seconds in products.items()}
    # A training step counts as three forward passes, a multiply-add as two operations.
    flops = 3 * 2 * forward_macs * options.batch_size
    training = {}
    for name in rounds[0]:
        seconds = median(turn[name]["seconds"] for turn in rounds)
        training[name] = {
            "seconds_per_step": seconds,
            "processor_seconds_per_step": median(turn[name]["processor_seconds"] for turn in rounds),
            "images_per_second": options.batch_size / seconds,
            "share_of_product_ceiling": flops / seconds / ceilings.get(name, ceilings["f32"]),
            "peak_memory_gb": rounds[-1][name]["peak_memory_gb"],
            "ratios_to_ours": [turn[name]["seconds"] / turn["f32"]["seconds"] for turn in rounds],
        }
        training[name]["median_ratio_to_ours"] = median(training[name]["ratios_to_ours"])
    return {
        "preset": options.preset,
        "batch_size": options.batch_size,
        "product_side": options.product_side,
        "training": training,
        "torch_settings_seconds_per_step": settings,
        "product_gflops": {name: ceiling / 1e9 for name, ceiling in ceilings.items()},
        "forward_images_per_second": options.batch_size / parts["forward"],
        "sampling_images_per_second": options.batch_size / parts["sample"],
        "input_share_of_step": parts["input"] / training["f32"]["seconds_per_step"],
        "loading": loading,
    }


def _print_table(result: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(
        "training", "s/step", "cpu s/step", "images/s", "of ceiling", "host peak GB", "s/step over ours, by round"
    )
    for name, row in result["training"].items():
        ratios = " ".join(f"{ratio:.2f}" for ratio in row["ratios_to_ours"])
        table.add_row(
            name,
            f"{row['seconds_per_step']:.4f}",
            f"{row['processor_seconds_per_step']:.4f}",
            f"{row['images_per_second']:.1f}",
            f"{row['share_of_product_ceiling']:.0%}",
            f"{row['peak_memory_gb']:.2f}",
            f"{row['median_ratio_to_ours']:.2f} ({ratios})",
        )
    console.show(table)
    for name, seconds in result["torch_settings_seconds_per_step"].items():
        console.say(f"{name}: {seconds:.4f} s/step before the rounds")
    for name, gflops in result["product_gflops"].items():
        console.say(f"matrix product ceiling in {name}, measured: {gflops:.0f} GFLOP/s")
    console.say(f"forward pass: {result['forward_images_per_second']:.0f} images/s")
    console.say(f"sampling: {result['sampling_images_per_second']:.0f} images/s")
    console.say(f"input pipeline: {result['input_share_of_step']:.2%} of a step")
    spans = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["loading"]["seconds"].items())
    console.say(f"from cold start to ready, {result['loading']['count']} images: {spans}")


if __name__ == "__main__":
    run_program(main)
