"""Reduce sprites of too many colours to a palette that is fitted to the training sprites, and say what that changes."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae import images as im
from flax_punkvae.colours import distances, nearest
from flax_punkvae.data import quantising
from flax_punkvae.data.split import spread
from flax_punkvae.errors import UserError

# Sets of at most so many colours stay as they are by default; others are reduced to the second number.
_FEW, _DEFAULT = 1024, 256
# What an index of two bytes can address.
_MOST_COLOURS = 2**16
# A sprite's logits, one per pixel and colour, and a bias for each of them: several arrays of this many floats.
_MOST_LOGITS = 2**26
# Number of sprites compared at once.
_AT_ONCE = 1024
# How many examples of changed sprites there are, and among how many of the training sprites they are found.
_EXAMPLES, _LOOKED_AT = 17, 1000


class Change(NamedTuple):
    """What a fitted palette changed: the number of pixels of each sprite, and examples, the most changed first."""

    pixels: Int[np.ndarray, "n"]
    before: UInt8[np.ndarray, "m h w c"]
    after: UInt8[np.ndarray, "m h w c"]


class Reduced(NamedTuple):
    """Sprites, their palette, lines for the user, and what was changed, if a palette was fitted."""

    sprites: UInt8[np.ndarray, "n h w c"]
    palette: UInt8[np.ndarray, "p c"] | None
    notes: tuple[str, ...] = ()
    change: Change | None = None


def reduced(sprites: UInt8[np.ndarray, "n h w c"], train: Int[np.ndarray, "m"], colours: int | None) -> Reduced:
    """The sprites and the palette of those at the positions `train`, of at most `colours` colours (see `DataConfig`).

    Sprites stay as they are if the training ones have no more; then others may have colours that are not in the
    palette. Raises UserError if the palette would be too large for sprites of this size.
    """
    _, height, width, _ = sprites.shape
    before = im.palette_of(sprites, train)
    found, most = len(before), colours or (_FEW if len(before) <= _FEW else _DEFAULT)
    room = min(_MOST_COLOURS, _MOST_LOGITS // (height * width))
    if min(found, most) > room:
        raise UserError(
            f"data.colours: {colours} colours are too many for sprites of {width}x{height}: choose at most {room}"
        )
    if found <= most:
        return Reduced(sprites, before)
    counts = quantising.counted(sprites[train], before)
    palette = quantising.fitted(before, counts, most)
    snapped = im.snap(sprites, palette)
    others = np.delete(sprites, train, axis=0)
    theirs = im.palette_of(others)
    notes = (
        f"reduced {found:,} colours to {len(palette):,} (--data.colours): {_change(before, counts, palette)} (Oklab)",
        f"of the other sprites, {_change(theirs, quantising.counted(others, theirs), palette)}",
    )
    some = spread(train, _LOOKED_AT)
    examples = before_and_after(sprites[some], snapped[some], _EXAMPLES)
    return Reduced(snapped, palette, notes, Change(_changed_pixels(sprites, snapped), *examples))


def _changed_pixels(
    sprites: UInt8[np.ndarray, "n h w c"], snapped: UInt8[np.ndarray, "n h w c"]
) -> Int[np.ndarray, "n"]:
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(sprites), _AT_ONCE)]
    return np.concatenate([(sprites[part] != snapped[part]).any(-1).sum((1, 2)) for part in parts])


def _change(colours: UInt8[np.ndarray, "m c"], counts: Int[np.ndarray, "m"], palette: UInt8[np.ndarray, "p c"]) -> str:
    """What the palette changes in pixels, of which so many have each colour, as part of a sentence."""
    counts = quantising.visible(colours, counts)
    snapped = palette[nearest(colours, palette)]
    moved = (colours != snapped).any(axis=1)
    if not moved.any():
        return "all pixels unchanged"
    far, many = distances(colours[moved], snapped[moved]), counts[moved]
    unchanged, mean = 100 * (1 - many.sum() / counts.sum()), np.average(far, weights=many)
    return (
        f"{unchanged:.1f} % of visible pixels unchanged, the others moved by {mean:.3f} on average, {far.max():.3f} at "
        "most"
    )


def before_and_after(
    sprites: UInt8[np.ndarray, "n h w c"], snapped: UInt8[np.ndarray, "n h w c"], count: int
) -> tuple[UInt8[np.ndarray, "m h w c"], UInt8[np.ndarray, "m h w c"]]:
    """The `count` sprites that were changed most, and what became of them, the most changed first.

    The change of a sprite is the sum of the distances of its pixels in Oklab.
    """
    moved = (sprites != snapped).any(axis=-1)
    of, _, _ = np.nonzero(moved)
    change = np.bincount(of, distances(sprites[moved], snapped[moved]), len(sprites))
    first = np.argsort(-change, kind="stable")[:count]
    return sprites[first], snapped[first]
