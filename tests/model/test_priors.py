"""The priors. The learned one is a density, autoregressive, that its own samples follow."""

from functools import partial
from typing import Any, get_args, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from flax_punkvae.config import ModelConfig
from flax_punkvae.model import losses
from flax_punkvae.model.priors import PRIORS, AutoregressivePrior, NormalPrior

PRIOR = AutoregressivePrior(latent=3, hidden=16, components=4)


# One for all tests, so that each method is compiled once for each shape.
apply: Any = jax.jit(PRIOR.apply, static_argnames="method")


@partial(jax.jit, static_argnums=(0, 1))
def parameters(prior: AutoregressivePrior, deviation: float) -> Any:
    """As they begin, and normal noise on them."""
    begun = prior.init(jax.random.key(0), jnp.zeros((1, prior.latent)), method="log_prob")
    keys = iter(jax.random.split(jax.random.key(1), 6))
    return jax.tree.map(lambda leaf: leaf + deviation * jax.random.normal(next(keys), leaf.shape), begun)


@pytest.fixture(scope="module")
def variables() -> Any:
    """Parameters large enough that latents depend on each other and components are apart."""
    return parameters(PRIOR, 0.4)


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

    def described(z: jax.Array) -> list[jax.Array]:
        return [part[0].sum(-1) for part in apply(variables, z[None], method="mixtures")]

    for part in jax.jit(jax.jacobian(described))(np.array([0.3, -0.8, 1.1], np.float32)):
        jacobian = np.asarray(part)
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
    far = np.full((2, 3), 1e4, np.float32)
    value, gradient = jax.jit(jax.value_and_grad(lambda z: apply(variables, z, method="log_prob").sum()))(far)
    assert np.isfinite(value) and np.all(np.isfinite(np.asarray(gradient)))
    noise, uniform = np.zeros((2, 3), np.float32), np.array([[0.0] * 3, [1 - 2**-24] * 3], np.float32)
    edge = apply(variables, noise, uniform, method="sample")
    assert np.all(np.isfinite(np.asarray(edge)))


def test_above_256_latents_the_last_depends_on_all_before_it():
    """Oracle: the Jacobians of the last factors at 20 points, which are full before each and zero from there on.

    At one point they need not be full: a unit that is off, of the one unit that sees a latent, has no gradient.
    """
    prior = AutoregressivePrior(latent=300)
    params = parameters(prior, 0.1)
    assert params["params"]["kernel_1"].shape == (300, 300)

    def described(z: jax.Array) -> Any:
        parts: Any = prior.apply(params, z[None], method="mixtures")
        return sum(part[0, 297:].sum(-1) for part in parts)

    points = jax.random.normal(jax.random.key(2), (20, 300))
    jacobian = np.abs(jax.jit(jax.vmap(jax.jacrev(described)))(points)).max(axis=0)
    for row, latent in enumerate((297, 298, 299)):
        assert np.all(jacobian[row, :latent] != 0) and not jacobian[row, latent:].any()


def test_up_to_256_latents_the_width_is_256():
    shapes: Any = jax.eval_shape(
        lambda: AutoregressivePrior(latent=4).init(jax.random.key(0), jnp.zeros((1, 4)), method="log_prob")
    )
    assert shapes["params"]["kernel_0"].shape == (4, 256)


def test_the_kl_of_the_learned_prior_is_log_q_less_log_p(variables: Any):
    """Oracle: SciPy's density of q, and `log_prob`, which is held against SciPy above."""
    mean, logvar, z = np.random.default_rng(3).standard_normal((3, 5, 3)).astype(np.float32)
    expected = stats.norm.logpdf(z, mean, np.exp(logvar.astype(float) / 2)) - apply(variables, z, method="log_prob")
    np.testing.assert_allclose(apply(variables, mean, logvar, z, method="kl"), expected, rtol=1e-4, atol=1e-5)


def test_the_normal_prior_is_n_0_i():
    """Oracle: SciPy's density; the closed form of the KL, whatever z; its samples are the noise itself."""
    mean, logvar, z = np.random.default_rng(4).standard_normal((3, 5, 3)).astype(np.float32)
    prior = NormalPrior(3)
    apply: Any = jax.jit(prior.apply, static_argnames="method")
    np.testing.assert_allclose(apply({}, z, method="log_prob"), stats.norm.logpdf(z), rtol=1e-5)
    noise = jnp.array(z)
    assert prior.apply({}, noise, jnp.array(mean), method="sample") is noise
    kl = np.asarray(apply({}, mean, logvar, z, method="kl"))
    np.testing.assert_allclose(kl.sum(-1), jax.jit(losses.gaussian_kl)(mean, logvar), rtol=1e-6)


def test_a_config_may_name_every_prior_and_no_other():
    assert list(PRIORS) == list(get_args(get_type_hints(ModelConfig)["prior"]))
