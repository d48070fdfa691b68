"""Split images into training, validation and test parts."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from flax_punkvae.config import DataConfig
from flax_punkvae.errors import UserError

# Images with the same number are of one group; None: each image is on its own.
Groups = Int[np.ndarray, "n"] | None


def shuffled(count: int, seed: int | Sequence[int]) -> Int[np.ndarray, "n"]:
    """A permutation of 0..count-1, determined by the seed and the same with every version of NumPy.

    Sorts raw PCG64 words, whose stream NumPy guarantees; that of `Generator.permutation` may change.
    """
    return np.argsort(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count), kind="stable")


def split(
    count: int, test_fraction: float, split_seed: int, groups: Groups = None
) -> tuple[Int[np.ndarray, "train"], Int[np.ndarray, "test"]]:
    """Positions of the training and of the test images, each ascending: a partition into two nonempty parts.

    The test part has round(count * test_fraction) images, at least 1 and at most count - 1; count must be 2 or more.
    With groups, each is in one part, and the test part has as near to that number as `_apart` finds. Raises UserError
    if there is only one group.
    """
    order = shuffled(count, split_seed)
    chosen = _apart(order, min(max(round(count * test_fraction), 1), count - 1), groups)
    if not chosen.any():
        raise UserError(
            f"all {count} images are of one group, frames of one animation or copies of each other, so none can be "
            "held out for testing: add other images"
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


class Parts(NamedTuple):
    """Ascending positions of the images for training, for choosing a checkpoint (may be empty) and for testing."""

    train: Int[np.ndarray, "train"]
    validation: Int[np.ndarray, "validation"]
    test: Int[np.ndarray, "test"]


def parts(count: int, config: DataConfig, groups: Groups = None) -> Parts:
    """Split the images of a run: `split`, then `validation_fraction` of the training images for validation.

    At least one training image, or group of them, remains. The test images do not depend on the validation fraction.
    Raises UserError as `split` does.
    """
    train, test = split(count, config.test_fraction, config.split_seed, groups)
    # A different stream from the split's, whose seed is a single number.
    order = shuffled(len(train), (config.split_seed, 1))
    wanted = min(math.ceil(len(train) * config.validation_fraction), len(train) - 1)
    chosen = _apart(order, wanted, None if groups is None else groups[train])
    return Parts(train[~chosen], train[chosen], test)


def spread(positions: Int[np.ndarray, "n"], most: int) -> Int[np.ndarray, "m"]:
    """At most this many of the positions, at equal distances."""
    if len(positions) <= most:
        return positions
    return positions[np.linspace(0, len(positions) - 1, most).round().astype(int)]


def _apart(order: Int[np.ndarray, "n"], wanted: int, groups: Groups) -> np.ndarray:
    """Which of n images to set apart: bool [n], true for the first `wanted` in this order.

    With groups, whole groups in the order of their first images, as long as they fit; then the smallest other one, if
    that brings the number nearer to `wanted`. So it differs from `wanted` by at most half of that group's size. One or
    more are chosen if any are wanted, and one or more groups are left; with a single group, none is chosen.
    """
    chosen = np.zeros(len(order), bool)
    if groups is None or not wanted:
        chosen[order[:wanted]] = True
        return chosen
    _, first, group, sizes = np.unique(groups[order], return_index=True, return_inverse=True, return_counts=True)
    taken = np.zeros(len(sizes), bool)
    missing = wanted
    by_first = np.argsort(first)
    for number in by_first.tolist():
        if sizes[number] <= missing:
            taken[number] = True
            missing -= sizes[number]
    others = by_first[~taken[by_first]]
    smallest = others[sizes[others].argmin()]
    if len(others) > 1 and (not taken.any() or sizes[smallest] < 2 * missing):
        taken[smallest] = True
    chosen[order] = taken[group]
    return chosen
