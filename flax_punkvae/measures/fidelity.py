"""Measures of how close generated sprites are to real ones, and of copying; on features, in float64.

Rows are sprites, columns features. Distances are Euclidean; `f` is the number of features.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8, UInt32

_ROWS = 512
# Of sprites compared at a time: a few MB.
_PIXELS = 2**20
# Fewer generated points say nothing of a cell: Mann-Whitney's normal approximation does not hold.
_IN_CELL = 20
_ROUNDS = 50


def frechet_distance(real: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"]) -> float:
    """|mu_r - mu_g|^2 + tr(C_r + C_g - 2 (C_r C_g)^(1/2)), of the Gaussians fitted to both; not its square root.

    Covariances are the unbiased ones; of no more points than features they are singular, which is no harm here, but
    the distance of two samples of one distribution falls with their sizes: compare equal sizes only. At least 2 points
    each. Source: Heusel et al. 2017, eq. 6 (Dowson & Landau 1982).
    """
    real, generated = _checked("real", real, 2), _checked("generated", generated, 2)
    shift = real.mean(0) - generated.mean(0)
    # With C = R'R, tr (C_r C_g)^(1/2) is the sum of the singular values of R_r R_g': no root of a rounding error.
    root_real, root_generated = _covariance_root(real), _covariance_root(generated)
    overlap = np.linalg.svd(root_real @ root_generated.T, compute_uv=False).sum()
    distance = shift @ shift + (root_real**2).sum() + (root_generated**2).sum() - 2.0 * overlap
    return max(float(distance), 0.0)


def _covariance_root(x: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "r f"]:
    return np.asarray(np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), mode="r"))


def kernel_distance(real: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"]) -> float:
    """MMD^2 of the kernel k(x, y) = (x.y / f + 1)^3: mean k(r, r') + mean k(g, g') - 2 mean k(r, g).

    Means are over pairs of two different points, over all of them and in one block: unbiased, so that it may be below
    0. At least 2 points each. Source: Binkowski et al. 2018 ("KID").
    """
    real, generated = _checked("real", real, 2), _checked("generated", generated, 2)
    return (
        _mean_kernel_within(real)
        + _mean_kernel_within(generated)
        - 2.0 * _kernel_sum(real, generated) / (len(real) * len(generated))
    )


def _mean_kernel_within(x: Float[np.ndarray, "n f"]) -> float:
    itself = ((x**2).mean(1) + 1.0) ** 3
    return (_kernel_sum(x, x) - float(itself.sum())) / (len(x) * (len(x) - 1))


def _kernel_sum(x: Float[np.ndarray, "n f"], y: Float[np.ndarray, "m f"]) -> float:
    return sum(float(((x[rows] @ y.T / x.shape[1] + 1.0) ** 3).sum()) for rows in _slices(len(x)))


def precision_recall(
    real: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"], k: int = 3
) -> tuple[float, float]:
    """(fraction of generated points in the real manifold, fraction of real points in the generated manifold).

    The manifold of a set is the union of the closed balls about its points to their k-th nearest other point. At least
    k + 1 points each. Source: Kynkaanniemi et al. 2019, eqs. 1 and 2, with their k of 3.
    """
    real, generated = _checked("real", real, k + 1, k), _checked("generated", generated, k + 1, k)
    precision = _in_balls(generated, real, k).any(1).mean()
    recall = _in_balls(real, generated, k).any(1).mean()
    return float(precision), float(recall)


def density_coverage(
    real: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"], k: int = 5
) -> tuple[float, float]:
    """(mean count of real balls around a generated point / k, fraction of real balls with a generated point).

    The ball of a real point is closed and goes to its k-th nearest other real point. Density may exceed 1; of two
    samples of one distribution and one size, its expectation is 1 and coverage's is close to 1 - 2^-k. At least k + 1
    real points and 1 generated. Source: Naeem et al. 2020, with their k of 5.
    """
    real, generated = _checked("real", real, k + 1, k), _checked("generated", generated, 1)
    inside = _in_balls(generated, real, k)
    return float(inside.sum(1).mean() / k), float(inside.any(0).mean())


def _in_balls(x: Float[np.ndarray, "n f"], centres: Float[np.ndarray, "m f"], k: int) -> Bool[np.ndarray, "n m"]:
    """Whether each point lies in the ball about each centre to its k-th nearest other centre."""
    radii = np.concatenate([np.partition(d, k - 1, axis=1)[:, k - 1] for d in _distances_to_others(centres)])
    # So that a copy of the k-th nearest centre, on the ball's surface, is inside whatever the rounding.
    radii *= 1.0 + 1e-9
    return np.concatenate([_squared_distances(x[rows], centres) <= radii for rows in _slices(len(x))])


def _distances_to_others(x: Float[np.ndarray, "n f"]) -> Iterator[Float[np.ndarray, "r n"]]:
    for rows in _slices(len(x)):
        distances = _squared_distances(x[rows], x)
        distances[np.arange(len(distances)), np.arange(len(x))[rows]] = np.inf
        yield distances


def nearest(
    queries: Float[np.ndarray, "n f"], references: Float[np.ndarray, "m f"]
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """For each query (position of the nearest reference, squared distance to it); ties take the first."""
    queries, references = _checked("queries", queries, 1), _checked("references", references, 1)
    indices, distances = [], []
    for rows in _slices(len(queries)):
        block = _squared_distances(queries[rows], references)
        indices.append(block.argmin(1))
        distances.append(block.min(1))
    return np.concatenate(indices), np.concatenate(distances)


def data_copying_z(
    train: Float[np.ndarray, "n f"],
    test: Float[np.ndarray, "p f"],
    generated: Float[np.ndarray, "m f"],
    cells: int = 1,
) -> float:
    """C_T: the z-score of Mann-Whitney's U of the generated's distances to the nearest training point, against those
    of the held-out test points. Far below 0 the model copies; far above 0 it underfits. It is a
    statement about all of a model's draws: of draws from which copies were removed, it says nothing about copying.

    z = (U - pm/2) / sigma, with U the pairs whose generated point is the farther (ties count a half) and sigma
    corrected for ties. In the cells of k-means centres of the training points, it is the mean over cells with 20
    generated points or more, weighted by their test points; with 1 cell it is the test of all points at once. At
    least 20 generated points. Source: Meehan, Chaudhuri & Dasgupta
    2020.
    """
    train, test = _checked("train", train, max(cells, 1)), _checked("test", test, 1)
    generated = _checked("generated", generated, _IN_CELL)
    if cells < 1:
        raise ValueError(f"expected at least 1 cell, got {cells}")
    centres = _k_means(train, cells)
    (cell_test, _), (cell_generated, _) = nearest(test, centres), nearest(generated, centres)
    (_, far_test), (_, far_generated) = nearest(test, train), nearest(generated, train)
    total, weight = 0.0, 0
    for cell in range(cells):
        there, made = far_test[cell_test == cell], far_generated[cell_generated == cell]
        if len(there) and len(made) >= _IN_CELL:
            total += len(there) * _mann_whitney_z(made, there)
            weight += len(there)
    if not weight:
        raise ValueError(
            f"expected a cell with {_IN_CELL} generated points and 1 test point, got none: use fewer cells"
        )
    return total / weight


def _mann_whitney_z(x: Float[np.ndarray, "n"], y: Float[np.ndarray, "m"]) -> float:
    n, m, ordered = len(x), len(y), np.sort(y)
    u = (np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")).sum() / 2.0
    _, ties = np.unique(np.concatenate([x, y]), return_counts=True)
    tied = (ties.astype(np.float64) ** 3 - ties).sum() / ((n + m) * (n + m - 1))
    variance = n * m / 12.0 * (n + m + 1 - tied)
    return float((u - n * m / 2.0) / np.sqrt(variance)) if variance > 0 else 0.0


def _k_means(x: Float[np.ndarray, "n f"], count: int) -> Float[np.ndarray, "k f"]:
    """Lloyd's centres, begun at the point nearest the mean and then each time at the point farthest from them all."""
    chosen = [int(((x - x.mean(0)) ** 2).sum(1).argmin())]
    while len(chosen) < count:
        chosen.append(int(nearest(x, x[chosen])[1].argmax()))
    centres = x[chosen]
    for _ in range(_ROUNDS):
        cell, _ = nearest(x, centres)
        # A centre that no point is nearest to stays where it is.
        moved = np.stack([x[cell == c].mean(0) if (cell == c).any() else centres[c] for c in range(count)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def authenticity(train: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"]) -> float:
    """AuthPct: the fraction of generated points no nearer to their nearest training point than that point is to its own
    nearest other training point.

    Of distinct training points copied it is 0; what it is of fresh draws depends on their distribution: measure
    held-out points beside. At least 2 training points. Source: Alaa et al. 2022 ("AuthPct").
    """
    train, generated = _checked("train", train, 2), _checked("generated", generated, 1)
    own = np.concatenate([distances.min(1) for distances in _distances_to_others(train)])
    indices, distances = nearest(generated, train)
    return float((distances >= own[indices]).mean())


def exact_copies(train_sprites: UInt8[np.ndarray, "n h w 3"], generated_sprites: UInt8[np.ndarray, "m h w 3"]) -> int:
    """Number of generated sprites that equal a training sprite in every pixel; duplicates count each time."""
    known = {sprite.tobytes() for sprite in train_sprites}
    return sum(sprite.tobytes() in known for sprite in generated_sprites)


def nearest_sprites(
    sprites: UInt8[np.ndarray, "n h w 3"], references: UInt8[np.ndarray, "m h w 3"]
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """For each sprite (position of the reference with the fewest differing pixels, their number); ties take the first.

    A pixel differs where any of its channels does.
    """
    pixels = sprites[0, ..., 0].size if len(sprites) else 1
    rows = max(_PIXELS // pixels, 1)
    nearest, fewest = np.zeros(len(sprites), np.int64), np.full(len(sprites), pixels + 1)
    for first in range(0, len(sprites), rows):
        ours = _packed(sprites[first : first + rows])
        for start in range(0, len(references), rows):
            theirs = _packed(references[start : start + rows])
            for index, sprite in enumerate(ours, first):
                differing = np.count_nonzero(theirs != sprite, axis=1)
                if (least := differing.min()) < fewest[index]:
                    nearest[index], fewest[index] = start + differing.argmin(), least
    return nearest, fewest


def _packed(sprites: UInt8[np.ndarray, "n h w 3"]) -> UInt32[np.ndarray, "n p"]:
    """Each colour as one number, so that a pixel is one comparison."""
    shifts = np.array([16, 8, 0], np.uint32)
    return (sprites.astype(np.uint32) << shifts).sum(-1, dtype=np.uint32).reshape(len(sprites), -1)


def _checked(name: str, x: Float[np.ndarray, "n f"], least: int, k: int = 1) -> Float[np.ndarray, "n f"]:
    if k < 1:
        raise ValueError(f"expected k of at least 1, got {k}")
    if len(x) < least:
        raise ValueError(f"{name}: expected at least {least} rows, got {len(x)}")
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: expected finite numbers, got {int((~np.isfinite(x)).sum())} that are not")
    return x.astype(np.float64)


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))


def _squared_distances(x: Float[np.ndarray, "n f"], y: Float[np.ndarray, "m f"]) -> Float[np.ndarray, "n m"]:
    norms = (x**2).sum(1)[:, None] + (y**2).sum(1)
    distances = norms - 2.0 * (x @ y.T)
    # What is left of equal points is rounding, and float32 features are no finer than this: equal points are at 0.
    distances[distances < 1e-12 * norms] = 0.0
    return distances
