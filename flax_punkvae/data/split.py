"""Split images into training, validation and test parts."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from flax_punkvae.config import DataConfig


def shuffled(count: int, seed: int | Sequence[int]) -> Int[np.ndarray, "n"]:
    """A permutation of 0..count-1, determined by the seed and the same with every version of NumPy.

    Sorts raw PCG64 words, whose stream NumPy guarantees; that of `Generator.permutation` may change.
    """
    return np.argsort(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count), kind="stable")


def split(
    count: int, test_fraction: float, split_seed: int
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "test"]]:
    """Positions of the training and of the test images, each ascending: a partition into two nonempty parts.

    The test part has round(count * test_fraction) images, at least 1 and at most count - 1; count must be 2 or more.
    """
    order = shuffled(count, split_seed)
    held_out = min(max(round(count * test_fraction), 1), count - 1)
    return np.sort(order[held_out:]), np.sort(order[:held_out])


class Parts(NamedTuple):
    """Ascending positions of the images for training, for choosing a checkpoint (may be empty) and for testing."""

    train: Int[np.ndarray, "train"]
    validation: Int[np.ndarray, "validation"]
    test: Int[np.ndarray, "test"]


def parts(count: int, config: DataConfig) -> Parts:
    """Split the images of a run: `split`, then `validation_fraction` of the training images for validation.

    At least one training image remains. The test images do not depend on the validation fraction.
    """
    train, test = split(count, config.test_fraction, config.split_seed)
    # A different stream from the split's, whose seed is a single number.
    order = shuffled(len(train), (config.split_seed, 1))
    apart = math.ceil(len(train) * config.validation_fraction)
    chosen = np.sort(order[: min(apart, len(train) - 1)])
    return Parts(np.delete(train, chosen), train[chosen], test)
