"""A published model: a folder of plain files from which it opens anywhere, without its run or its images.

config.json holds everything that a Model holds except arrays, the run's config and where the model comes from;
model.safetensors holds the parameters, as `params.` and their names in Flax, and the other arrays, as `model.` and
theirs. Only these two are read.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
import safetensors.numpy
from flax import traverse_util

from flax_punkvae.config import Config, to_table
from flax_punkvae.errors import UserError
from flax_punkvae.opening import PUBLISHED_CONFIG as CONFIG
from flax_punkvae.opening import PUBLISHED_WEIGHTS as WEIGHTS
from flax_punkvae.presets import from_run
from flax_punkvae.trained.model import Model
from flax_punkvae.training import checkpoints, description
from flax_punkvae.training.description import Description

_FORMAT = 1
_KIND = "flax_punkvae"


class Published(NamedTuple):
    """A published model's parameters (NumPy arrays), their description, and config.json as it is."""

    params: Any
    description: Description
    facts: dict[str, Any]


def files(model: Model, config: Config, provenance: dict[str, Any]) -> dict[str, bytes]:
    """The content of both files, by name. `provenance` are facts, as JSON, about the images and the training."""
    facts, arrays = description.pack(model.description)
    params = jax.tree.map(np.asarray, model.params)
    flat: dict[str, Any] = traverse_util.flatten_dict(params, sep=".")
    tensors = {f"params.{name}": leaf for name, leaf in flat.items()}
    tensors |= {f"model.{name}": array for name, array in arrays.items()}
    # safetensors stores memory as it lies, whatever the strides.
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    digest = checkpoints.digest(tensors)
    about = {
        "kind": _KIND,
        "format": _FORMAT,
        "checkpoint": model.checkpoint,
        "tensors_sha256": digest,
        **facts,
        "run": to_table(config),
        "provenance": provenance,
    }
    weights = safetensors.numpy.save(tensors, {"kind": _KIND, "format": str(_FORMAT), "tensors_sha256": digest})
    return {CONFIG: (json.dumps(about, indent=2) + "\n").encode(), WEIGHTS: weights}


def read_facts(directory: Path) -> dict[str, Any]:
    """The content of config.json. Raises UserError if it is damaged or of another version."""
    with _explained(directory):
        facts = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
        if not isinstance(facts, dict) or facts.get("kind") != _KIND:
            raise UserError(f"{directory / CONFIG} does not describe a model of flax_punkvae: name another folder")
        if facts.get("format") != _FORMAT:
            raise UserError(f"{directory} has format {facts.get('format')!r}, not {_FORMAT}: update flax_punkvae")
        return facts


def read_config(directory: Path) -> Config:
    """The config of the run that trained it. Raises UserError as `read` does."""
    facts = read_facts(directory)
    with _explained(directory):
        return from_run(facts["run"], directory / CONFIG)


def read(directory: Path) -> Published:
    """Read a published model. Raises UserError if a file is damaged or of another version."""
    facts = read_facts(directory)
    with _explained(directory):
        tensors = safetensors.numpy.load((directory / WEIGHTS).read_bytes())
        if checkpoints.digest(tensors) != facts["tensors_sha256"]:
            raise ValueError("the digest of its tensors differs")
        parts: dict[str, dict[str, Any]] = {"params": {}, "model": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        params = traverse_util.unflatten_dict(parts["params"], sep=".")
        described = description.unpack(facts, parts["model"], directory / CONFIG)
        if checkpoints.digest(params) != described.params_sha256:
            raise ValueError("the digest of its parameters differs")
        return Published(params, described, facts)


@contextlib.contextmanager
def _explained(directory: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, safetensors.SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{directory}: the published model is damaged ({what}): get it again") from error
