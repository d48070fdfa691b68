"""Measures of the fidelity of generated sprites and of copying; on features, in float64.

Rows are sprites, columns features. Distances are Euclidean; `f` is the number of features.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

_ROWS = 512
# Numbers that are worked on at a time after a product.
_IN_CACHE = 2**15
# With fewer generated points in a cell, Mann-Whitney's normal approximation does not hold.
_IN_CELL = 20
_ROUNDS = 50
# Products of bytes, less 128, of which so many add up to 2^24 at most: float32 holds these sums exactly.
_EXACT = 2**10


def frechet_distance(real: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"]) -> float:
    """|mu_r - mu_g|^2 + tr(C_r + C_g - 2 (C_r C_g)^(1/2)), of the Gaussians fitted to both; not its square root.

    Covariances are unbiased; they may be singular (no more points than features). The distance between two samples of
    one distribution falls as their sizes grow, so compare equal sizes only. At least 2 points each. Source: Heusel et
    al. 2017, eq. 6 (Dowson & Landau 1982).
    """
    real, generated = _checked("real", real, 2), _checked("generated", generated, 2)
    shift = real.mean(0) - generated.mean(0)
    # With C = R'R, tr (C_r C_g)^(1/2) is the sum of singular values of R_r R_g', so no root of a rounding error.
    root_real, root_generated = _covariance_root(real), _covariance_root(generated)
    overlap = np.linalg.svd(root_real @ root_generated.T, compute_uv=False).sum()
    distance = shift @ shift + (root_real**2).sum() + (root_generated**2).sum() - 2.0 * overlap
    return max(float(distance), 0.0)


def _covariance_root(x: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "r f"]:
    return np.asarray(np.linalg.qr((x - x.mean(0)) / np.sqrt(len(x) - 1), mode="r"))


def kernel_distance(real: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"]) -> float:
    """MMD^2 of the kernel k(x, y) = (x.y / f + 1)^3: mean k(r, r') + mean k(g, g') - 2 mean k(r, g).

    Means are over all pairs of different points, in one block. The estimate is unbiased, so it may be negative. At
    least 2 points each. Source: Binkowski et al. 2018 ("KID").
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

    The manifold of a set is the union of closed balls around its points that reach to their k-th nearest other point.
    At least k + 1 points each. Source: Kynkaanniemi et al. 2019, eqs. 1 and 2, with their k of 3.
    """
    real, generated = _checked("real", real, k + 1, k), _checked("generated", generated, k + 1, k)
    precision = _in_balls(generated, real, k).any(1).mean()
    recall = _in_balls(real, generated, k).any(1).mean()
    return float(precision), float(recall)


def density_coverage(
    real: Float[np.ndarray, "n f"], generated: Float[np.ndarray, "m f"], k: int = 5
) -> tuple[float, float]:
    """(mean count of real balls around a generated point / k, fraction of real balls with a generated point).

    The ball of a real point is closed and reaches to its k-th nearest other real point. Density may exceed 1; for two
    equally large samples of one distribution its expectation is 1, and that of coverage is close to 1 - 2^-k. At least
    k + 1 real points and 1 generated. Source: Naeem et al. 2020, with their k of 5.
    """
    real, generated = _checked("real", real, k + 1, k), _checked("generated", generated, 1)
    inside = _in_balls(generated, real, k)
    return float(inside.sum(1).mean() / k), float(inside.any(0).mean())


def _in_balls(x: Float[np.ndarray, "n f"], centres: Float[np.ndarray, "m f"], k: int) -> Bool[np.ndarray, "n m"]:
    """Whether each point lies in the ball around each centre that reaches to its k-th nearest other centre."""
    radii = np.concatenate([np.partition(d, k - 1, axis=1)[:, k - 1] for d in _distances_to_others(centres)])
    # A copy of the k-th nearest centre, on the surface of the ball, counts as inside despite rounding.
    radii *= 1.0 + 1e-9
    return np.concatenate([_squared_distances(x[rows], centres) <= radii for rows in _slices(len(x))])


def _distances_to_others(x: Float[np.ndarray, "n f"]) -> Iterator[Float[np.ndarray, "r n"]]:
    for rows in _slices(len(x)):
        distances = _squared_distances(x[rows], x)
        distances[np.arange(len(distances)), np.arange(len(x))[rows]] = np.inf
        yield distances


def nearest(
    queries: Float[np.ndarray, "n f"] | UInt8[np.ndarray, "n f"],
    references: Float[np.ndarray, "m f"] | UInt8[np.ndarray, "m f"],
) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    """(position of the nearest reference, squared distance to it) for each query; ties take the first.

    Bytes take half the time of floats, and their distances have no rounding errors.
    """
    queries, references = _checked("queries", queries, 1), _checked("references", references, 1)
    # A feature that all references share, as a sprite's corner, does not say which of them is nearest.
    varies = (references != references[0]).any(0)
    same = queries[:, ~varies].astype(np.float64) - references[0, ~varies]
    queries, references = queries[:, varies], references[:, varies]
    indices, distances = [], []
    for rows in _slices(len(queries)):
        block = _squared_distances(queries[rows], references)
        indices.append(block.argmin(1))
        distances.append(block.min(1))
    return np.concatenate(indices), np.concatenate(distances) + (same**2).sum(1)


def nearest_other(x: Float[np.ndarray, "n f"] | UInt8[np.ndarray, "n f"]) -> Float[np.ndarray, "n"]:
    """The squared distance of each point to the nearest other one. At least 2 points; bytes as in `nearest`."""
    x = _checked("points", x, 2)
    x = x[:, (x != x[0]).any(0)]
    least = np.full(len(x), np.inf)
    for rows in _slices(len(x)):
        # The distances to earlier points are already in the columns of their blocks.
        block = _squared_distances(x[rows], x[rows.start :])
        itself = np.arange(len(block))
        block[itself, itself] = np.inf
        least[rows] = np.minimum(least[rows], block.min(1))
        least[rows.start :] = np.minimum(least[rows.start :], block.min(0))
    return least


def data_copying_z(
    train: Float[np.ndarray, "n f"],
    test: Float[np.ndarray, "p f"],
    generated: Float[np.ndarray, "m f"],
    cells: int = 1,
) -> float:
    """C_T: the z-score of Mann-Whitney's U, which compares the distances of generated and of held-out test points to
    their nearest training points. Far below 0 the model copies; far above 0 it underfits. It is only valid for all
    draws of a model: after copies are removed, it says nothing about copying.

    z = (U - pm/2) / sigma. U counts the pairs whose generated point is farther (ties count 1/2); sigma is corrected
    for ties. With k-means cells of the training points, C_T is the mean over cells with at least 20 generated points,
    weighted by their numbers of test points; with 1 cell, all points are tested at once. At least 20 generated points.
    Source: Meehan, Chaudhuri & Dasgupta 2020.
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
            total += len(there) * distances_z(made, there)
            weight += len(there)
    if not weight:
        raise ValueError(
            f"expected a cell with {_IN_CELL} generated points and 1 test point, got none: use fewer cells"
        )
    return total / weight


def distances_z(generated: Float[np.ndarray, "n"], test: Float[np.ndarray, "m"]) -> float:
    """`data_copying_z` with 1 cell, given the distances to the nearest training points, in any increasing unit.

    Raises ValueError if there are fewer than 20 generated points.
    """
    if len(generated) < _IN_CELL:
        raise ValueError(f"generated: expected at least {_IN_CELL} rows, got {len(generated)}")
    x, y = generated, test
    n, m, ordered = len(x), len(y), np.sort(y)
    u = (np.searchsorted(ordered, x, "left") + np.searchsorted(ordered, x, "right")).sum() / 2.0
    _, ties = np.unique(np.concatenate([x, y]), return_counts=True)
    tied = (ties.astype(np.float64) ** 3 - ties).sum() / ((n + m) * (n + m - 1))
    variance = n * m / 12.0 * (n + m + 1 - tied)
    return float((u - n * m / 2.0) / np.sqrt(variance)) if variance > 0 else 0.0


def _k_means(x: Float[np.ndarray, "n f"], count: int) -> Float[np.ndarray, "k f"]:
    """Lloyd's algorithm; starts from the point nearest the mean, then repeatedly adds the point farthest from all."""
    chosen = [int(((x - x.mean(0)) ** 2).sum(1).argmin())]
    while len(chosen) < count:
        chosen.append(int(nearest(x, x[chosen])[1].argmax()))
    centres = x[chosen]
    for _ in range(_ROUNDS):
        cell, _ = nearest(x, centres)
        # A centre without points stays where it is.
        moved = np.stack([x[cell == c].mean(0) if (cell == c).any() else centres[c] for c in range(count)])
        if np.array_equal(moved, centres):
            break
        centres = moved
    return centres


def authenticity(found: tuple[Int[np.ndarray, "m"], Float[np.ndarray, "m"]], own: Float[np.ndarray, "n"]) -> float:
    """AuthPct: the fraction of generated points no nearer to their nearest training point than that point is to its own
    nearest other training point. Given `nearest(generated, train)` and `nearest_other(train)`.

    It is 0 for copies of distinct training points. For new draws it depends on the distribution, so also measure
    held-out points. Source: Alaa et al. 2022 ("AuthPct").
    """
    indices, distances = found
    return float((distances >= own[indices]).mean())


def exact_copies(train_sprites: UInt8[np.ndarray, "n h w c"], generated_sprites: UInt8[np.ndarray, "m h w c"]) -> int:
    """Number of generated sprites that equal a training sprite in every pixel; duplicates count each time."""
    known = {sprite.tobytes() for sprite in train_sprites}
    return sum(sprite.tobytes() in known for sprite in generated_sprites)


def _checked(
    name: str, x: Float[np.ndarray, "n f"] | UInt8[np.ndarray, "n f"], least: int, k: int = 1
) -> Float[np.ndarray, "n f"]:
    """In float64 or, if they are bytes, in float32 less 128, which does not change distances."""
    if k < 1:
        raise ValueError(f"expected k of at least 1, got {k}")
    if len(x) < least:
        raise ValueError(f"{name}: expected at least {least} rows, got {len(x)}")
    if x.dtype == np.uint8:
        return x.astype(np.float32) - 128
    if not np.isfinite(x).all():
        raise ValueError(f"{name}: expected finite numbers, got {int((~np.isfinite(x)).sum())} that are not finite")
    return x.astype(np.float64, copy=False)


def _slices(count: int) -> Iterator[slice]:
    return (slice(start, start + _ROWS) for start in range(0, count, _ROWS))


def _squared_distances(x: Float[np.ndarray, "n f"], y: Float[np.ndarray, "m f"]) -> Float[np.ndarray, "n m"]:
    distances = _products(x, y)
    ours, theirs = (np.einsum("nf,nf->n", each, each, dtype=np.float64) for each in (x, y))
    # A few rows at a time, which stay in the cache.
    few = max(_IN_CACHE // len(y), 1)
    for start in range(0, len(x), few):
        rows = slice(start, start + few)
        norms, part = ours[rows, None] + theirs, distances[rows]
        np.subtract(norms, 2.0 * part, out=part)
        # Between equal points only rounding is left, and float32 features resolve no smaller distance.
        part[part < 1e-12 * norms] = 0.0
    return distances


def _products(x: Float[np.ndarray, "n f"], y: Float[np.ndarray, "m f"]) -> Float[np.ndarray, "n m"]:
    """x y' in float64, which for bytes (see `_checked`) is exact in float32 if it is added up in parts."""
    if x.dtype == np.float64:
        return x @ y.T
    found = np.zeros((len(x), len(y)))
    for start in range(0, x.shape[1], _EXACT):
        part = slice(start, start + _EXACT)
        found += x[:, part] @ y[:, part].T
    return found
