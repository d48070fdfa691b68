"""Made-up sprites with transparent, soft and opaque pixels, RGBA, as people have them."""

from pathlib import Path

import numpy as np

from flax_punkvae.data import synthetic
from helpers.sources import tiled, write

SIZE = 16
# Of the shadow; tinted glass has 128.
SOFT = (3, 60)


def sprites(count: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """Characters on nothing, with a soft shadow at the bottom: uint8 [count, size, size, 4]."""
    drawn = synthetic.resize(synthetic.draw(count, seed)[0], size)
    drawn[drawn[..., 3] == 0] = 0
    for row, alpha in zip((size - 2, size - 1), SOFT, strict=True):
        bottom = drawn[:, row]
        bottom[bottom[..., 3] == 0] = (40, 20, 60, alpha)
    return drawn


def sheet(path: Path, count: int, columns: int = 10) -> Path:
    """A sheet of such sprites."""
    return write(path, tiled(sprites(count), columns))
