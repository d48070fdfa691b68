"""Exact nearest-colour search, fast for many colours and large palettes."""

import numpy as np
from jaxtyping import Int, UInt8

# Number of distances computed at once: less than a megabyte as float32.
_AT_ONCE = 2**17


def nearest(colours: UInt8[np.ndarray, "m 3"], palette: UInt8[np.ndarray, "p 3"]) -> Int[np.ndarray, "m"]:
    """The index of the nearest palette colour, in squared RGB distance, for each colour; ties take the first.

    Divide and conquer: halves the colours' bounding box until few are left. Each box keeps only the palette colours
    that may be nearest to a point in it: their least distance to it is at most the smallest of all greatest distances.
    """
    found = np.empty(len(colours), np.int64)
    # All sums are whole numbers below 2^24, so float32 is exact.
    sources, targets = colours.T.astype(np.float32), palette.T.astype(np.float32)
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
