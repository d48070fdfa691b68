"""Measures of samples that no feature space shows: wrong pixels, and labels that are too common or too rare."""

import numpy as np
from jaxtyping import Bool, UInt8

from flax_punkvae import images


def locally_valid(
    train: UInt8[np.ndarray, "n h w c"], sprites: UInt8[np.ndarray, "m h w c"], side: int
) -> Bool[np.ndarray, "m"]:
    """Whether every window of side x side pixels of a sprite occurs in some training sprite at the same position.

    One wrong pixel makes a sprite invalid. Exact: windows are compared pixel by pixel. Raises ValueError if the sprites
    are smaller than the window.
    """
    _, height, width, _ = train.shape
    if not 1 <= side <= min(height, width):
        raise ValueError(f"expected a window of 1 to {min(height, width)} pixels, got {side}")
    both = np.concatenate([train, sprites])
    # As indices, which are a third of the bytes to compare or less.
    known, others = np.split(images.to_indices(both, images.palette_of(both)), [len(train)])
    valid = np.ones(len(sprites), bool)
    for top in range(height - side + 1):
        for left in range(width - side + 1):
            # A sprite with a window that was never seen needs no more comparisons.
            left_over = np.flatnonzero(valid)
            if not len(left_over):
                return valid
            where = np.s_[:, top : top + side, left : left + side]
            window = np.concatenate([known[where], others[where][left_over]]).reshape(-1, side**2)
            rows = window.view(np.dtype((np.void, window.dtype.itemsize * side**2)))[:, 0]
            _, numbers = np.unique(rows, return_inverse=True)
            seen = np.zeros(numbers.max() + 1, bool)
            seen[numbers[: len(train)]] = True
            valid[left_over] = seen[numbers[len(train) :]]
    return valid


def frequency_distance(held_out: Bool[np.ndarray, "n a"], samples: Bool[np.ndarray, "m a"]) -> float:
    """Sum over labels of |fraction of the samples with it - fraction of the held-out sprites with it|."""
    return float(np.abs(held_out.mean(0) - samples.mean(0)).sum())


def common_pairs(held_out: Bool[np.ndarray, "n a"], least: int) -> list[tuple[int, int]]:
    """Pairs of labels (first < second) that at least `least` held-out sprites have both of."""
    counts = held_out.T.astype(np.int64) @ held_out.astype(np.int64)
    return [(int(a), int(b)) for a, b in np.argwhere(np.triu(counts >= least, k=1))]


def pair_labels(labels: Bool[np.ndarray, "n a"], chosen: list[tuple[int, int]]) -> Bool[np.ndarray, "n p"]:
    """Whether each sprite has both labels of each chosen pair."""
    first, second = np.array(chosen, int).reshape(-1, 2).T
    return labels[:, first] & labels[:, second]
