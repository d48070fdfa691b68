"""Which images are trained on and which are held out."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int


def shuffled(count: int, seed: int | Sequence[int]) -> Int[np.ndarray, "n"]:
    """0..count-1 in an order given by the seed, the same with every version of NumPy.

    By sorting raw PCG64 words, whose stream NumPy guarantees, where that of `Generator.permutation` may change.
    """
    return np.argsort(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count), kind="stable")


def split(
    count: int, test_fraction: float, split_seed: int
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "test"]]:
    """Positions of the training and of the test images, each ascending: disjoint, together all, neither empty.

    Tests on round(count * test_fraction) images, but at least one, and trains on at least one; count must be 2 or more.
    """
    order = shuffled(count, split_seed)
    held_out = min(max(round(count * test_fraction), 1), count - 1)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
