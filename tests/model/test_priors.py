"""The learned prior: a density, autoregressive, that its own samples follow."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flax_punkvae.model.priors import AutoregressivePrior

PRIOR = AutoregressivePrior(latent=3, hidden=16, components=4)


def apply(variables: Any, *arguments: Any, method: str) -> Any:
    return jax.jit(lambda variables, *rest: PRIOR.apply(variables, *rest, method=method))(variables, *arguments)


@pytest.fixture(scope="module")
def variables() -> Any:
    """Parameters large enough that latents depend on each other and components are apart."""
    begun = PRIOR.init(jax.random.key(0), jnp.zeros((1, 3)), method="log_prob")
    keys = iter(jax.random.split(jax.random.key(1), 6))
    return jax.tree.map(lambda leaf: leaf + 0.4 * jax.random.normal(next(keys), leaf.shape), begun)


def test_log_prob_is_that_of_the_mixtures(variables: Any):
    """Oracle: SciPy's normal densities, weighted and added in float64."""
    z = np.random.default_rng(0).normal(0, 2, (7, 3)).astype(np.float32)
    log_weights, means, log_scales = (np.asarray(x, np.float64) for x in apply(variables, z, method="mixtures"))
    np.testing.assert_allclose(np.exp(log_weights).sum(-1), 1, rtol=1e-5)
    density = (np.exp(log_weights) * stats.norm.pdf(z[..., None], means, np.exp(log_scales))).sum(-1)
    np.testing.assert_allclose(apply(variables, z, method="log_prob"), np.log(density), rtol=1e-4, atol=1e-5)


def test_the_density_integrates_to_one(variables: Any):
    """Oracle: a Riemann sum; each factor by itself, given those before it."""
    axis = np.arange(-200, 200, 0.05, dtype=np.float32)
    for latent in range(3):
        points = np.full((len(axis), 3), 0.7, np.float32)
        points[:, latent] = axis
        density = np.exp(np.asarray(apply(variables, points, method="log_prob"), np.float64)[:, latent])
        assert abs(density.sum() * 0.05 - 1) < 0.001


def test_a_latents_mixture_depends_on_those_before_it_alone(variables: Any):
    """Oracle: the Jacobian, which is strictly lower triangular, and full below the diagonal."""
    for part in range(3):

        def described(z: jax.Array, part: int = part) -> jax.Array:
            return apply(variables, z[None], method="mixtures")[part][0].sum(-1)

        jacobian = np.asarray(jax.jacobian(described)(jnp.array([0.3, -0.8, 1.1])))
        assert not np.triu(jacobian).any()
        assert np.all(jacobian[np.tril_indices(3, -1)] != 0)


def test_samples_follow_the_density(variables: Any):
    """Oracle: Kolmogorov-Smirnov on the probability integral transform: F(z_i | before) is uniform."""
    random = np.random.default_rng(2)
    noise = random.standard_normal((4000, 3)).astype(np.float32)
    uniform = random.random((4000, 3)).astype(np.float32)
    z = apply(variables, noise, uniform, method="sample")
    log_weights, means, log_scales = (np.asarray(x, np.float64) for x in apply(variables, z, method="mixtures"))
    below = stats.norm.cdf(np.asarray(z, np.float64)[..., None], means, np.exp(log_scales))
    transformed = (np.exp(log_weights) * below).sum(-1)
    assert all(stats.kstest(column, "uniform").pvalue > 1e-4 for column in transformed.T)
    # And independent of each other.
    assert np.all(np.abs(np.corrcoef(transformed.T)[np.tril_indices(3, -1)]) < 5 / np.sqrt(4000))


def test_extremes_stay_finite(variables: Any):
    far = jnp.full((2, 3), 1e4)
    value, gradient = jax.value_and_grad(lambda z: apply(variables, z, method="log_prob").sum())(far)
    assert np.isfinite(value) and np.all(np.isfinite(np.asarray(gradient)))
    edge = apply(variables, jnp.zeros((2, 3)), jnp.array([[0.0] * 3, [1 - 2**-24] * 3], jnp.float32), method="sample")
    assert np.all(np.isfinite(np.asarray(edge)))
