"""Pillow's resize of sprites that the hub stores enlarged, from 336x336 to 128x128, computed from the sprites."""

import numpy as np
from jaxtyping import Int32, UInt8

_SPRITE, _HUB_SCALE, _IMAGE = 24, 14, 128
# Number of pixels processed at once.
_AT_ONCE = 2**18
# Precision of Pillow's weights: a 32-bit sum, less 8 bits of a pixel and 2 spare bits.
_BITS = 32 - 8 - 2
_ONE = 2**_BITS


def reference(sprites: UInt8[np.ndarray, "n 24 24 3"]) -> UInt8[np.ndarray, "n 128 128 3"]:
    """The same bytes as `images.resize` of the hub's images, from the sprites: like Pillow, across, then down.

    Rounds to 8 bits in between. Along an axis, each pixel is one pixel of the sprite or, at an edge, a mix of two.
    """
    weights = _weights()
    source = weights.argmax(1)
    mixed = np.flatnonzero(weights.max(1) < _ONE)
    left = (weights[mixed] > 0).argmax(1)
    share = weights[mixed, left]
    images = np.empty((len(sprites), _IMAGE, _IMAGE, 3), np.uint8)
    step = _AT_ONCE // _IMAGE**2
    for start in range(0, len(sprites), step):
        part, image = sprites[start : start + step], images[start : start + step]
        across = part.take(source, 2)
        across[:, :, mixed] = _mixed(part.take(left, 2), part.take(left + 1, 2), share[:, None])
        # The default mode "raise" would write through a copy.
        across.take(source, 1, image, "clip")
        image[:, mixed] = _mixed(across.take(left, 1), across.take(left + 1, 1), share[:, None, None])
    return images


def _weights() -> Int32[np.ndarray, "128 24"]:
    """The weight of each sprite pixel in each pixel of its `reference` image, along one axis; rows sum to about _ONE.

    Sums Pillow's weights of the hub's pixels over each sprite pixel, in doubles and in the order of its arithmetic
    (src/libImaging/Resample.c: `precompute_coeffs`, `bilinear_filter`, `normalize_coeffs_8bpc`).
    """
    hub = _HUB_SCALE * _SPRITE
    scale = hub / _IMAGE
    centres = (np.arange(_IMAGE) + 0.5) * scale
    tents = np.maximum(1 - np.abs((np.arange(hub) - centres[:, None] + 0.5) * (1 / scale)), 0)
    # Pillow adds from left to right, unlike sum.
    weights = (0.5 + tents / tents.cumsum(1)[:, -1:] * _ONE).astype(np.int32)
    return weights.reshape(_IMAGE, _SPRITE, _HUB_SCALE).sum(2, np.int32)


def _mixed(left: np.ndarray, right: np.ndarray, share: Int32[np.ndarray, "..."]) -> Int32[np.ndarray, "..."]:
    """Mix pixels: the left ones with weight share / _ONE, the right ones with the rest, rounded to the nearest."""
    return (left * share + right * (_ONE - share) + _ONE // 2) >> _BITS
