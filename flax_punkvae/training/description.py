"""What a trained model needs besides its parameters; saved with each checkpoint, so that it opens without the images.

Two files: `model.json` and, for the arrays, `model.safetensors`.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8
from safetensors.numpy import load, save

from flax_punkvae import images
from flax_punkvae.config import Config, ModelConfig, TrainConfig, batches
from flax_punkvae.data import Dataset, Parts
from flax_punkvae.model.palette import Support
from flax_punkvae.presets import from_run

_FACTS = "model.json"
_ARRAYS = "model.safetensors"
_FORMAT = 1
_PLAIN = ("label_names", "source", "images_sha256", "step", "epochs", "params_sha256")


@dataclass(frozen=True, eq=False)
class Description:
    """A model's architecture, images and training.

    model, train, seed: from the run's config. image_shape: (h, w, c) of the network's images. render, background: how
    sprites are rendered to such images. palette: the colours of the training sprites, sorted; RGBA if any sprite is
    transparent in part; None if the images are not sprites. support: if the images are indices, the colours at each
    position. label_names: the labels of the dataset. source, images_sha256: where the images came from and the SHA-256
    of all of them, as the dataset holds them.

    train_indices: the positions of the training images in the dataset. train_digests: the SHA-256 of the bytes of each
    training sprite (or image, if they are not sprites), in its colours. step, epochs: how long the model was trained.
    params_sha256: the `checkpoints.digest` of the parameters.
    """

    model: ModelConfig
    train: TrainConfig
    seed: int
    image_shape: tuple[int, int, int]
    render: images.Render
    background: str
    palette: UInt8[np.ndarray, "p c"] | None = field(repr=False)
    support: Support | None = field(repr=False)
    label_names: tuple[str, ...] = field(repr=False)
    source: str
    images_sha256: str
    train_indices: Int[np.ndarray, "n"] = field(repr=False)
    train_digests: UInt8[np.ndarray, "n 32"] = field(repr=False)
    step: int = 0
    epochs: float = 0.0
    params_sha256: str = ""

    @property
    def channels(self) -> int:
        """Channels of its sprites and of pictures of its images: 3 for RGB, 4 for RGBA."""
        return 3 if self.palette is None else self.palette.shape[1]

    @property
    def sprite_size(self) -> tuple[int, int] | None:
        """(height, width) of a sprite; None if the images are not sprites."""
        if self.palette is None:
            return None
        return (images.SPRITE_SIZE, images.SPRITE_SIZE) if images.enlarges(self.render) else self.image_shape[:2]

    def at(self, step: int, params_sha256: str) -> "Description":
        """The description of the same model at another step."""
        epochs = step / batches(self.train, len(self.train_indices))[0]
        return dataclasses.replace(self, step=step, epochs=epochs, params_sha256=params_sha256)


def describe(config: Config, dataset: Dataset, parts: Parts, support: Support | None) -> Description:
    """The description of a run's model at step 0, without a digest of its parameters."""
    _, height, width, channels = dataset.images.shape
    return Description(
        **_settings(config),
        image_shape=(height, width, channels),
        palette=None if dataset.sprites is None else images.palette_of(dataset.sprites, parts.train),
        support=support,
        label_names=dataset.label_names,
        source=dataset.source,
        images_sha256=dataset.sha256,
        train_indices=parts.train,
        train_digests=digests(dataset.originals, parts.train),
    )


def _settings(config: Config) -> dict[str, Any]:
    """The fields that are a run's settings."""
    data = config.data
    return {
        "model": config.model,
        "train": config.train,
        "seed": config.seed,
        "render": data.render,
        "background": data.background,
    }


def digests(
    sprites: UInt8[np.ndarray, "m h w c"], positions: Int[np.ndarray, "n"] | None = None
) -> UInt8[np.ndarray, "n 32"]:
    """SHA-256 of the bytes of each sprite (or image), or of those at these positions: RGB or RGBA, row by row."""
    chosen = sprites if positions is None else (sprites[place] for place in positions)
    found = b"".join(hashlib.sha256(np.ascontiguousarray(sprite).data).digest() for sprite in chosen)
    return np.frombuffer(found, np.uint8).reshape(-1, 32)


def pack(description: Description) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(facts for a JSON file, arrays), from which `unpack` makes the description again."""
    facts = {name: getattr(description, name) for name in _PLAIN}
    tables = {
        "data": {"render": description.render, "background": description.background},
        "model": dataclasses.asdict(description.model),
        "train": dataclasses.asdict(description.train),
        "seed": description.seed,
    }
    arrays = {"train_indices": description.train_indices, "train_digests": description.train_digests}
    if description.palette is not None:
        arrays["palette"] = description.palette
    if description.support:
        arrays |= {"colours_at": description.support.lists, "other_colours_at": description.support.other}
    return {"config": tables, "image_shape": description.image_shape, **facts}, arrays


def write(directory: Path, description: Description) -> None:
    """Write the two files into a new directory. Raises OSError."""
    facts, arrays = pack(description)
    directory.mkdir()
    (directory / _FACTS).write_text(json.dumps({"format": _FORMAT, **facts}, indent=2) + "\n", encoding="utf-8")
    (directory / _ARRAYS).write_bytes(save({name: np.ascontiguousarray(array) for name, array in arrays.items()}))


def read(directory: Path) -> Description:
    """Read the two files. Raises OSError, UserError or ValueError if they are missing or invalid."""
    facts = json.loads((directory / _FACTS).read_text(encoding="utf-8"))
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        raise ValueError(f"{_FACTS} does not have format {_FORMAT}: update flax_punkvae")
    return unpack(facts, load((directory / _ARRAYS).read_bytes()), directory / _FACTS)


def unpack(facts: dict[str, Any], arrays: dict[str, Any], where: Path) -> Description:
    """The description that `pack` took apart; `where` names the facts in errors.

    Raises UserError, ValueError, LookupError or TypeError if they are invalid.
    """
    tables = facts["config"]
    # A description has no split, but a config with early stopping is valid only with a validation split.
    tables["data"]["validation_fraction"] = 0.5
    config = from_run(tables, where)
    height, width, channels = facts["image_shape"]
    support = None
    if config.data.render == "indices":
        if "colours_at" not in arrays:
            raise ValueError("there is no colours_at: the model was trained with an older version, train it again")
        support = Support(len(arrays["palette"]), arrays["colours_at"], arrays["other_colours_at"])
    plain = {name: facts[name] for name in _PLAIN}
    return Description(
        **_settings(config),
        image_shape=(height, width, channels),
        palette=arrays.get("palette"),
        support=support,
        train_indices=arrays["train_indices"],
        train_digests=arrays["train_digests"],
        **{**plain, "label_names": tuple(plain["label_names"])},
    )
