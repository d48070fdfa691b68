"""Turn raw images into model inputs: apply alpha, shrink to sprites, render; reduce each image as it is read."""

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from flax_punkvae import images as im
from flax_punkvae import transparency
from flax_punkvae.config import DataConfig
from flax_punkvae.data import alpha
from flax_punkvae.data.lazy import LazyImages
from flax_punkvae.data.raw import Raw
from flax_punkvae.data.reducing import Reduced, reduced
from flax_punkvae.data.split import Groups, parts
from flax_punkvae.errors import UserError

# Larger images are hardly sprites, and a dense layer over all their pixels would take gigabytes.
_LARGEST_SPRITE = 128
_SPRITE = (im.SPRITE_SIZE, im.SPRITE_SIZE)

Pixels = UInt8[np.ndarray, "_ _ _"]


def gather(
    images: Iterable[tuple[str, UInt8[np.ndarray, "_ _ 4"]]], count: int, where: str, config: DataConfig | None
) -> tuple[UInt8[np.ndarray, "n h w c"], tuple[int, int, int, int] | None]:
    """Collect (name, image) pairs into Raw's `pixels` and `shape`; each image is shrunk before the next is read.

    Returns RGBA sprites if all `count` images are sprites or exact enlargements of them. Otherwise returns the first
    `config.limit` images: as sprites if all of these are sprites after `config.alpha` is applied, else as
    `config.render` needs them, or whole without a config. Raises UserError for the first image of another size and the
    first that cannot be rendered.
    """
    kept: list[Pixels] = []
    first, height, width = "", 0, 0
    limit = config.limit if config and config.limit else count
    for name, rgba in images:
        if not kept:
            first, (height, width, _) = name, rgba.shape
        if rgba.shape[:2] != (height, width):
            raise UserError(
                f"{where}: expected images of one size, got {first} of {width}x{height} "
                f"and {name} of {rgba.shape[1]}x{rgba.shape[0]}"
            )
        sprite = im.shrink_to_sprites(rgba[None])
        if sprite is not None:
            kept.append(sprite[0].copy())
        elif len(kept) < limit:
            kept.append(_shrunk(rgba, min(count, limit), where, config))
        else:
            # A placeholder: the image is not used, but it is no sprite.
            kept.append(np.empty((0, 0, 0), np.uint8))
    if all(pixels.shape == (*_SPRITE, 4) for pixels in kept):
        return np.stack(kept) if kept else np.empty((0, *_SPRITE, 4), np.uint8), None
    alike = _alike(kept[:limit], height // im.SPRITE_SIZE, where, config)
    return np.stack(alike), (len(kept), height, width, 4)


def _alike(kept: list[Pixels], scale: int, where: str, config: DataConfig | None) -> list[Pixels]:
    """All images in one form: sprites if all are sprites, else whole images, with sprites enlarged by `scale`."""
    sprites = [pixels.shape[:2] == _SPRITE for pixels in kept]
    if all(sprites) and config:
        return [_reduced(pixels[None], config)[0] for pixels in kept]
    return [
        _fitted(im.enlarge(pixels[None], scale), len(kept), where, config) if sprite else pixels
        for pixels, sprite in zip(kept, sprites, strict=True)
    ]


def _shrunk(rgba: Pixels, count: int, where: str, config: DataConfig | None) -> Pixels:
    """Reduce an image that is no sprite as it is; with its transparent pixels alike, it may be one."""
    if not config:
        return rgba
    pixels = _reduced(rgba[None], config)
    sprite = im.shrink_to_sprites(pixels)
    return _fitted(pixels, count, where, config) if sprite is None else sprite[0].copy()


def _fitted(image: UInt8[np.ndarray, "1 h w c"], count: int, where: str, config: DataConfig | None) -> Pixels:
    """Reduce one whole image, as the render needs it; without a config, return it unchanged."""
    if not config:
        return image[0]
    image = _reduced(image, config)
    _check_render(image.shape[1], image.shape[2], False, where, config)
    if not im.enlarges(config.render):
        return image[0]
    _check_room(count, where, config)
    return im.resize(image)[0]


def _reduced(image: UInt8[np.ndarray, "1 h w c"], config: DataConfig) -> UInt8[np.ndarray, "1 h w k"]:
    """One image with its transparent pixels kept as RGBA, or in RGB over the background."""
    if image.shape[-1] == 3:
        return image
    if alpha.is_kept(config):
        # Made hard later, for all images at once: then all of them have alpha, or none.
        return transparency.cleared(image)
    return im.over_background(image, im.parse_colour(config.background))


class Rendered(NamedTuple):
    """The images of a Dataset, and its sprites with their palette."""

    images: LazyImages
    sprites: Reduced | None


def render(raw: Raw, config: DataConfig) -> Rendered:
    """The images of a Dataset. Raises UserError if what was read does not allow `config.render`."""
    pixels, sprites = to_sprites(raw, config)
    _, height, width, _ = raw.read_as
    _check_render(height, width, sprites is not None and sprites.shape[1:3] == _SPRITE, raw.source, config)
    if sprites is None:
        _check_room(len(pixels), raw.source, config)
        return Rendered(LazyImages(im.resize(pixels)), None)
    found = in_palette(sprites, raw.groups, config)
    if found.palette is not None:
        return Rendered(LazyImages(im.to_indices(found.sprites, found.palette)[..., None]), found)
    return Rendered(LazyImages(sprites, config.render), found)


def in_palette(sprites: UInt8[np.ndarray, "n h w c"], groups: Groups, config: DataConfig) -> Reduced:
    """The sprites in as many colours as the config allows, if it renders them as indices; otherwise unchanged."""
    if config.render != "indices":
        return Reduced(sprites, None)
    return reduced(sprites, parts(len(sprites), config, groups).train, config.colours)


def to_sprites(
    raw: Raw, config: DataConfig
) -> tuple[UInt8[np.ndarray, "n h w c"], UInt8[np.ndarray, "n hs ws c"] | None]:
    """(pixels, sprites) with `config.alpha` applied; sprites are None if the images are not sprites.

    Sprites are of 24x24, from enlargements too, or of any size if the config renders sprites as they are.
    """
    pixels = alpha.applied(raw.pixels, config)
    sprites = im.shrink_to_sprites(pixels)
    if sprites is not None and sprites.shape != pixels.shape:
        # Copied, since a view would keep the large images in memory.
        pixels = sprites = sprites.copy()
    if sprites is None and not im.enlarges(config.render):
        sprites = pixels
    return pixels, sprites


def _check_render(height: int, width: int, sprites: bool, where: str, config: DataConfig) -> None:
    """Raise UserError if images of this size do not allow `config.render`; `sprites`: they are 24x24 sprites."""
    if sprites:
        return
    if not im.enlarges(config.render) and max(height, width) > _LARGEST_SPRITE:
        raise UserError(
            f"{where}: expected sprites of at most {_LARGEST_SPRITE}x{_LARGEST_SPRITE} pixels for "
            f"--data.render {config.render}, got {width}x{height}: scale them down to one pixel per sprite pixel, or "
            "use --data.render reference"
        )
    if config.render == "crisp":
        raise UserError(
            f"{where}: expected sprites of 24x24 pixels, or exact enlargements of them, for --data.render crisp, "
            f"got {width}x{height} images: use --data.render reference"
        )


def _check_room(count: int, where: str, config: DataConfig) -> None:
    """Raise UserError if `count` images of 128x128 exceed the memory of this machine."""
    needed, memory = count * im.IMAGE_SIZE**2 * 3, _memory()
    if needed > memory:
        raise UserError(
            f"{where}: {count} images need {needed / 2**30:.1f} GiB at 128x128, more than the {memory / 2**30:.1f} GiB "
            f"of this machine: use fewer (--data.limit), or --data.render sprite"
        )


def _memory() -> int:
    """Bytes of memory in this machine; 2^63 if unknown."""
    if not hasattr(os, "sysconf"):
        return 2**63
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
