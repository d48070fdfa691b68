"""Colours as numbers: exact nearest-colour search, fast for many colours and large palettes, and how far they look."""

import numpy as np
from jaxtyping import Float, Float64, Int, UInt8

# Number of distances computed at once: less than a megabyte as float32.
_AT_ONCE = 2**17
# Oklab (Ottosson 2020, "A perceptual color space for image processing"): linear sRGB to cone responses, and their cube
# roots to lightness, green-red and blue-yellow.
_CONES = (
    (0.4122214708, 0.5363325363, 0.0514459929),
    (0.2119034982, 0.6806995451, 0.1073969566),
    (0.0883024619, 0.2817188376, 0.6299787005),
)
_OKLAB = (
    (0.2104542553, 0.7936177850, -0.0040720468),
    (1.9779984951, -2.4285922050, 0.4505937099),
    (0.0259040371, 0.7827717662, -0.8086757660),
)


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
            # |t - s|^2 without |s|^2, which is the same for all t. Not by `@`: its threads cost more than they save.
            products = np.einsum("km,kn->mn", points, near)
            found[rows] = candidates[((near**2).sum(axis=0) - 2 * products).argmin(axis=1)]
        else:
            axis = (high - low).argmax()
            lower = points[axis] <= (low[axis] + high[axis]) // 2
            parts += [(rows[lower], candidates), (rows[~lower], candidates)]
    return found


def oklab(colours: UInt8[np.ndarray, "m c"]) -> Float64[np.ndarray, "k m"]:
    """Points whose distances are those that the eye sees: L, a and b of Oklab, of white 1, 0 and 0.

    RGBA has six: Oklab over black and over white (composited in sRGB, as viewers do), divided by the square root of 2,
    so that opaque colours are as far apart as without alpha.
    """
    levels = colours.T / 255
    if colours.shape[1] == 3:
        return _oklab(levels)
    over_black = levels[:3] * levels[3]
    return np.concatenate([_oklab(over_black), _oklab(over_black + (1 - levels[3]))]) / np.sqrt(2)


def distances(colours: UInt8[np.ndarray, "m c"], others: UInt8[np.ndarray, "m c"]) -> Float64[np.ndarray, "m"]:
    """The distance of each colour to the other one of its row in `oklab`; a barely visible step is about 0.02."""
    return np.sqrt(((oklab(colours) - oklab(others)) ** 2).sum(axis=0))


def _oklab(srgb: Float64[np.ndarray, "3 m"]) -> Float64[np.ndarray, "3 m"]:
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return _mixed(_OKLAB, np.cbrt(_mixed(_CONES, linear)))


def _mixed(weights: tuple[tuple[float, ...], ...], rows: Float64[np.ndarray, "3 m"]) -> Float64[np.ndarray, "3 m"]:
    # Without a matrix product, whose order of summation differs from machine to machine.
    return np.stack([sum(weight * row for weight, row in zip(line, rows, strict=True)) for line in weights])


def _coordinates(colours: UInt8[np.ndarray, "m c"]) -> Float[np.ndarray, "k m"]:
    """Points whose squared distances are those of the colours: whole numbers, whose sums floats hold exactly."""
    if colours.shape[1] == 3:
        # Below 2^24.
        return colours.T.astype(np.float32)
    levels = colours.T.astype(np.float64)
    over_black, behind = levels[:3] * levels[3], 255 * (255 - levels[3:])
    # With d and e the differences of these two, d^2 + (d + e)^2 is half of (2 d + e)^2 + e^2. Unlike the colours over
    # black and over white, these rows do not depend on each other if all colours are opaque, so boxes are small.
    return np.concatenate([2 * over_black + behind, np.repeat(behind, 3, axis=0)])
