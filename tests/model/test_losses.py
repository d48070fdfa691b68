"""Losses against SciPy, Monte Carlo and float64 NumPy."""

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from flax_punkvae.model import losses

# As in training, and each shape is compiled once, not once for each operation.
gaussian_kl, squared_error = jax.jit(losses.gaussian_kl), jax.jit(losses.squared_error)
SHAPES = st.sampled_from([(1, 1), (3, 8), (7, 2)])


def floats(low: float, high: float) -> st.SearchStrategy[np.ndarray]:
    return hnp.arrays(np.float32, SHAPES, elements=st.floats(low, high, width=32))


@given(floats(-5, 5), st.integers(0, 2**31))
def test_gaussian_kl_equals_the_closed_form_in_float64(mean: np.ndarray, seed: int):
    logvar = np.random.default_rng(seed).uniform(-5, 3, mean.shape).astype(np.float32)
    sigma = np.exp(logvar.astype(np.float64) / 2)
    # KL of univariate Gaussians: log(s2/s1) + (s1^2 + (m1-m2)^2) / (2 s2^2) - 1/2, here with s2 = 1 and m2 = 0.
    expected = np.sum(-np.log(sigma) + (sigma**2 + mean.astype(np.float64) ** 2) / 2 - 0.5, axis=1)
    np.testing.assert_allclose(gaussian_kl(mean, logvar), expected, rtol=2e-5, atol=2e-5)


def test_gaussian_kl_equals_monte_carlo():
    rng = np.random.default_rng(0)
    mean, logvar = rng.normal(size=(2, 1, 6))
    sigma = np.exp(logvar / 2)
    z = mean + sigma * rng.standard_normal((200_000, 6))
    ratios = np.sum(stats.norm.logpdf(z, mean, sigma) - stats.norm.logpdf(z), axis=1)
    kl = gaussian_kl(mean.astype(np.float32), logvar.astype(np.float32))[0]
    assert abs(float(kl) - ratios.mean()) < 4 * ratios.std() / np.sqrt(len(ratios))


@given(floats(-20, 20), floats(-20, 20))
def test_gaussian_kl_is_never_negative(mean: np.ndarray, logvar: np.ndarray):
    logvar = np.resize(logvar, mean.shape)
    kl = np.asarray(gaussian_kl(mean, logvar))
    assert np.all(np.isfinite(kl))
    # In float32, 1 + logvar - exp(logvar) cancels near 0.
    assert np.all(kl >= -1e-5)


def test_gaussian_kl_of_the_prior_is_zero():
    assert gaussian_kl(*np.zeros((2, 3, 8), np.float32)).tolist() == [0.0, 0.0, 0.0]


@given(st.sampled_from([(1, 1, 1, 1), (4, 9, 5, 3), (3, 2, 8, 1)]), st.integers(0, 2**31))
def test_squared_error_is_the_sum_over_an_image(shape: tuple[int, ...], seed: int):
    images, reconstructions = np.random.default_rng(seed).random((2, *shape), np.float32)
    difference = images.astype(np.float64) - reconstructions
    expected = np.array([np.sum(example**2) for example in difference])
    np.testing.assert_allclose(squared_error(images, reconstructions), expected, rtol=1e-5)


def test_gaussian_kl_per_latent_sums_to_the_kl():
    """Oracle: KL of univariate Gaussians in float64; and what training sums."""
    mean, logvar = np.random.default_rng(1).standard_normal((2, 50, 6)).astype(np.float32)
    found = jax.jit(losses.gaussian_kl_per_latent)(mean, logvar)
    whole = gaussian_kl(mean, logvar)
    variance = np.exp(logvar.astype(float))
    np.testing.assert_allclose(found, (variance + mean.astype(float) ** 2 - 1 - logvar) / 2, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.asarray(found).sum(1), whole, rtol=1e-5)


def test_a_gaussian_log_density_is_scipys():
    z, mean, logvar = np.random.default_rng(3).standard_normal((3, 5, 4)).astype(np.float32)
    expected = stats.norm.logpdf(z, mean, np.exp(logvar.astype(float) / 2))
    found = jax.jit(losses.gaussian_log_density)(z, mean, logvar)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_negative_elbo_weighs_the_kl():
    loss = losses.negative_elbo(jnp.array([322.48]), jnp.array([26.05]), 3.4)
    np.testing.assert_allclose(loss, [322.48 + 3.4 * 26.05], rtol=1e-6)
