"""Exact nearest-colour search, fast for many colours and large palettes."""

import numpy as np
from jaxtyping import Float, Int, UInt8

# Number of distances computed at once: less than a megabyte as float32.
_AT_ONCE = 2**17


def nearest(colours: UInt8[np.ndarray, "m c"], palette: UInt8[np.ndarray, "p c"]) -> Int[np.ndarray, "m"]:
    """The index of the nearest palette colour for each colour; ties take the first.

    Nearest is the least squared distance in RGB or, of RGBA, the least sum of those over black and over white: what one
    sees, whatever is behind. Opaque colours have the same nearest colour with alpha as without.

    Divide and conquer: halves the colours' bounding box until few are left. Each box keeps only the palette colours
    that may be nearest to a point in it: their least distance to it is at most the smallest of all greatest distances.
    """
    found = np.empty(len(colours), np.int64)
    sources, targets = _coordinates(colours), _coordinates(palette)
    parts = [(np.arange(len(colours)), np.arange(len(palette)))] if len(colours) else []
    while parts:
        rows, candidates = parts.pop()
        points, near = sources[:, rows], targets[:, candidates]
        low, high = points.min(axis=1, keepdims=True), points.max(axis=1, keepdims=True)
        least = ((near - near.clip(low, high)) ** 2).sum(axis=0)
        most = (np.maximum(high - near, near - low) ** 2).sum(axis=0)
        kept = least <= most.min()
        candidates, near = candidates[kept], near[:, kept]
        if len(candidates) == 1 or (low == high).all():
            found[rows] = candidates[0]
        elif len(rows) * len(candidates) <= _AT_ONCE:
            # |t - s|^2 without |s|^2, which is the same for all t.
            found[rows] = candidates[((near**2).sum(axis=0) - 2 * points.T @ near).argmin(axis=1)]
        else:
            axis = (high - low).argmax()
            lower = points[axis] <= (low[axis] + high[axis]) // 2
            parts += [(rows[lower], candidates), (rows[~lower], candidates)]
    return found


def _coordinates(colours: UInt8[np.ndarray, "m c"]) -> Float[np.ndarray, "k m"]:
    """Points whose squared distances are those of the colours: whole numbers, whose sums floats hold exactly."""
    if colours.shape[1] == 3:
        # Below 2^24.
        return colours.T.astype(np.float32)
    levels = colours.T.astype(np.float64)
    over_black = levels[:3] * levels[3]
    return np.concatenate([over_black, over_black + 255 * (255 - levels[3])])
