"""Walks and draws; each test names its oracle."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.transform import Rotation, Slerp

from flax_punkvae.errors import UserError
from flax_punkvae.trained import latents

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 16)).astype(np.float32)
HOWS = ("gaussian", "mixture")


def posteriors(n: int = 400, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Correlated means around (5, -2, 1), and variances that differ from image to image."""
    rng = np.random.default_rng(1)
    means = rng.standard_normal((n, d)) @ np.array([[1.0, 0.5, 0.0], [0.0, 0.8, -0.6], [0.0, 0.0, 0.4]]) + [5, -2, 1]
    return means.astype(np.float32), rng.uniform(-3, 0, (n, d)).astype(np.float32)


def moments(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return z.mean(axis=0), np.cov(z, rowvar=False)


@pytest.mark.parametrize("walk", [latents.interpolate, latents.slerp])
def test_a_walk_begins_and_ends_exactly_where_it_should(walk):
    path = walk(A, B, 7)
    assert path.shape == (7, 16) and path.dtype == np.float32
    np.testing.assert_array_equal(path[[0, -1]], [A, B])


def test_interpolation_takes_equal_steps():
    """Oracle: on a straight line all differences are (b - a) / 6."""
    path = latents.interpolate(A, B, 7)
    np.testing.assert_allclose(np.diff(path, axis=0), np.tile((B - A) / 6, (6, 1)), rtol=0, atol=1e-6)


def test_slerp_keeps_the_norm_and_takes_equal_angles():
    """Oracle: an arc of a circle, of the radius that both ends have."""
    a, b = (3 * x.astype(np.float64) / np.linalg.norm(x.astype(np.float64)) for x in (A, B))
    path = latents.slerp(a, b, 9)
    np.testing.assert_allclose(np.linalg.norm(path, axis=1), 3.0, rtol=1e-12)
    angles = np.arccos((path[1:] * path[:-1]).sum(axis=1) / 9)
    np.testing.assert_allclose(angles, np.arccos(a @ b / 9) / 8, rtol=1e-9)


def test_slerp_of_quaternions_is_scipys():
    """Oracle: scipy.spatial.transform.Slerp, for which Shoemake's formula was made."""
    a, b = Rotation.from_quat([0.1, 0.2, 0.3, 0.9]), Rotation.from_quat([0.5, -0.2, 0.1, 0.8])
    theirs = Slerp([0, 1], Rotation.concatenate([a, b]))(np.linspace(0, 1, 6)).as_quat()
    ours = latents.slerp(a.as_quat(), b.as_quat(), 6)
    np.testing.assert_allclose(ours, theirs, atol=1e-12)


@pytest.mark.parametrize("b", [A, -A, 2 * A, np.zeros_like(A)], ids=["same", "opposite", "parallel", "zero"])
def test_slerp_is_linear_where_there_is_no_arc(b: np.ndarray):
    """Oracle: `interpolate`."""
    np.testing.assert_array_equal(latents.slerp(A, b, 5), latents.interpolate(A, b, 5))


def test_a_traversal_changes_one_latent():
    """Oracle: the definition, element by element; what it starts from stays."""
    before = A.copy()
    path = latents.traverse(A, 3, np.array([-3.0, 0.0, 3.0]))
    np.testing.assert_array_equal(path[:, 3], [-3, 0, 3])
    np.testing.assert_array_equal(np.delete(path, 3, axis=1), np.tile(np.delete(A, 3), (3, 1)))
    np.testing.assert_array_equal(A, before)


def test_directions_are_differences_of_means():
    """Oracle: NumPy's mean over boolean masks; nan where one of the two groups is empty."""
    means, _ = posteriors()
    wide = means.astype(np.float64)
    labels = (np.random.default_rng(2).random((400, 4)) < [0.5, 0.1, 2.0, -1.0]).astype(np.uint8)
    found = latents.directions(means, labels)
    for column in (0, 1):
        has = labels[:, column] == 1
        np.testing.assert_allclose(found[column], wide[has].mean(0) - wide[~has].mean(0), rtol=1e-6)
    assert np.isnan(found[2:]).all()


def test_the_effect_of_an_edit():
    """Oracle: counted by hand. Label 0 is added, 1 removed; of four images the first two succeed."""
    before = np.array([[0, 1, 0, 1], [0, 1, 0, 1], [0, 1, 0, 0], [0, 1, 1, 0]], bool)
    after = np.array([[1, 0, 1, 1], [1, 0, 0, 0], [1, 1, 1, 0], [0, 0, 1, 0]], bool)
    effect = latents.effect(before, after, [0], [1])
    assert effect == (0.5, 3 / 4, [(2, 0.5), (3, -0.25)])
    assert latents.effect(before, before, [0], []) == (0.0, 0.0, [])


def test_the_priors_noise_is_standard_normal_and_uniform():
    """Oracle: SciPy's Kolmogorov-Smirnov test; a mean of 20,000 has a standard error of 0.007, a covariance one of at
    most 0.01."""
    noise, uniform = latents.prior_noise(20_000, 3, 0, 1.0)
    mean, covariance = moments(noise)
    np.testing.assert_allclose(mean, 0, atol=5 * 0.0071)
    np.testing.assert_allclose(covariance, np.eye(3), atol=5 * 0.01)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert all(stats.kstest(column, "uniform").pvalue > 1e-4 for column in uniform.T)
    assert stats.kstest(noise[:, 0], "norm").pvalue > 1e-4


def test_the_priors_noise_follows_from_the_seed_and_more_begins_with_less():
    (noise, uniform), (more, more_uniform) = (latents.prior_noise(count, 4, 3, 0.5) for count in (5, 9))
    np.testing.assert_array_equal(more[:5], noise)
    np.testing.assert_array_equal(more_uniform[:5], uniform)
    np.testing.assert_allclose(latents.prior_noise(5, 4, 3, 1.0)[0] / 2, noise, rtol=1e-6)
    assert not np.allclose(latents.prior_noise(5, 4, 4, 0.5)[0], noise)


@pytest.mark.parametrize("how", ["gaussian", "mixture"])
def test_fitted_samplers_recover_the_moments_of_the_aggregate(how):
    """Oracle: Monte Carlo, 400,000 draws from the posteriors themselves; 5 standard errors of the 20,000 samples, for
    the mixture of the 400 draws it is fitted to."""
    means, logvars = posteriors()
    # Far from unit scale, where a variance is no standard deviation.
    means, logvars = 8 * means, logvars + np.float32(2 * np.log(8))
    rng = np.random.default_rng(3)
    draws = np.concatenate([means + np.exp(logvars / 2) * rng.standard_normal(means.shape) for _ in range(1000)])
    expected_mean, expected = moments(draws)
    mean, covariance = moments(latents.sample(how, 20_000, 0, 1.0, means, logvars))
    scale = np.sqrt(np.diag(expected))
    fitted_to = 20_000 if how == "gaussian" else 400
    assert (np.abs(mean - expected_mean) < 5 * scale / np.sqrt(fitted_to)).all()
    error = np.sqrt(2 / fitted_to)
    assert (np.abs(covariance - expected) < 5 * error * np.outer(scale, scale)).all()


def test_the_aggregate_is_the_law_of_total_covariance():
    """Oracle: np.cov of the means (ddof 0) plus the mean variances, in float64."""
    means, logvars = posteriors()
    centre, covariance = latents.aggregate(means, logvars)
    np.testing.assert_allclose(centre, means.astype(float).mean(0), rtol=1e-12)
    expected = np.cov(means.astype(float), rowvar=False, ddof=0) + np.diag(np.exp(logvars.astype(float)).mean(0))
    np.testing.assert_allclose(covariance, expected, rtol=1e-12)


@pytest.mark.parametrize("how", HOWS)
def test_temperature_scales_deviations(how):
    """Oracle: with the same seed, z(T) = centre + T (z(1) - centre), the centre being z(0)."""
    centre, half, whole = (latents.sample(how, 50, 7, t, *posteriors()).astype(float) for t in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half, centre + 0.5 * (whole - centre), atol=1e-5)
    if how == "gaussian":
        np.testing.assert_allclose(centre, np.tile(posteriors()[0].astype(float).mean(0), (50, 1)), rtol=1e-6)
    else:
        assert 1 < len(np.unique(centre, axis=0)) <= latents.COMPONENTS


@pytest.mark.parametrize("how", HOWS)
def test_samples_follow_from_the_seed_and_more_begin_with_fewer(how):
    """Oracle: equality, and the first ones of a longer draw; another seed gives others."""
    first = latents.sample(how, 5, 3, 1.0, *posteriors())
    assert first.dtype == np.float32
    np.testing.assert_array_equal(latents.sample(how, 5, 3, 1.0, *posteriors()), first)
    # A product of matrices may round otherwise where it has more rows.
    np.testing.assert_allclose(latents.sample(how, 9, 3, 1.0, *posteriors())[:5], first, rtol=1e-5)
    assert not np.allclose(latents.sample(how, 5, 4, 1.0, *posteriors()), first)


def test_a_mixture_of_fewer_images_than_components():
    assert np.isfinite(latents.sample("mixture", 4, 0, 1.0, *posteriors(n=8))).all()


def test_a_mixture_of_one_image_is_its_posterior():
    """Oracle: the moments of the posterior; 5 standard errors of 20,000 draws."""
    means, logvars = posteriors(n=1)
    mean, covariance = moments(latents.sample("mixture", 20_000, 0, 1.0, means, logvars))
    deviation = np.exp(logvars[0] / 2)
    assert (np.abs(mean - means[0]) < 5 * deviation / np.sqrt(20_000)).all()
    error = 5 * np.sqrt(2 / 20_000) * np.outer(deviation, deviation)
    assert (np.abs(covariance - np.diag(deviation**2)) < error).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_gaussian_of_fewer_images_than_latents_however_narrow(n: int):
    """Oracle: the draws lie in the plane of the means. Rounding leaves their covariance not positive definite."""
    means = 1e3 * posteriors(n=3)[0][:n]
    z = latents.sample("gaussian", 50, 0, 1.0, means, np.full_like(means, -80.0)).astype(float)
    centred = means.astype(float) - means.astype(float).mean(0)
    plane = np.linalg.pinv(centred) @ centred
    off = (z - means.astype(float).mean(0)) @ (np.eye(means.shape[1]) - plane)
    assert np.isfinite(z).all() and np.abs(off).max() < 1e-2


@pytest.mark.parametrize("how", HOWS)
def test_chunks_are_the_rows_of_one_draw(how, monkeypatch: pytest.MonkeyPatch):
    """Oracle: one chunk. A product of matrices may round otherwise where it has more rows."""
    whole = latents.sample(how, 50, 3, 0.5, *posteriors())
    noises = latents.prior_noise(50, 4, 3, 0.5)
    monkeypatch.setattr(latents, "CHUNK", 8)
    np.testing.assert_allclose(latents.sample(how, 50, 3, 0.5, *posteriors()), whole, rtol=1e-5)
    assert [len(chunk) for chunk in latents.samples(how, 20, 3, 0.5, *posteriors())] == [8, 8, 4]
    np.testing.assert_array_equal(latents.prior_noise(50, 4, 3, 0.5), noises)


def test_without_scikit_learn_a_mixture_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)
    with pytest.raises(UserError, match=r"pip install '\.\[evaluate\]'"):
        latents.sample("mixture", 1, 0, 1.0, *posteriors())


def test_latents_wait_for_no_library():
    code = "import sys, flax_punkvae.latents as _; assert not {'jax', 'sklearn'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
