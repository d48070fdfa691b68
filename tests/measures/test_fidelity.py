"""Fidelity against closed forms, double loops and SciPy; and each kind of bad model, called out by the right metric."""

import math

import numpy as np
import pytest
from scipy import stats

from flax_punkvae import images
from flax_punkvae.data import split
from flax_punkvae.measures import features, fidelity
from helpers import all_punks


def draws(seed: int, count: int, size: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size))


def with_covariance(x: np.ndarray, mean: np.ndarray, root: np.ndarray) -> np.ndarray:
    """Points whose sample mean is exactly `mean` and whose sample covariance is exactly root'root."""
    centred = x - x.mean(0)
    whitening = np.linalg.inv(np.linalg.cholesky(np.cov(centred.T))).T
    return mean + centred @ whitening @ root


def distance(x: np.ndarray, y: np.ndarray) -> float:
    return math.dist(x.tolist(), y.tolist())


def radius(points: np.ndarray, i: int, k: int) -> float:
    """To the k-th nearest other point, by sorting all."""
    return sorted(distance(points[i], points[j]) for j in range(len(points)) if j != i)[k - 1]


def authenticity(train: np.ndarray, own: np.ndarray, generated: np.ndarray) -> float:
    """`own` is `fidelity.nearest_other(train)`, which takes long."""
    return fidelity.authenticity(fidelity.nearest(generated, train), own)


def test_frechet_of_a_shift_is_the_squared_shift():
    real = draws(0, 100)
    shift = np.arange(6.0)
    np.testing.assert_allclose(fidelity.frechet_distance(real, real + shift), shift @ shift, rtol=1e-12)


def test_frechet_of_diagonal_gaussians_is_the_closed_form():
    # Of commuting covariances: |mu - nu|^2 + sum (sqrt a - sqrt b)^2.
    rng = np.random.default_rng(1)
    mu, nu, a, b = (rng.uniform(0.1, 3.0, 6) for _ in range(4))
    real = with_covariance(draws(2, 50), mu, np.diag(a))
    generated = with_covariance(draws(3, 70), nu, np.diag(b))
    expected = ((mu - nu) ** 2).sum() + ((a - b) ** 2).sum()
    np.testing.assert_allclose(fidelity.frechet_distance(real, generated), expected, rtol=1e-10)


def test_frechet_of_any_gaussians_is_that_of_the_eigenvalues():
    # tr (C_r C_g)^(1/2) is the sum of the roots of the eigenvalues of C_r C_g.
    rng = np.random.default_rng(4)
    real, generated = draws(5, 60) @ rng.normal(size=(6, 6)), draws(6, 40) @ rng.normal(size=(6, 6)) + 1.0
    c_real, c_generated = np.cov(real.T), np.cov(generated.T)
    overlap = np.sqrt(np.linalg.eigvals(c_real @ c_generated).real).sum()
    expected = ((real.mean(0) - generated.mean(0)) ** 2).sum() + np.trace(c_real + c_generated) - 2 * overlap
    np.testing.assert_allclose(fidelity.frechet_distance(real, generated), expected, rtol=1e-10)


@pytest.mark.parametrize("count", [2, 4, 6, 200])
def test_frechet_of_a_set_and_itself_is_zero_however_singular_its_covariance(count: int):
    points = 1e3 * draws(7, count)
    points[:, 1] = points[:, 0]
    np.testing.assert_allclose(fidelity.frechet_distance(points, points), 0.0, atol=1e-6)


def test_kernel_distance_is_the_double_loop():
    real, generated = draws(8, 13), draws(9, 17) + 0.5

    def mean(x: np.ndarray, y: np.ndarray, itself: bool) -> float:
        values = [
            (sum(a * b for a, b in zip(x[i], y[j], strict=True)) / 6 + 1) ** 3
            for i in range(len(x))
            for j in range(len(y))
            if itself or i != j
        ]
        return sum(values) / len(values)

    expected = mean(real, real, False) + mean(generated, generated, False) - 2 * mean(real, generated, True)
    np.testing.assert_allclose(fidelity.kernel_distance(real, generated), expected, rtol=1e-12)


def test_kernel_distance_is_unbiased():
    # Its expectation over two samples of one distribution is 0; within 4 standard errors.
    values = [fidelity.kernel_distance(draws(2 * i, 20), draws(2 * i + 1, 20)) for i in range(400)]
    assert abs(np.mean(values)) < 4 * np.std(values) / math.sqrt(len(values))
    assert min(values) < 0


def test_precision_and_recall_are_the_double_loop():
    real, generated = draws(10, 40, 2), 0.7 * draws(11, 30, 2) + 0.5

    def share(x: np.ndarray, centres: np.ndarray) -> float:
        radii = [radius(centres, j, 3) for j in range(len(centres))]
        return sum(any(distance(p, c) <= r for c, r in zip(centres, radii, strict=True)) for p in x) / len(x)

    got = fidelity.precision_recall(real, generated)
    np.testing.assert_allclose(got, (share(generated, real), share(real, generated)), rtol=1e-12)
    assert all(0 < value < 1 for value in got)


def test_density_and_coverage_are_the_double_loop():
    real, generated = draws(12, 40, 2), 0.7 * draws(13, 30, 2) + 0.5
    inside = [[distance(g, real[i]) <= radius(real, i, 5) for i in range(len(real))] for g in generated]
    density = sum(sum(row) for row in inside) / (5 * len(generated))
    coverage = sum(any(row[i] for row in inside) for i in range(len(real))) / len(real)
    np.testing.assert_allclose(fidelity.density_coverage(real, generated), (density, coverage), rtol=1e-12)


def test_a_set_has_all_of_itself():
    # Longer than one block. Each point is in its own ball and in those whose k-th nearest point or nearer it is: of
    # all balls together k + 1 points each, exactly.
    points = draws(14, 1100).astype(np.float32)
    assert fidelity.precision_recall(points, points) == (1.0, 1.0)
    density, coverage = fidelity.density_coverage(points, points)
    assert coverage == 1.0
    np.testing.assert_allclose(density, 6 / 5, rtol=1e-12)


def test_of_one_distribution_density_is_one_and_coverage_its_expectation():
    # Naeem et al. 2020: 1 - product over j = 1..k of (n - j) / (m + n - j), of any distribution.
    n = m = 200
    values = np.array([fidelity.density_coverage(draws(3 * i, n), draws(3 * i + 1, m)) for i in range(40)])
    expected = 1 - math.prod((n - j) / (m + n - j) for j in range(1, 6))
    error = 4 * values.std(0) / math.sqrt(len(values))
    assert abs(values[:, 0].mean() - 1.0) < error[0]
    assert abs(values[:, 1].mean() - expected) < error[1]


def test_nearest_is_the_double_loop_and_finds_equals_at_zero():
    references = draws(15, 700).astype(np.float32)
    queries = np.concatenate([draws(16, 600).astype(np.float32), references[:50]])
    indices, distances = fidelity.nearest(queries, references)
    for query, index, squared in zip(queries[::7], indices[::7], distances[::7], strict=True):
        by_hand = ((references.astype(np.float64) - query) ** 2).sum(1)
        assert index == by_hand.argmin()
        np.testing.assert_allclose(squared, by_hand.min(), rtol=1e-9, atol=1e-12)
    assert (indices[600:] == np.arange(50)).all() and (distances[600:] == 0).all()


def test_a_feature_that_all_references_share_counts():
    """Oracle: double loop; the nearest other point in blocks of fewer rows than there are points."""
    references, queries = draws(36, 600), draws(37, 40)
    references[:, 1] = 3.0
    indices, distances = fidelity.nearest(queries, references)
    for query, index, squared in zip(queries, indices, distances, strict=True):
        by_hand = ((references - query) ** 2).sum(1)
        assert index == by_hand.argmin()
        np.testing.assert_allclose(squared, by_hand.min(), rtol=1e-9)
    own = fidelity.nearest_other(references)
    by_hand = [radius(references, i, 1) ** 2 for i in range(0, 600, 25)]
    np.testing.assert_allclose(own[::25], by_hand, rtol=1e-9)
    assert fidelity.nearest(queries, references[:1])[1] == pytest.approx(((queries - references[0]) ** 2).sum(1))


@pytest.mark.parametrize("ties", [False, True])
def test_data_copying_is_scipy_s_mann_whitney(ties: bool):
    train, test, generated = draws(17, 300), draws(18, 80), 0.9 * draws(19, 120)
    if ties:
        test[:10], generated[:30] = train[:10], train[:30]
    far_test, far_generated = (
        [min(((row - point) ** 2).sum() for point in train) for row in rows] for rows in (test, generated)
    )
    u, p = stats.mannwhitneyu(far_generated, far_test, alternative="less", method="asymptotic", use_continuity=False)
    z = fidelity.data_copying_z(train, test, generated)
    np.testing.assert_allclose(stats.norm.cdf(z), p, rtol=1e-9)
    assert (z < 0) == (u < 80 * 120 / 2)


def test_data_copying_in_cells_is_the_weighted_mean_of_those_of_the_cells():
    # Two clusters far apart are the two cells; in one of them the model copies. A third has too few of the generated.
    train, test, generated = draws(20, 300), draws(21, 150), draws(22, 150)
    generated[:60] = train[:60]
    parts = [
        (train[:200], test[:90], generated[:60]),
        (train[200:290] + 1e3, test[90:] + 1e3, generated[60:140] + 1e3),
        (train[290:] + 1e4, test[:2] + 1e4, generated[140:] + 1e4),
    ]
    together = [np.concatenate(rows) for rows in zip(*parts, strict=True)]
    one, two = (fidelity.data_copying_z(*part) for part in parts[:2])
    got = fidelity.data_copying_z(*together, cells=3)
    np.testing.assert_allclose(got, (90 * one + 60 * two) / 150, rtol=1e-9)
    assert one < -8 and abs(two) < 4


def test_of_copies_alike_on_both_sides_the_z_score_is_zero():
    train = draws(23, 30)
    assert fidelity.data_copying_z(train, train, train) == 0.0


def test_authenticity_is_the_double_loop():
    train, generated = draws(24, 60, 2), draws(25, 50, 2)
    authentic = 0
    for row in generated:
        i = min(range(len(train)), key=lambda i: distance(row, train[i]))
        authentic += distance(row, train[i]) >= radius(train, i, 1)
    own = fidelity.nearest_other(train)
    np.testing.assert_allclose(own, [radius(train, i, 1) ** 2 for i in range(len(train))], rtol=1e-9)
    assert fidelity.authenticity(fidelity.nearest(generated, train), own) == authentic / 50
    assert 0 < authentic < 50
    assert fidelity.authenticity(fidelity.nearest(train, train), own) == 0.0


def test_planted_copies_are_counted():
    rng = np.random.default_rng(26)
    train, generated = (rng.integers(0, 256, (count, 24, 24, 3), np.uint8) for count in (50, 40))
    assert fidelity.exact_copies(train, generated) == 0
    generated[[3, 7, 30]] = train[[0, 49, 0]]
    # All but one channel of one pixel.
    generated[9] = train[5]
    generated[9, 23, 23, 2] ^= 1
    assert fidelity.exact_copies(train, generated) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: fidelity.frechet_distance(x[:1], x), "real: expected at least 2 rows, got 1"),
        (lambda x: fidelity.kernel_distance(x, x[:1]), "generated: expected at least 2 rows, got 1"),
        (lambda x: fidelity.precision_recall(x, x[:3]), "generated: expected at least 4 rows, got 3"),
        (lambda x: fidelity.precision_recall(x, x, k=0), "expected k of at least 1, got 0"),
        (lambda x: fidelity.density_coverage(x[:5], x), "real: expected at least 6 rows, got 5"),
        (lambda x: fidelity.density_coverage(x, x[:0]), "generated: expected at least 1 rows, got 0"),
        (lambda x: fidelity.nearest(x, x[:0]), "references: expected at least 1 rows, got 0"),
        (lambda x: fidelity.data_copying_z(x, x, x[:19]), "generated: expected at least 20 rows, got 19"),
        (lambda x: fidelity.data_copying_z(x, x, x, cells=0), "expected at least 1 cell, got 0"),
        (lambda x: fidelity.data_copying_z(x, x, x, cells=9), "expected a cell with 20 generated points"),
        (lambda x: fidelity.distances_z(x[:19, 0], x[:, 0]), "generated: expected at least 20 rows, got 19"),
        (lambda x: fidelity.nearest_other(x[:1]), "points: expected at least 2 rows, got 1"),
        (lambda x: fidelity.frechet_distance(x, np.where(x > 0, np.nan, x)), "generated: expected finite numbers"),
    ],
)
def test_too_little_is_said_with_what_was_expected(call, message: str):
    with pytest.raises(ValueError, match=message):
        call(draws(27, 30))


def test_each_kind_of_bad_model_is_called_out_by_the_right_metric():
    # Made-up features: what is asserted of the honest is what the definitions say of fresh draws.
    train, test, honest = draws(30, 2000), draws(31, 800), draws(32, 800)
    copying = train[:800]
    collapsed = 0.02 * draws(33, 800)
    noise = np.random.default_rng(34).uniform(-20, 20, (800, 6))
    own = fidelity.nearest_other(train)

    def measured(generated: np.ndarray) -> dict[str, float]:
        precision, recall = fidelity.precision_recall(test, generated)
        density, coverage = fidelity.density_coverage(test, generated)
        return {
            "frechet": fidelity.frechet_distance(test, generated),
            "kernel": fidelity.kernel_distance(test, generated),
            "precision": precision,
            "recall": recall,
            "density": density,
            "coverage": coverage,
            "z": fidelity.data_copying_z(train, test, generated),
            "authentic": authenticity(train, own, generated),
        }

    good = measured(honest)
    assert good["frechet"] < 0.2 and abs(good["kernel"]) < 0.1
    assert good["precision"] > 0.8 and good["recall"] > 0.8 and good["coverage"] > 0.9
    assert abs(good["density"] - 1) < 0.15 and abs(good["z"]) < 3 and good["authentic"] > 0.3

    # A copy looks as good as the honest to all but the measures of copying.
    bad = measured(copying)
    assert bad["frechet"] < 0.2 and bad["precision"] > 0.8 and bad["recall"] > 0.8 and bad["coverage"] > 0.9
    assert bad["z"] < -20 and bad["authentic"] == 0.0

    bad = measured(collapsed)
    assert bad["precision"] == 1.0 and bad["density"] > 1
    assert bad["recall"] < 0.05 and bad["coverage"] < 0.2 and bad["frechet"] > 3

    bad = measured(noise)
    assert bad["precision"] < 0.05 and bad["density"] < 0.05 and bad["frechet"] > 100 and bad["kernel"] > 100
    assert bad["z"] > 20 and bad["authentic"] > 0.9


def test_each_kind_of_bad_model_is_called_out_on_sprites():
    # Real punks, half of the held-out ones as an honest model's.
    sprites = images.over_background(all_punks.load().pixels, images.parse_colour("#638596"))
    train_at, test_at = split(len(sprites), 0.2, 0)
    train, test, honest = sprites[train_at], sprites[test_at[::2]], sprites[test_at[1::2]]
    rng = np.random.default_rng(35)
    copying = train[rng.permutation(len(train))[:1000]]
    collapsed = honest[np.arange(1000) % 4]
    noise = rng.integers(0, 256, honest.shape, np.uint8)
    assert [fidelity.exact_copies(train, made) for made in (honest, copying, collapsed, noise)] == [0, 1000, 0, 0]

    network = features.load()
    known, real = features.extract(network, train), features.extract(network, test)
    good, copy, collapse, wild = (features.extract(network, made) for made in (honest, copying, collapsed, noise))
    assert abs(fidelity.data_copying_z(known, real, good)) < 3
    assert fidelity.data_copying_z(known, real, copy) < -20
    own = fidelity.nearest_other(known)
    assert authenticity(known, own, copy) < 0.05 < 0.2 < authenticity(known, own, good)
    assert fidelity.precision_recall(real, good)[1] > 0.5 > 0.05 > fidelity.precision_recall(real, collapse)[1]
    assert fidelity.density_coverage(real, good)[1] > 0.9
    assert fidelity.density_coverage(real, collapse)[1] < 0.1
    assert fidelity.precision_recall(real, wild)[0] < 0.05
    # Not 0: the balls of a few rare punks are wide.
    assert fidelity.density_coverage(real, wild)[0] < 0.2 < 0.8 < fidelity.density_coverage(real, good)[0]
    near, far = (fidelity.frechet_distance(real, made) for made in (good, wild))
    assert far > 20 * near
