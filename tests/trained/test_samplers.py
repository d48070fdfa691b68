"""Draws of latents; each test names its oracle."""

import sys
from typing import get_args

import numpy as np
import pytest
from scipy import stats

from flax_punkvae.errors import UserError
from flax_punkvae.trained import samplers
from flax_punkvae.trained.samplers import SAMPLERS, SamplerName, Source
from helpers.latents import posteriors

HOWS = ("gaussian", "mixture")


def moments(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return z.mean(axis=0), np.cov(z, rowvar=False)


def source(means: np.ndarray, logvars: np.ndarray) -> Source:
    """Of these posteriors, under a prior that moves the noise by the uniform draws."""
    return Source(means.shape[1], lambda: (means, logvars), lambda noise, uniform: noise + 10 * uniform)


def sample(
    how: SamplerName, count: int, seed: int, temperature: float, means: np.ndarray, logvars: np.ndarray
) -> np.ndarray:
    chunks = samplers.samples(SAMPLERS[how], source(means, logvars), count, seed, temperature)
    return np.concatenate([draws.latents for draws in chunks])


def prior_noise(count: int, latent: int, seed: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    return samplers.prior_noise(samplers.streams(seed), count, latent, temperature)


def test_the_priors_noise_is_standard_normal_and_uniform():
    """Oracle: SciPy's Kolmogorov-Smirnov test; a mean of 20,000 has a standard error of 0.007, a covariance one of at
    most 0.01."""
    noise, uniform = prior_noise(20_000, 3, 0, 1.0)
    mean, covariance = moments(noise)
    np.testing.assert_allclose(mean, 0, atol=5 * 0.0071)
    np.testing.assert_allclose(covariance, np.eye(3), atol=5 * 0.01)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert all(stats.kstest(column, "uniform").pvalue > 1e-4 for column in uniform.T)
    assert stats.kstest(noise[:, 0], "norm").pvalue > 1e-4


def test_the_priors_noise_follows_from_the_seed_and_more_begins_with_less():
    (noise, uniform), (more, more_uniform) = (prior_noise(count, 4, 3, 0.5) for count in (5, 9))
    np.testing.assert_array_equal(more[:5], noise)
    np.testing.assert_array_equal(more_uniform[:5], uniform)
    np.testing.assert_allclose(prior_noise(5, 4, 3, 1.0)[0] / 2, noise, rtol=1e-6)
    assert not np.allclose(prior_noise(5, 4, 4, 0.5)[0], noise)


def test_seeds_of_pixels_follow_from_the_seed_and_more_begin_with_fewer():
    """Oracle: SciPy's Kolmogorov-Smirnov test of 32-bit integers; across chunks of 256."""
    fewer, more, other = (
        np.concatenate([draws.seeds for draws in samplers.samples(SAMPLERS["prior"], source(*posteriors()), *of, 1.0)])
        for of in ((300, 3), (1000, 3), (300, 4))
    )
    np.testing.assert_array_equal(more[:300], fewer)
    assert not np.isin(other, fewer).any() and len(np.unique(more)) == 1000
    assert stats.kstest(more / 2.0**32, "uniform").pvalue > 1e-4


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
    mean, covariance = moments(sample(how, 20_000, 0, 1.0, means, logvars))
    scale = np.sqrt(np.diag(expected))
    fitted_to = 20_000 if how == "gaussian" else 400
    assert (np.abs(mean - expected_mean) < 5 * scale / np.sqrt(fitted_to)).all()
    error = np.sqrt(2 / fitted_to)
    assert (np.abs(covariance - expected) < 5 * error * np.outer(scale, scale)).all()


@pytest.mark.parametrize("how", HOWS)
def test_temperature_scales_deviations(how):
    """Oracle: with the same seed, z(T) = centre + T (z(1) - centre), the centre being z(0)."""
    centre, half, whole = (sample(how, 50, 7, t, *posteriors()).astype(float) for t in (0.0, 0.5, 1.0))
    np.testing.assert_allclose(half, centre + 0.5 * (whole - centre), atol=1e-5)
    if how == "gaussian":
        np.testing.assert_allclose(centre, np.tile(posteriors()[0].astype(float).mean(0), (50, 1)), rtol=1e-6)
    else:
        assert 1 < len(np.unique(centre, axis=0)) <= samplers.COMPONENTS


@pytest.mark.parametrize("how", HOWS)
def test_samples_follow_from_the_seed_and_more_begin_with_fewer(how):
    """Oracle: equality, and the first ones of a longer draw; another seed gives others."""
    first = sample(how, 5, 3, 1.0, *posteriors())
    assert first.dtype == np.float32
    np.testing.assert_array_equal(sample(how, 5, 3, 1.0, *posteriors()), first)
    # A product of matrices may round otherwise where it has more rows.
    np.testing.assert_allclose(sample(how, 9, 3, 1.0, *posteriors())[:5], first, rtol=1e-5)
    assert not np.allclose(sample(how, 5, 4, 1.0, *posteriors()), first)


def test_a_mixture_of_fewer_images_than_components():
    assert np.isfinite(sample("mixture", 4, 0, 1.0, *posteriors(n=8))).all()


def test_a_mixture_of_one_image_is_its_posterior():
    """Oracle: the moments of the posterior; 5 standard errors of 20,000 draws."""
    means, logvars = posteriors(n=1)
    mean, covariance = moments(sample("mixture", 20_000, 0, 1.0, means, logvars))
    deviation = np.exp(logvars[0] / 2)
    assert (np.abs(mean - means[0]) < 5 * deviation / np.sqrt(20_000)).all()
    error = 5 * np.sqrt(2 / 20_000) * np.outer(deviation, deviation)
    assert (np.abs(covariance - np.diag(deviation**2)) < error).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_a_gaussian_of_fewer_images_than_latents_however_narrow(n: int):
    """Oracle: the draws lie in the plane of the means. Rounding leaves their covariance not positive definite."""
    means = 1e3 * posteriors(n=3)[0][:n]
    z = sample("gaussian", 50, 0, 1.0, means, np.full_like(means, -80.0)).astype(float)
    centred = means.astype(float) - means.astype(float).mean(0)
    plane = np.linalg.pinv(centred) @ centred
    off = (z - means.astype(float).mean(0)) @ (np.eye(means.shape[1]) - plane)
    assert np.isfinite(z).all() and np.abs(off).max() < 1e-2


@pytest.mark.parametrize("how", HOWS)
def test_chunks_are_the_rows_of_one_draw(how, monkeypatch: pytest.MonkeyPatch):
    """Oracle: one chunk. A product of matrices may round otherwise where it has more rows."""
    whole = sample(how, 50, 3, 0.5, *posteriors())
    noises = prior_noise(50, 4, 3, 0.5)
    monkeypatch.setattr(samplers, "CHUNK", 8)
    np.testing.assert_allclose(sample(how, 50, 3, 0.5, *posteriors()), whole, rtol=1e-5)
    assert [len(chunk.seeds) for chunk in samplers.samples(SAMPLERS[how], source(*posteriors()), 20, 3, 0.5)] == [
        8,
        8,
        4,
    ]
    np.testing.assert_array_equal(prior_noise(50, 4, 3, 0.5), noises)


def test_without_scikit_learn_a_mixture_is_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.exceptions", None)
    with pytest.raises(UserError, match=r"pip install '\.\[evaluate\]'"):
        sample("mixture", 1, 0, 1.0, *posteriors())


def test_every_sampler_has_a_name():
    assert list(SAMPLERS) == list(get_args(SamplerName))


def test_the_prior_makes_latents_of_its_noise(monkeypatch: pytest.MonkeyPatch):
    """Oracle: the noise of one draw, chunk after chunk."""
    monkeypatch.setattr(samplers, "CHUNK", 8)
    noise, uniform = prior_noise(20, 3, 5, 0.5)
    np.testing.assert_array_equal(sample("prior", 20, 5, 0.5, *posteriors()), noise + 10 * uniform)
