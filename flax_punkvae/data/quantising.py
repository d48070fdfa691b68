"""Fit a palette to many colours.

A palette holds some of the colours themselves, so the most frequent ones stay exactly. The others become the nearest of
them by `colours.nearest`, as everywhere, so a trained model needs the palette and nothing else. The palette is chosen
such that what this changes is small in Oklab.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int, UInt8, UInt32

from flax_punkvae import images as im
from flax_punkvae.colours import nearest, oklab

# A colour of at least this fraction of the pixels, transparent ones apart, stays exactly.
_FREQUENT = 1 / 256
# What a change of colour counts at least when the best colour of a group is chosen: a barely visible step.
_VISIBLE = 0.02
# Oklab is rounded to whole multiples of 1 / _GRAIN, so that a palette is the same on every machine.
_GRAIN = 2**13
# A palette is fitted to at most so many colours, or so many for each of its own.
_FITTED_TO, _FITTED_TO_EACH = 2**16, 4
# How a palette grows: by this fraction at once, then at most so many rounds of moving its colours.
_GROWTH, _ROUNDS = 1 / 4, 8
# Number of pixels processed at once.
_AT_ONCE = 2**18


def counted(sprites: UInt8[np.ndarray, "n h w c"], colours: UInt8[np.ndarray, "m c"]) -> Int[np.ndarray, "m"]:
    """How many pixels of the sprites have each of their colours, given these in the order of `images.palette_of`."""
    known, counts = im.packed(colours), np.zeros(len(colours), np.int64)
    pixels = sprites.reshape(-1, sprites.shape[-1])
    for start in range(0, len(pixels), _AT_ONCE):
        places = np.searchsorted(known, im.packed(pixels[start : start + _AT_ONCE]))
        counts += np.bincount(places, minlength=len(counts))
    return counts


def visible(colours: UInt8[np.ndarray, "m c"], counts: Int[np.ndarray, "m"]) -> Int[np.ndarray, "m"]:
    """The counts, with 0 for the transparent colour (0, 0, 0, 0)."""
    return np.where(_is_transparent(colours), 0, counts)


def _is_transparent(colours: UInt8[np.ndarray, "m c"]) -> Bool[np.ndarray, "m"]:
    return ~colours.any(axis=1) & (colours.shape[1] == 4)


def fitted(colours: UInt8[np.ndarray, "m c"], counts: Int[np.ndarray, "m"], most: int) -> UInt8[np.ndarray, "p c"]:
    """At most `most` of these distinct colours, in the order of `images.palette_of`; all of them if they are no more.

    `counts` are their numbers of pixels. The transparent colour (0, 0, 0, 0) stays, and the most frequent colours, up
    to half of the palette. From these on, colours are added where the squared distances in Oklab between colours and
    their nearest ones, weighted by counts, add up to most. Then each colour moves to the best one of its group, as in
    k-medoids.
    """
    if len(colours) <= most:
        return colours
    kept = _kept(colours, counts, most)
    others, their_counts = _thinned(
        np.delete(colours, kept, axis=0), np.delete(counts, kept), max(_FITTED_TO, _FITTED_TO_EACH * most)
    )
    colours, counts = np.concatenate([colours[kept], others]), np.concatenate([counts[kept], their_counts])
    points = np.rint(oklab(colours) * _GRAIN)
    chosen = _grown(colours, points, counts, np.arange(max(len(kept), 1)), most)
    chosen = _moved(colours, points, counts, chosen, len(kept))
    return im.unpacked(np.sort(im.packed(colours[chosen])), colours.shape[1])


def _kept(colours: UInt8[np.ndarray, "m c"], counts: Int[np.ndarray, "m"], most: int) -> Int[np.ndarray, "k"]:
    """The positions of the colours that stay exactly."""
    counts = visible(colours, counts)
    frequent = np.argsort(-counts, kind="stable")[: most // 2]
    frequent = frequent[counts[frequent] >= max(_FREQUENT * counts.sum(), 1)]
    return np.concatenate([np.flatnonzero(_is_transparent(colours)), frequent])


def _thinned(
    colours: UInt8[np.ndarray, "m c"], counts: Int[np.ndarray, "m"], most: int
) -> tuple[UInt8[np.ndarray, "q c"], Int[np.ndarray, "q"]]:
    """At most `most` colours, the most frequent ones first: each stands for those that share its leading bits."""
    order = np.argsort(-counts, kind="stable")
    colours, counts = colours[order], counts[order]
    bits = next(bits for bits in range(9) if _count(im.packed(colours >> bits)) <= most)
    _, first, places = np.unique(im.packed(colours >> bits), return_index=True, return_inverse=True)
    ranks = np.argsort(first)
    return colours[first[ranks]], np.bincount(places, counts)[ranks].astype(np.int64)


def _count(numbers: UInt32[np.ndarray, "m"]) -> int:
    """How many distinct numbers there are; faster than NumPy's `unique`."""
    return 1 + int((np.diff(np.sort(numbers)) > 0).sum())


def _grown(
    colours: UInt8[np.ndarray, "m c"],
    points: Float64[np.ndarray, "k m"],
    counts: Int[np.ndarray, "m"],
    chosen: Int[np.ndarray, "p"],
    most: int,
) -> Int[np.ndarray, "q"]:
    """Add positions of colours: of each of the groups of greatest error, the one that contributes most."""
    while len(chosen) < most:
        groups = nearest(colours, colours[chosen])
        errors = counts * ((points - points[:, chosen[groups]]) ** 2).sum(axis=0)
        worst = _first_of_each(groups, -errors)
        worst = worst[errors[worst] > 0]
        total = np.bincount(groups, errors, len(chosen))[groups[worst]]
        more = min(most - len(chosen), max(int(_GROWTH * len(chosen)), 1))
        if not len(worst):
            break
        chosen = np.concatenate([chosen, worst[np.argsort(-total, kind="stable")[:more]]])
    return chosen


def _moved(
    colours: UInt8[np.ndarray, "m c"],
    points: Float64[np.ndarray, "k m"],
    counts: Int[np.ndarray, "m"],
    chosen: Int[np.ndarray, "p"],
    fixed: int,
) -> Int[np.ndarray, "p"]:
    """Move all but the first `fixed` positions to the colour of their group that changes its pixels the least."""
    for _ in range(_ROUNDS):
        groups = nearest(colours, colours[chosen])
        size = np.bincount(groups, counts)
        means = np.stack([np.bincount(groups, counts * row) / size for row in points])
        # The squared distances of a group to a colour are those to the mean, and this for each pixel.
        from_mean = ((points - means[:, groups]) ** 2).sum(axis=0)
        changes = size[groups] * from_mean + (_VISIBLE * _GRAIN) ** 2 * (size[groups] - counts)
        better = np.concatenate([chosen[:fixed], _first_of_each(groups, changes)[fixed:]])
        if (better == chosen).all():
            break
        chosen = better
    return chosen


def _first_of_each(groups: Int[np.ndarray, "m"], keys: Float64[np.ndarray, "m"]) -> Int[np.ndarray, "g"]:
    """The position of the least key in each group, group by group; ties take the first."""
    order = np.lexsort((keys, groups))
    return order[np.unique(groups[order], return_index=True)[1]]
