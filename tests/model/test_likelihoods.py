"""Each likelihood, against SciPy and closed forms; and the table, against the names that a config may have."""

import math
from typing import get_args, get_type_hints

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flax_punkvae.config import LIKELIHOOD_RENDERS, ModelConfig
from flax_punkvae.model import likelihoods
from flax_punkvae.model.likelihoods import CATEGORICAL, GAUSSIAN, LIKELIHOODS


def test_a_config_may_name_every_likelihood_and_no_other():
    names = get_args(get_type_hints(ModelConfig)["likelihood"])
    assert list(LIKELIHOODS) == list(LIKELIHOOD_RENDERS) == list(names)


def test_a_gaussian_log_likelihood_is_scipys():
    random = np.random.default_rng(2)
    x, m = random.random((2, 7))
    expected = stats.norm.logpdf(x, m, 1.3).sum()
    found = likelihoods.gaussian_log_likelihood(((x - m) ** 2).sum(keepdims=True), 1.3, 7)
    np.testing.assert_allclose(found, [expected])


@given(st.floats(0.1, 100))
def test_beta_in_other_units(beta: float):
    """Oracle: at that sigma, beta times the Gaussian's negative log-likelihood is the squared error and a constant."""
    sigma = likelihoods.implied_sigma(beta)
    none, two = -likelihoods.gaussian_log_likelihood(np.array([0.0, 2.0]), sigma, 3)
    np.testing.assert_allclose(beta * (two - none), 2.0)
    assert likelihoods.pythae_beta(beta) == beta / 2


def test_the_reference_implies_a_sigma_of_1_3():
    assert round(likelihoods.implied_sigma(3.4), 2) == 1.30 and likelihoods.pythae_beta(3.4) == 1.7


def test_a_gaussian_takes_floats_and_gives_them_back():
    """Oracle: NumPy."""
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3) * 10
    pixels = GAUSSIAN.pixels(jnp.array(images))
    np.testing.assert_allclose(pixels, images / 255, rtol=1e-6)
    assert GAUSSIAN.image
    np.testing.assert_array_equal(GAUSSIAN.image(pixels), pixels)


def test_a_categorical_takes_indices_as_they_are():
    indices = jnp.array([[[[2]], [[0]]]], jnp.uint8)
    assert CATEGORICAL.pixels(indices) is indices


def test_a_gaussian_has_a_density_where_beta_gives_it_a_deviation():
    """Oracle: SciPy's density at sigma = sqrt(beta / 2), here 0.5; at a beta of 0 there is none."""
    assert GAUSSIAN.noise(0.5) == {"sigma": 0.5} and GAUSSIAN.noise(0.0) is None
    errors = np.array([0.0, 2.0])
    expected = stats.norm.logpdf(np.sqrt(errors), 0, 0.5) + 2 * stats.norm.logpdf(0, 0, 0.5)
    np.testing.assert_allclose(GAUSSIAN.log_likelihood(errors, 0.5, 3), expected)
    found = GAUSSIAN.negative_elbo(2.0, 7.0, 0.5, 3)
    assert (found["sigma"], found["pythae_beta"]) == (0.5, 0.25)
    np.testing.assert_allclose(found["negative_elbo_nats_at_sigma"], 7.0 - expected[1])
    assert GAUSSIAN.negative_elbo(2.0, 7.0, 0.0, 3) == {"pythae_beta": 0.0}


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_a_categorical_has_its_log_likelihood_at_any_beta(beta: float):
    """Oracle: the distortion is the negative log-likelihood, in nats; a bit is ln 2 of them."""
    assert CATEGORICAL.noise(beta) == {}
    assert CATEGORICAL.log_likelihood(np.array([3.0]), beta, 576).tolist() == [-3.0]
    assert CATEGORICAL.negative_elbo(3.0, 2.0, beta, 576) == {"negative_elbo_bits": 5.0 / math.log(2)}


def test_metrics_are_named_in_the_order_of_a_record():
    assert GAUSSIAN.metrics == ("loss", "mse", "kl") and CATEGORICAL.metrics == ("loss", "cross_entropy", "kl", "bits")
