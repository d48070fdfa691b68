"""Transparency: whether colours have alpha, and how pixels gain and lose it.

Sprites [n h w c] and palettes [p c] are RGBA (c = 4) if any pixel is transparent, wholly or in part; otherwise RGB. A
wholly transparent pixel is always (0, 0, 0, 0), so that there is one such colour.
"""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from flax_punkvae import images

# The least alpha of a pixel that becomes opaque if alpha is made hard.
HARD = 128


def cleared(rgba: UInt8[np.ndarray, "*n 4"]) -> UInt8[np.ndarray, "*n 4"]:
    """Wholly transparent pixels become (0, 0, 0, 0)."""
    return _where_alpha(rgba, 1)


def _where_alpha(rgba: UInt8[np.ndarray, "*n 4"], least: int) -> UInt8[np.ndarray, "*n 4"]:
    """A copy, with (0, 0, 0, 0) where alpha is less than `least`."""
    # As one number for each pixel, whose highest byte is alpha. A mask would need index arrays larger than the pixels.
    numbers = np.ascontiguousarray(rgba).view("<u4")
    return np.where(numbers >= least << 24, numbers, np.zeros((), "<u4")).view(np.uint8)


def hardened(rgba: UInt8[np.ndarray, "*n 4"]) -> UInt8[np.ndarray, "*n 4"]:
    """Every pixel becomes opaque or wholly transparent."""
    found = _where_alpha(rgba, HARD)
    found[..., 3] = np.where(found[..., 3], 255, 0)
    return found


def without_needless_alpha(rgba: UInt8[np.ndarray, "*n 4"]) -> UInt8[np.ndarray, "*n c"]:
    """RGB if every pixel is opaque, else unchanged."""
    return rgba if (rgba[..., 3] < 255).any() else np.ascontiguousarray(rgba[..., :3])


def to_channels(
    pixels: UInt8[np.ndarray, "*n _"], channels: int, background: tuple[int, int, int]
) -> UInt8[np.ndarray, "*n c"]:
    """RGB or RGBA pixels in 3 or 4 channels: opaque, or composited over the background."""
    if pixels.shape[-1] == channels:
        return cleared(pixels) if channels == 4 else pixels
    if channels == 3:
        return images.over_background(pixels, background)
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)


def premultiplied(colours: Float[Any, "*n c"]) -> Float[Any, "*n c"]:
    """Colours in [0, 1], NumPy's or JAX's, times their alpha; RGB is unchanged. So what hardly shows hardly counts."""
    if colours.shape[-1] == 3:
        return colours
    return colours * colours[..., 3:] ** np.array([1, 1, 1, 0], colours.dtype)
