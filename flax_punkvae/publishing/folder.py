"""The files of a published model: weights, config, card, samples, evaluation."""

import json
import math
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from jaxtyping import UInt8

from flax_punkvae import images
from flax_punkvae.config import Config
from flax_punkvae.errors import UserError
from flax_punkvae.publishing.card import card
from flax_punkvae.trained import published
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import OpenedRun

CARD, SAMPLES, EVALUATION, IMAGES = "README.md", "samples.png", "evaluation.json", "reconstructions.png"
_SAMPLES, _COLUMNS = 24, 8
# Sides of the tiles of a grid, at least.
_LARGE = 96
_TITLES = {
    SAMPLES: "Samples, none of which is a training sprite",
    IMAGES: "Held-out images above their reconstructions",
}
# What a start in run.json says that others may know: not its command, which names files of this machine.
_TOLD = (
    "time",
    "version",
    "git_commit",
    "python",
    "libraries",
    "platform",
    "processors",
    "backend",
    "device",
    "devices",
)


def files(
    model: Model,
    config: Config,
    facts: dict[str, Any],
    seconds: float | None,
    evaluation: dict[str, Any] | None,
    name: str,
    licence: str | None,
    address: str,
    opened: OpenedRun | None = None,
) -> tuple[dict[str, bytes], list[str]]:
    """(the content of each file by name, lines for the user). `facts` are those of run.json.

    `opened`, the run with its images, adds a picture of held-out images and their reconstructions.
    """
    notes: list[str] = []
    model, config, provenance = _told(model, config, facts, seconds, licence)
    content = published.files(model, config, provenance)
    samples = _samples(model, notes)
    if samples is not None:
        content[SAMPLES] = samples
    if opened is not None:
        content[IMAGES] = _reconstructions(opened)
    if evaluation is not None:
        content[EVALUATION] = (json.dumps(evaluation, indent=2) + "\n").encode()
    else:
        notes.append("there is no evaluation.json in the run, so the card has no figures: run evaluate first")
    pictures = {title: file for file, title in _TITLES.items() if file in content}
    text = card(name, model, provenance, evaluation, licence, address, pictures)
    content[CARD] = text.encode()
    return content, notes


def model_files(model: Model, config: Config, facts: dict[str, Any], seconds: float | None) -> dict[str, bytes]:
    """The two files from which a published model opens. `facts` are those of run.json."""
    return published.files(*_told(model, config, facts, seconds, None))


def training_seconds(run: Path) -> float | None:
    """The time that the epochs of a run took, or None if that is unknown."""
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return float(sum(json.loads(line)["seconds"] for line in lines))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _told(
    model: Model, config: Config, facts: dict[str, Any], seconds: float | None, licence: str | None
) -> tuple[Model, Config, dict[str, Any]]:
    """(model, config, provenance) as others may read them: without names of this machine."""
    model, config, data = _without_paths(model, config, facts.get("data", {}))
    init = facts.get("init", {})
    provenance = {
        "data": data,
        **({"init": {**init, "model": _last(init["model"]), "source": _last(init["source"])}} if init else {}),
        "starts": [{key: start[key] for key in _TOLD if key in start} for start in facts.get("starts", [])],
        "seconds": seconds,
        "licence": licence,
    }
    return model, config, provenance


def _without_paths(model: Model, config: Config, data: dict[str, Any]) -> tuple[Model, Config, dict[str, Any]]:
    """Both, and the facts about the images, without the names of folders and files of this machine but the last."""

    described = replace(model.description, source=_last(model.description.source))
    shown = {key: value for key, value in data.items() if key != "files"}
    if "source" in shown:
        shown["source"] = _last(str(shown["source"]))
    init = config.init and _last(config.init)
    config = replace(config, init=init, data=replace(config.data, source=_last(config.data.source)))
    return replace(model, description=described), config, shown


def _last(source: str) -> str:
    """A source, or the name of a model, without the folders that it is in."""
    kind, _, path = source.partition(" ")
    if kind in ("sheet", "folder"):
        return f"{kind} {PurePath(path).name}"
    return source if source.startswith("hub:") else PurePath(source).name or source


def _samples(model: Model, notes: list[str]) -> bytes | None:
    """A grid of samples, of which none is a training sprite."""
    if model.description.palette is None:
        notes.append("the images are not sprites, so that samples cannot be told from training images: none are shown")
        return None
    try:
        found = model.sample(_SAMPLES, seed=0, new=True)
    except UserError as error:
        notes.append(f"no samples are shown ({error})")
        return None
    return _grid(found)


def _reconstructions(opened: OpenedRun) -> bytes:
    """A PNG: a row of held-out images (training images if none are held out), their reconstructions below."""
    shown = (opened.test_indices if len(opened.test_indices) else opened.train_indices)[:_COLUMNS]
    means, _ = opened.encode(shown)
    return _grid(np.concatenate([opened.dataset.pictures(shown), opened.model.decode(means)]), len(shown))


def _grid(pictures: UInt8[np.ndarray, "n h w c"], columns: int = _COLUMNS) -> bytes:
    large = images.enlarge(pictures, max(math.ceil(_LARGE / max(pictures.shape[1:3])), 1))
    return images.to_png(images.grid(large, columns, gap=8))
