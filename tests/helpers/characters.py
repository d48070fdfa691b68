"""Characters to make sets of, and what is done with them."""

import numpy as np

from flax_punkvae.data import synthetic

SIDE = 16


def sprites(count: int, seed: int = 0) -> np.ndarray:
    """Distinct characters, uint8 [count, 16, 16, 4]."""
    drawn = synthetic.resize(synthetic.draw(3 * count + 8, seed)[0], SIDE)
    return np.unique(drawn, axis=0)[np.random.default_rng(seed).permutation(count)]


def opaque(count: int) -> np.ndarray:
    """The characters over one colour, uint8 [count, 16, 16, 3]."""
    pixels = sprites(count)
    return np.where(pixels[..., 3:] > 0, pixels[..., :3], np.array([48, 96, 130], np.uint8))


def enlarged(pixels: np.ndarray, by: int) -> np.ndarray:
    """Every pixel as a block of by x by, of one image or of several."""
    return pixels.repeat(by, axis=-3).repeat(by, axis=-2)


def columns(count: int) -> int:
    """Of a sheet of this many tiles that is about square."""
    return max(2, round(count**0.5))
