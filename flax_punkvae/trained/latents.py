"""Walks through the latent space and draws from it: pure functions on NumPy arrays.

Where the prior is N(0, I), a unit of a latent is its standard deviation.
"""

import warnings
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

from flax_punkvae.errors import UserError

Sampler = Literal["prior", "gaussian", "mixture"]

# Chosen by the mean log density of draws from held-out posteriors, in the reference run at epoch 17. With diagonal
# covariances 50 components (-354.8) beat 10 (-356.0), and the prior (-360.1); full ones, 33,000 numbers each, learned
# the training draws by heart (-328, held out -377). One full Gaussian had -353.9: a mixture is for its clusters.
COMPONENTS = 50
_COVARIANCE = "diag"
# Latents drawn at a time. A multiple of the batches of `trained` and `features`, so that chunks change none of them.
CHUNK = 256


def interpolate(a: Float[np.ndarray, "d"], b: Float[np.ndarray, "d"], steps: int) -> Float[np.ndarray, "s d"]:
    """(1 - t) a + t b at `steps` equally spaced t from 0 to 1; both ends are exact."""
    t = np.linspace(0.0, 1.0, steps)[:, None]
    return ((1.0 - t) * a + t * b).astype(a.dtype)


def slerp(a: Float[np.ndarray, "d"], b: Float[np.ndarray, "d"], steps: int) -> Float[np.ndarray, "s d"]:
    """sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, w the angle between a and b: equal angles from step to step.

    Linear where a and b are parallel or opposite, or one of them is zero, since there is no arc to go along. Source:
    Shoemake 1985, "Animating rotation with quaternion curves".
    """
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(wide_a) * np.linalg.norm(wide_b)
    cosine = np.clip(wide_a @ wide_b / norms, -1.0, 1.0) if norms > 0 else 1.0
    angle = np.arccos(cosine)
    if np.sin(angle) < 1e-6:
        return interpolate(a, b, steps)
    t = np.linspace(0.0, 1.0, steps)[:, None]
    path = np.sin((1.0 - t) * angle) / np.sin(angle) * wide_a + np.sin(t * angle) / np.sin(angle) * wide_b
    return path.astype(a.dtype)


def traverse(z: Float[np.ndarray, "d"], latent: int, values: Float[np.ndarray, "s"]) -> Float[np.ndarray, "s d"]:
    """`z` once for each value, its component `latent` replaced by that value, all others kept."""
    path = np.tile(z, (len(values), 1))
    path[:, latent] = values
    return path


def directions(means: Float[np.ndarray, "n d"], labels: Shaped[np.ndarray, "n a"]) -> Float[np.ndarray, "a d"]:
    """For each label, the mean posterior mean of the images with it less that of the images without it.

    A label that all or none of the images have has no direction: its row is nan. The attribute vectors of Larsen et
    al. 2016, "Autoencoding beyond pixels using a learned similarity metric".
    """
    has = labels.astype(np.float64)
    having = has.sum(axis=0)[:, None]
    wide = means.astype(np.float64)
    sums = has.T @ wide
    rest = len(labels) - having
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = sums / having - (wide.sum(axis=0) - sums) / rest
    return np.where((having > 0) & (rest > 0), difference, np.nan).astype(means.dtype)


class Effect(NamedTuple):
    """What an edit does to traits read off n images.

    succeeds: the share with all that was to be added and nothing that was to be removed. others_changed: how many other
    traits an image gains or loses, averaged. changed_most: (label, share with it after less share before), the greatest
    changes of others first.
    """

    succeeds: float
    others_changed: float
    changed_most: list[tuple[int, float]]


def effect(
    before: Bool[np.ndarray, "n a"], after: Bool[np.ndarray, "n a"], add: list[int], remove: list[int], most: int = 4
) -> Effect:
    """The effect of an edit, from the traits of the same images before and after it."""
    succeeds = after[:, add].all(axis=1) & ~after[:, remove].any(axis=1)
    others = np.setdiff1d(np.arange(before.shape[1]), add + remove)
    changes = after[:, others].mean(axis=0) - before[:, others].mean(axis=0)
    order = np.argsort(-np.abs(changes), kind="stable")[:most]
    listed = [(int(others[i]), float(changes[i])) for i in order if changes[i]]
    return Effect(float(succeeds.mean()), float((before != after)[:, others].sum(axis=1).mean()), listed)


def prior_noise(
    count: int, latent: int, seed: int, temperature: float
) -> tuple[Float[np.ndarray, "n d"], Float[np.ndarray, "n d"]]:
    """(temperature * draws of N(0, 1), draws of [0, 1)), float32: what `steps.from_prior` makes latents of.

    A greater count begins with the same ones.
    """
    noise, uniform = zip(*prior_noises(count, latent, seed, temperature), strict=True)
    return np.concatenate(noise), np.concatenate(uniform)


def prior_noises(
    count: int, latent: int, seed: int, temperature: float
) -> Iterator[tuple[Float[np.ndarray, "b d"], Float[np.ndarray, "b d"]]]:
    """The rows of `prior_noise`, CHUNK at a time."""
    normal, uniform = _streams(seed)
    for rows in _chunks(count):
        # Rounding to float32 must not reach 1.
        below_one = np.minimum(uniform.random_sample((rows, latent)), 1 - 2**-24)
        yield (temperature * normal.standard_normal((rows, latent))).astype(np.float32), below_one.astype(np.float32)


def sample(
    how: Literal["gaussian", "mixture"],
    count: int,
    seed: int,
    temperature: float,
    means: Float[np.ndarray, "n d"],
    logvars: Float[np.ndarray, "n d"],
) -> Float[np.ndarray, "m d"]:
    """`count` latents from what is fitted to n posteriors; a greater count begins with the same ones.

    gaussian: one Gaussian with the mean and the covariance of the aggregate of the posteriors, which is the covariance
    of their means plus the mean of their variances. mixture: Gaussians fitted to one draw from each posterior; of one
    posterior, itself. `temperature` scales deviations: from the mean, from a component's mean.
    """
    return np.concatenate(list(samples(how, count, seed, temperature, means, logvars)))


def samples(
    how: Literal["gaussian", "mixture"],
    count: int,
    seed: int,
    temperature: float,
    means: Float[np.ndarray, "n d"],
    logvars: Float[np.ndarray, "n d"],
) -> Iterator[Float[np.ndarray, "b d"]]:
    """The rows of `sample`, CHUNK at a time."""
    normal, uniform = _streams(seed)
    if how == "gaussian":
        centre, covariance = aggregate(means, logvars)
        root = _root(covariance)
        for rows in _chunks(count):
            yield (centre + temperature * normal.standard_normal((rows, len(centre))) @ root.T).astype(means.dtype)
    else:
        weights, centres, deviations = _fit_mixture(means, logvars)
        for rows in _chunks(count):
            chosen = uniform.random_sample((rows, 1))[:, 0]
            component = np.minimum(np.searchsorted(np.cumsum(weights), chosen, side="right"), len(weights) - 1)
            noise = normal.standard_normal((rows, means.shape[1]))
            yield (centres[component] + temperature * noise * deviations[component]).astype(means.dtype)


def aggregate(
    means: Float[np.ndarray, "n d"], logvars: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d d"]]:
    """Mean and covariance of the mixture of n equally likely posteriors, in float64 (law of total covariance)."""
    wide = means.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    variances = np.exp(logvars.astype(np.float64)).mean(axis=0)
    return wide.mean(axis=0), centred.T @ centred / len(wide) + np.diag(variances)


def _root(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """R with R R' = covariance."""
    try:
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        # Of fewer images than latents, with posteriors so narrow that rounding leaves no positive definite matrix.
        values, vectors = np.linalg.eigh(covariance)
        return vectors * np.sqrt(np.maximum(values, 0.0))


def _fit_mixture(
    means: Float[np.ndarray, "n d"], logvars: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k d"], Float[np.ndarray, "k d"]]:
    """Weights, means and standard deviations; the same for every seed, so that seeds are samples of one mixture."""
    if len(means) == 1:
        # One draw has no deviation.
        return np.ones(1), means.astype(np.float64), np.exp(0.5 * logvars.astype(np.float64))
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise UserError("--from mixture: expected scikit-learn, got none installed: `pip install '.[evaluate]'`") from (
            error
        )
    draws = means + np.exp(0.5 * logvars.astype(np.float64)) * _streams(0)[0].standard_normal(means.shape)
    mixture = GaussianMixture(min(COMPONENTS, len(draws)), covariance_type=_COVARIANCE, random_state=0)
    with warnings.catch_warnings():
        # Where a hundred rounds do not settle it, the mixture is as good as it gets.
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(draws)
    weights, centres, covariances = map(np.asarray, (mixture.weights_, mixture.means_, mixture.covariances_))
    return weights, centres, np.sqrt(covariances)


def _streams(seed: int) -> tuple[np.random.RandomState, np.random.RandomState]:
    """Of standard normal and of uniform draws; two, so that the count moves neither."""
    # RandomState and not Generator: NumPy guarantees its streams from version to version.
    return np.random.RandomState(seed), np.random.RandomState([seed, 1])


def _chunks(count: int) -> Iterator[int]:
    return (min(CHUNK, count - start) for start in range(0, count, CHUNK))
