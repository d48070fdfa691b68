"""Metrics of a trained VAE, against closed forms and independent computations."""

import math

import numpy as np
import pytest
from scipy import stats

from flax_punkvae.measures import metrics
from flax_punkvae.model.likelihoods import gaussian_log_likelihood


def test_active_units_are_those_that_vary():
    random = np.random.default_rng(0)
    means = random.standard_normal((4_000, 4)) * np.array([1.0, 0.2, 0.05, 0.0])
    # Variances 1, 0.04, 0.0025, 0 about the threshold of 0.01.
    assert metrics.active_units(means).tolist() == [True, True, False, False]


A, SIGMA, X = 1.5, 0.7, 0.9
LOG_P = float(stats.norm.logpdf(X, 0, math.sqrt(A**2 + SIGMA**2)))


def log_weights(mean: float, variance: float, n: int, k: int) -> np.ndarray:
    """Of p(z) = N(0, 1), p(x|z) = N(A z, SIGMA^2) with q(z|x) = N(mean, variance)."""
    z = mean + math.sqrt(variance) * np.random.default_rng(4).standard_normal((n, k, 1))
    likelihood = gaussian_log_likelihood(((X - A * z) ** 2)[..., 0], SIGMA, 1)
    ones = np.ones_like(z)
    ratio = stats.norm.logpdf(z) - stats.norm.logpdf(z, mean * ones, math.sqrt(variance))
    return likelihood + ratio[..., 0]


def test_with_the_true_posterior_every_bound_is_the_likelihood():
    variance = 1 / (1 + A**2 / SIGMA**2)
    weights = log_weights(variance * A * X / SIGMA**2, variance, 3, 100)
    for samples in (1, 10, 100):
        np.testing.assert_allclose(metrics.iwae_bound(weights, samples), LOG_P)


def test_with_another_the_bound_rises_to_the_likelihood():
    """Oracle: log p(x) of a linear Gaussian model, exactly; the first bound is the ELBO, log p(x) - KL(q || p(z|x))."""
    weights = log_weights(0.0, 1.0, 200, 1000)
    bounds = [float(metrics.iwae_bound(weights, samples).mean()) for samples in (1, 10, 100, 1000)]
    assert bounds == sorted(bounds) and bounds[-1] < LOG_P + 0.01
    assert LOG_P - bounds[-1] < 0.01
    variance = 1 / (1 + A**2 / SIGMA**2)
    mean = variance * A * X / SIGMA**2
    divergence = 0.5 * (1 / variance + mean**2 / variance - 1 + math.log(variance))
    np.testing.assert_allclose(bounds[0], LOG_P - divergence, atol=0.02)


@pytest.mark.parametrize("samples", [0, 3, 11])
def test_samples_must_divide_the_weights(samples: int):
    with pytest.raises(ValueError, match="divides the 10 weights"):
        metrics.iwae_bound(np.zeros((2, 10)), samples)


def test_pixel_and_sprite_accuracy():
    originals = np.zeros((2, 2, 2, 3), np.uint8)
    sprites = originals.copy()
    sprites[1, 0, 0, 2] = 1
    assert metrics.pixel_and_sprite_accuracy(sprites, originals) == (7 / 8, 1 / 2)
