"""The renderings of 24x24 sprites at 128x128, computed from the sprites: one weighted mean of two pixels per axis.

That is also so for Pillow's resize of what the hub stores, sprites enlarged to 336x336.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Int32, UInt8

SPRITE_SIZE, IMAGE_SIZE = 24, 128
CRISP_SCALE = 5
CRISP_BORDER = (IMAGE_SIZE - CRISP_SCALE * SPRITE_SIZE) // 2
_HUB_SCALE = 14
# Number of pixels processed at once.
_AT_ONCE = 2**18
# Precision of Pillow's weights: a 32-bit sum, less 8 bits of a pixel and 2 spare bits.
_BITS = 32 - 8 - 2
_ONE = 2**_BITS


def reference(sprites: UInt8[np.ndarray, "n 24 24 3"]) -> UInt8[np.ndarray, "n 128 128 3"]:
    """The same bytes as `images.resize` of the hub's images, from the sprites: like Pillow, across, then down.

    Rounds to 8 bits in between.
    """
    source, shares = taps("reference")
    at = np.flatnonzero(shares < _ONE)
    left, share = source[at], shares[at]
    images = np.empty((len(sprites), IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    step = _AT_ONCE // IMAGE_SIZE**2
    for start in range(0, len(sprites), step):
        part, image = sprites[start : start + step], images[start : start + step]
        across = part.take(source, 2)
        across[:, :, at] = mixed(part.take(left, 2), part.take(left + 1, 2), share[:, None])
        # The default mode "raise" would write through a copy.
        across.take(source, 1, image, "clip")
        image[:, at] = mixed(across.take(left, 1), across.take(left + 1, 1), share[:, None, None])
    return images


class Taps(NamedTuple):
    """Which sprite pixels make each pixel of an image, along one axis.

    Pixel i is `left[i]` with weight `shares[i]` / 2^22, and the next one with the rest; see `mixed`.
    """

    left: Int32[np.ndarray, "128"]
    shares: Int32[np.ndarray, "128"]


def taps(how: Literal["reference", "crisp"]) -> Taps:
    """The taps of a rendering (see `images.render`)."""
    if how == "crisp":
        left = np.clip((np.arange(IMAGE_SIZE) - CRISP_BORDER) // CRISP_SCALE, 0, SPRITE_SIZE - 1)
        return Taps(left.astype(np.int32), np.full(IMAGE_SIZE, _ONE, np.int32))
    weights = _weights()
    alone = weights.max(1) >= _ONE
    left = np.where(alone, weights.argmax(1), (weights > 0).argmax(1))
    shares = np.where(alone, _ONE, weights[np.arange(IMAGE_SIZE), left])
    return Taps(left.astype(np.int32), shares.astype(np.int32))


def _weights() -> Int32[np.ndarray, "128 24"]:
    """The weight of each sprite pixel in each pixel of its `reference` image, along one axis; rows sum to about _ONE.

    Sums Pillow's weights of the hub's pixels over each sprite pixel, in doubles and in the order of its arithmetic
    (src/libImaging/Resample.c: `precompute_coeffs`, `bilinear_filter`, `normalize_coeffs_8bpc`).
    """
    hub = _HUB_SCALE * SPRITE_SIZE
    scale = hub / IMAGE_SIZE
    centres = (np.arange(IMAGE_SIZE) + 0.5) * scale
    tents = np.maximum(1 - np.abs((np.arange(hub) - centres[:, None] + 0.5) * (1 / scale)), 0)
    # Pillow adds from left to right, unlike sum.
    weights = (0.5 + tents / tents.cumsum(1)[:, -1:] * _ONE).astype(np.int32)
    return weights.reshape(IMAGE_SIZE, SPRITE_SIZE, _HUB_SCALE).sum(2, np.int32)


def mixed(left: Any, right: Any, share: Int32[np.ndarray, "..."]) -> Any:
    """Mix pixels: the left ones with weight share / _ONE, the right ones with the rest, rounded to the nearest.

    Pixels are arrays of NumPy or, as int32, of JAX.
    """
    return (left * share + right * (_ONE - share) + _ONE // 2) >> _BITS
