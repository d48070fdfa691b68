"""Near copies: sprites that differ from another in few pixels, are its mirror image, or are shifted by one pixel."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int, UInt8, UInt32, UInt64

from flax_punkvae import images as im
from flax_punkvae.data.split import spread

# The fraction of pixels in which near copies may differ.
FEW = 0.02
# Bounds on time and memory: pixels looked at, bands of pixels, pairs compared for each sprite of a band and in all.
_MOST_SPRITES, _MOST_PIXELS = 20_000, 12_000_000
_MOST_BANDS, _REACH, _MOST_PAIRS = 32, 8, 400_000
_AT_ONCE = 2**22

Pair = tuple[int, int]


class NearCopies(NamedTuple):
    """(sprite, earlier sprite) of each kind, at most one pair for a sprite: positions in the set. No exact copies.

    `changed` are pairs that differ in at most a fraction `FEW` of the pixels; there may be more. `looked_at` is how
    many sprites, spread evenly over the set, were compared.
    """

    changed: list[Pair]
    mirrored: list[Pair]
    shifted: list[Pair]
    looked_at: int


def find(sprites: UInt8[np.ndarray, "n h w c"]) -> NearCopies:
    """The near copies in a set of sprites, or in a part of it if it is large."""
    count, height, width, _ = sprites.shape
    most = max(min(count, _MOST_SPRITES, _MOST_PIXELS // (height * width)), 1)
    positions = spread(np.arange(count), most)
    pixels = im.packed(sprites[positions])
    changed, mirrored, shifted = (
        [(int(positions[later]), int(positions[earlier])) for later, earlier in pairs]
        for pairs in (_changed(pixels), _mirrored(pixels), _shifted(pixels))
    )
    return NearCopies(changed, mirrored, shifted, most)


def _changed(pixels: UInt32[np.ndarray, "m h w"]) -> list[Pair]:
    """Pairs that differ in few pixels. Cut into one band more than these, two such sprites are equal in one band."""
    count, height, width = pixels.shape
    few = int(FEW * height * width)
    if not few:
        return []
    bands = min(few + 1, _MOST_BANDS)
    # Scattered, since many sprites have the same pixels near the edges.
    of = np.random.default_rng(0).permutation(height * width) % bands
    hashes = _hashes(pixels, of[:, None] == np.arange(bands))
    candidates = np.unique(np.concatenate([_neighbours(hashes[:, band]) for band in range(bands)]), axis=0)
    agree = (hashes[candidates[:, 0]] == hashes[candidates[:, 1]]).sum(1)
    # Those that agree in all bands are exact copies.
    candidates = candidates[np.argsort(-agree, kind="stable")][np.count_nonzero(agree == bands) :][:_MOST_PAIRS]
    flat = pixels.reshape(count, -1)
    step = max(_AT_ONCE // flat.shape[1], 1)
    parts = [candidates[start : start + step] for start in range(0, len(candidates), step)]
    near = [part[(flat[part[:, 0]] != flat[part[:, 1]]).sum(1) <= few] for part in parts]
    return _firsts(np.concatenate(near)) if near else []


def _neighbours(values: UInt64[np.ndarray, "m"]) -> Int[np.ndarray, "k 2"]:
    """(later, earlier) positions of equal values; of more than `_REACH` equal ones, those that are close."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    pairs = [np.empty((0, 2), np.int64)]
    for step in range(1, min(_REACH, len(order) - 1) + 1):
        equal = ordered[step:] == ordered[:-step]
        pairs.append(np.stack([order[step:][equal], order[:-step][equal]], axis=1))
    return np.concatenate(pairs)


def _mirrored(pixels: UInt32[np.ndarray, "m h w"]) -> list[Pair]:
    return _firsts(_equal_parts(pixels, pixels[:, :, ::-1]))


def _shifted(pixels: UInt32[np.ndarray, "m h w"]) -> list[Pair]:
    """Pairs of which one is the other moved by one pixel, in x, in y or in both; what that uncovers may be anything."""
    found = []
    for right, mirror in ((0, False), (1, False), (1, True)):
        for down in (0, 1):
            if right or down:
                # Down and left is down and right in the mirror.
                seen = pixels[:, :, ::-1] if mirror else pixels
                _, height, width = seen.shape
                if min(height - down, width - right) < 1:
                    continue
                moved, still = seen[:, down:, right:], seen[:, : height - down, : width - right]
                found += [_equal_parts(moved, still)]
    return _firsts(np.concatenate(found)) if found else []


def _equal_parts(a: UInt32[np.ndarray, "m h w"], b: UInt32[np.ndarray, "m h w"]) -> Int[np.ndarray, "k 2"]:
    """(later, earlier) positions of two images of which one's part in `a` equals the other's in `b`."""
    everything = np.ones((a[0].size, 1), bool)
    ours, theirs = _hashes(a, everything)[:, 0], _hashes(b, everything)[:, 0]
    order = np.argsort(theirs, kind="stable")
    at = order[np.searchsorted(theirs, ours, sorter=order).clip(max=len(order) - 1)]
    rows = np.flatnonzero((theirs[at] == ours) & (at != np.arange(len(at))))
    rows = rows[[np.array_equal(a[row], b[other]) for row, other in zip(rows, at[rows], strict=True)]]
    return np.stack([np.maximum(rows, at[rows]), np.minimum(rows, at[rows])], axis=1)


def _firsts(pairs: Int[np.ndarray, "k 2"]) -> list[Pair]:
    """One pair for each later sprite, with the earliest of its partners, in order."""
    ordered = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    _, first = np.unique(ordered[:, 0], return_index=True)
    return [(int(later), int(earlier)) for later, earlier in ordered[first]]


def _hashes(pixels: UInt32[np.ndarray, "m h w"], masks: np.ndarray) -> UInt64[np.ndarray, "m k"]:
    """A hash of each sprite's pixels under each of the masks, bool [h * w, k]: sums of random multiples, mod 2^64."""
    weights = np.where(masks, np.random.default_rng(1).integers(0, 2**64, (len(masks), 1), np.uint64), np.uint64(0))
    flat = pixels.reshape(len(pixels), -1)
    step = max(_AT_ONCE // flat.shape[1], 1)
    parts = [flat[start : start + step].astype(np.uint64) @ weights for start in range(0, len(flat), step)]
    return np.concatenate(parts)
