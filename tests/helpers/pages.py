"""The page's server on a small run, for tests with a client and with a browser."""

import os
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import filelock
import numpy as np
import pytest

from flax_punkvae.devices import backend
from flax_punkvae.experiments import train
from flax_punkvae.measures import features
from flax_punkvae.opening import Images
from flax_punkvae.page import layout
from flax_punkvae.page.cache import Cache
from flax_punkvae.page.library import Library
from flax_punkvae.trained import published as trained_published
from flax_punkvae.trained import runs
from flax_punkvae.training import run_directory
from helpers import transparent

PRESET = Path(__file__).parents[2] / "experiments" / "sprite" / "config.toml"
COUNT = 120
_SYNTHETIC = ("--data.source", "synthetic", "--data.synthetic-count", str(COUNT))
_FEW = (
    *("--config", str(PRESET), "--train.batch-size", "16", "--train.epochs", "10"),
    # So that after ten epochs the latents already matter.
    *("--train.beta", "0.1", "--train.learning-rate", "0.005"),
    *("--train.checkpoint-every", "10", "--model.hidden", "64", "--model.latent", "6"),
)
_SPRITES = (*_FEW, *_SYNTHETIC)
RUNS = {
    "sprites": (*_SPRITES, "--model.pixel-hidden", "0"),
    "drawn": (*_SPRITES, "--model.pixel-hidden", "8"),
    "transparent": (
        *(*_FEW, "--model.pixel-hidden", "8", "--data.tile", *[str(transparent.SIZE)] * 2),
        # So many that `evaluate` measures samples.
        *("--data.test-fraction", "0.34"),
    ),
    "pictures": (
        *(*_SYNTHETIC, "--train.batch-size", "31", "--train.epochs", "1", "--model.latent", "5", "--model.hidden", "8"),
        *("--model.encoder-widths", "4", "8", "--model.decoder-widths", "4"),
    ),
}


def trained(kind: str) -> Path:
    """A run of made-up characters, trained once and only to be read.

    `sprites`: of a categorical model; `drawn`: whose decoder is autoregressive; `transparent`: the same on RGBA
    sprites; `pictures`: of the reference model.
    """
    run = Path(os.environ["SHARED_TEST_RUNS"]) / kind
    with filelock.FileLock(run.with_suffix(".lock")):
        if not run.exists():
            source = ()
            if kind == "transparent":
                source = ("--data.source", str(transparent.sheet(run.with_suffix(".png"), COUNT)))
            assert train.main([*RUNS[kind], *source, "--run-dir", str(run)]) == 0
    return run


def library(run: Path, cache: Path | None = None, images: Images | None = None) -> Library:
    """The library of a run, not yet filled."""
    backend.prepare("auto")
    return Library(runs.load(run), run, run, images or Images(), Cache(cache))


def published(library: Library) -> dict[str, bytes]:
    """The files of the library's model, as `publish` writes them."""
    config = run_directory.read_config(library.directory)
    model = replace(library.model, description=replace(library.model.description, source="synthetic"))
    return trained_published.files(model, config, {})


def wait(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.02)


def label_logits(network: features.Network, sprites: np.ndarray) -> np.ndarray:
    """A stand-in that tells labels by a random projection: what matters is that the page says what it says."""
    weights = np.random.default_rng(0).standard_normal((24 * 24 * 3, len(network.label_names)))
    return (sprites.reshape(len(sprites), -1) / 255.0 - 0.4) @ weights


def measure_few(monkeypatch: pytest.MonkeyPatch, few: int = 4) -> None:
    """Measure the edits of the first labels only, to save time."""
    effect = Library._effect

    def measured(self: Library, column: int, adds: bool) -> dict[str, Any] | None:
        return effect(self, column, adds) if column < few else None

    monkeypatch.setattr(Library, "_effect", measured)


class _Here:
    """In the place of a process that lays out the map: does so in this one, which need not start and import."""

    def __init__(self, command: list[str], **_: Any) -> None:
        layout.write_tsne(*command[-2:])

    def wait(self, _: float | None = None) -> int:
        return 0

    def kill(self) -> None:
        """It has ended."""


def lay_out_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lay out maps by t-SNE in this process, to save time; page/test_layout.py tests the other one."""
    parts = {"Popen": _Here, "DEVNULL": subprocess.DEVNULL, "TimeoutExpired": subprocess.TimeoutExpired}
    monkeypatch.setattr(layout, "subprocess", SimpleNamespace(**parts))


def put_reader(monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]) -> None:
    """Put a reader of these labels in the place of the shipped network, which knows punks alone."""
    monkeypatch.setattr(features, "load", lambda: features.Network(None, names, "f" * 64))
    monkeypatch.setattr(features, "label_logits", label_logits)
