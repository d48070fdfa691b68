"""Samplers of new latents, on NumPy arrays: each is one value with `fit` and `sample`; SAMPLERS maps names to them.

To add one, define it here and add it to the table and its name to SamplerName.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, UInt32

from flax_punkvae.errors import UserError
from flax_punkvae.trained.latents import aggregate

SamplerName = Literal["prior", "gaussian", "mixture"]

# Chosen by the mean log density of draws from held-out posteriors, in the reference run at epoch 17. With diagonal
# covariances, 50 components (-354.8) beat 10 (-356.0) and the prior (-360.1). Full covariances, 33,000 numbers each,
# overfit (-328, held out -377). A single full Gaussian reached -353.9; the advantage of a mixture is its clusters.
COMPONENTS = 50
_COVARIANCE = "diag"
# Latents drawn at a time; a multiple of the batch sizes in `trained` and `features`, so that chunks do not change them.
CHUNK = 256
Posteriors = Callable[[], tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]]


class Draws(NamedTuple):
    """What samples are decoded from: latents, and the seeds of the draws of their pixels' colours."""

    latents: Float[np.ndarray, "n d"]
    seeds: UInt32[np.ndarray, "n"]


class Streams(NamedTuple):
    """Separate random streams for each kind of draw, so that a larger count starts with the same draws."""

    normal: np.random.RandomState
    uniform: np.random.RandomState
    seeds: np.random.RandomState


class Source(NamedTuple):
    """The inputs of samplers.

    latent: the number of latents. posteriors: computes (means, logvars), each [n d], of the training images.
    from_prior: maps N(0, 1) and U[0, 1) noise, each [m d], to latents from the prior.
    """

    latent: int
    posteriors: Posteriors
    from_prior: Callable[[Float[np.ndarray, "m d"], Float[np.ndarray, "m d"]], Float[np.ndarray, "m d"]]


class Sampler(NamedTuple):
    """fit(source) gives a distribution, the same for every seed; sample(it, streams, count, temperature) gives [m d].

    The temperature scales deviations: of the prior's noise from 0, otherwise from the Gaussian's or component's mean.
    """

    fit: Callable[[Source], Any]
    sample: Callable[[Any, Streams, int, float], Float[np.ndarray, "m d"]]


def samples(sampler: Sampler, source: Source, count: int, seed: int, temperature: float) -> Iterator[Draws]:
    """Yield `count` draws, CHUNK at a time; a larger count starts with the same draws."""
    fitted, random = sampler.fit(source), streams(seed)
    for start in range(0, count, CHUNK):
        number = min(CHUNK, count - start)
        latents = sampler.sample(fitted, random, number, temperature)
        yield Draws(latents, random.seeds.randint(0, 2**32, number, np.uint32))


def streams(seed: int) -> Streams:
    """The streams of a seed."""
    # RandomState rather than Generator, because NumPy guarantees its streams across versions.
    return Streams(*map(np.random.RandomState, (seed, [seed, 1], [seed, 3])))


def prior_noise(
    random: Streams, count: int, latent: int, temperature: float
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """(temperature * N(0, 1) noise, U[0, 1) noise), float32: the arguments of `Source.from_prior`."""
    # Rounding to float32 must not give 1.
    uniform = np.minimum(random.uniform.random_sample((count, latent)), 1 - 2**-24)
    return (temperature * random.normal.standard_normal((count, latent))).astype(np.float32), uniform.astype(np.float32)


def _sample_prior(source: Source, random: Streams, count: int, temperature: float) -> Float[np.ndarray, "m d"]:
    return source.from_prior(*prior_noise(random, count, source.latent, temperature))


class Gaussian(NamedTuple):
    """A Gaussian: its mean, and R with R R' = covariance."""

    mean: Float[np.ndarray, "d"]
    root: Float[np.ndarray, "d d"]


def _fit_gaussian(source: Source) -> Gaussian:
    """The Gaussian with the mean and covariance of the aggregate posterior."""
    mean, covariance = aggregate(*source.posteriors())
    return Gaussian(mean, _root(covariance))


def _sample_gaussian(fitted: Gaussian, random: Streams, count: int, temperature: float) -> Float[np.ndarray, "m d"]:
    noise = random.normal.standard_normal((count, len(fitted.mean)))
    return (fitted.mean + temperature * noise @ fitted.root.T).astype(np.float32)


def _root(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """R with R R' = covariance."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        # With fewer images than latents and narrow posteriors, rounding can make the matrix not positive definite.
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(np.maximum(values, 0.0))


class Mixture(NamedTuple):
    """A mixture of Gaussians with diagonal covariances."""

    weights: Float[np.ndarray, "k"]
    means: Float[np.ndarray, "k d"]
    deviations: Float[np.ndarray, "k d"]


def _fit_mixture(source: Source) -> Mixture:
    """A mixture fitted to one draw from each posterior; if there is only one posterior, that posterior.

    Raises UserError if scikit-learn is not installed.
    """
    means, logvars = source.posteriors()
    if len(means) == 1:
        # A single draw has no variance to fit.
        return Mixture(np.ones(1), means.astype(np.float64), np.exp(0.5 * logvars.astype(np.float64)))
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise UserError("--from mixture needs scikit-learn: pip install '.[evaluate]'") from error
    draws = means + np.exp(0.5 * logvars.astype(np.float64)) * streams(0).normal.standard_normal(means.shape)
    mixture = GaussianMixture(min(COMPONENTS, len(draws)), covariance_type=_COVARIANCE, random_state=0)
    with warnings.catch_warnings():
        # The mixture is good enough if 100 iterations do not converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(draws)
    weights, centres, covariances = map(np.asarray, (mixture.weights_, mixture.means_, mixture.covariances_))
    return Mixture(weights, centres, np.sqrt(covariances))


def _sample_mixture(fitted: Mixture, random: Streams, count: int, temperature: float) -> Float[np.ndarray, "m d"]:
    chosen = random.uniform.random_sample((count, 1))[:, 0]
    ends = np.cumsum(fitted.weights)
    component = np.minimum(np.searchsorted(ends, chosen, side="right"), len(ends) - 1)
    noise = random.normal.standard_normal((count, fitted.means.shape[1]))
    return (fitted.means[component] + temperature * noise * fitted.deviations[component]).astype(np.float32)


SAMPLERS: dict[SamplerName, Sampler] = {
    "prior": Sampler(lambda source: source, _sample_prior),
    "gaussian": Sampler(_fit_gaussian, _sample_gaussian),
    "mixture": Sampler(_fit_mixture, _sample_mixture),
}
