"""Which images are trained on and which are held out."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from flax_punkvae.config import DataConfig


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


class Parts(NamedTuple):
    """Positions of the images to train on, to choose a checkpoint by (may be none), and to test on, each ascending."""

    train: Int[np.ndarray, "train"]
    validation: Int[np.ndarray, "validation"]
    test: Int[np.ndarray, "test"]


def parts(count: int, config: DataConfig) -> Parts:
    """How a run divides its images: `split`, then the validation share set apart from the training images.

    At least one image stays to train on. The test images do not depend on whether there is a validation share.
    """
    train, test = split(count, config.test_fraction, config.split_seed)
    # Of another stream than the split, whose seed is a single number.
    order = shuffled(len(train), (config.split_seed, 1))
    apart = math.ceil(len(train) * config.validation_fraction)
    chosen = np.sort(order[: min(apart, len(train) - 1)])
    return Parts(np.delete(train, chosen), train[chosen], test)
