"""Paths through the latent space, label directions, and statistics of posteriors: pure functions on NumPy arrays.

If the prior is N(0, I), a latent is in units of its standard deviation.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped


def interpolate(a: Float[np.ndarray, "d"], b: Float[np.ndarray, "d"], steps: int) -> Float[np.ndarray, "s d"]:
    """(1 - t) a + t b at `steps` equally spaced t from 0 to 1; both ends are exact."""
    t = np.linspace(0.0, 1.0, steps)[:, None]
    return ((1.0 - t) * a + t * b).astype(a.dtype)


def slerp(a: Float[np.ndarray, "d"], b: Float[np.ndarray, "d"], steps: int) -> Float[np.ndarray, "s d"]:
    """sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, w being the angle between a and b, at equally spaced t.

    Linear if a and b are parallel or opposite, or one of them is zero, since no unique arc joins them. Source: Shoemake
    1985, "Animating rotation with quaternion curves".
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
    """Copies of `z`, one per value, with the component `latent` set to that value."""
    path = np.tile(z, (len(values), 1))
    path[:, latent] = values
    return path


def directions(means: Float[np.ndarray, "n d"], labels: Shaped[np.ndarray, "n a"]) -> Float[np.ndarray, "a d"]:
    """For each label, the average posterior mean of images with it minus the average of images without it.

    The row of a label that all or none of the images have is nan. Source: the attribute vectors of Larsen et al. 2016,
    "Autoencoding beyond pixels using a learned similarity metric".
    """
    has = labels.astype(np.float64)
    counts = has.sum(axis=0)[:, None]
    wide = means.astype(np.float64)
    sums = has.T @ wide
    rest = len(labels) - counts
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = sums / counts - (wide.sum(axis=0) - sums) / rest
    return np.where((counts > 0) & (rest > 0), difference, np.nan).astype(means.dtype)


class Effect(NamedTuple):
    """The effect of an edit on the traits of n images.

    succeeds: fraction of images that have all added traits and no removed one. others_changed: average number of other
    traits that an image gains or loses. changed_most: for other traits, (label, change of the fraction of images
    with it), largest changes first.
    """

    succeeds: float
    others_changed: float
    changed_most: list[tuple[int, float]]


def effect(
    before: Bool[np.ndarray, "n a"], after: Bool[np.ndarray, "n a"], add: list[int], remove: list[int], most: int = 4
) -> Effect:
    """The effect of an edit, given the traits of the same images before and after it."""
    succeeds = after[:, add].all(axis=1) & ~after[:, remove].any(axis=1)
    others = np.setdiff1d(np.arange(before.shape[1]), add + remove)
    changes = after[:, others].mean(axis=0) - before[:, others].mean(axis=0)
    order = np.argsort(-np.abs(changes), kind="stable")[:most]
    changed = [(int(others[i]), float(changes[i])) for i in order if changes[i]]
    return Effect(float(succeeds.mean()), float((before != after)[:, others].sum(axis=1).mean()), changed)


def aggregate(
    means: Float[np.ndarray, "n d"], logvars: Float[np.ndarray, "n d"]
) -> tuple[Float[np.ndarray, "d"], Float[np.ndarray, "d d"]]:
    """Mean and covariance of the mixture of n equally likely posteriors, in float64 (law of total covariance)."""
    wide = means.astype(np.float64)
    centred = wide - wide.mean(axis=0)
    variances = np.exp(logvars.astype(np.float64)).mean(axis=0)
    return wide.mean(axis=0), centred.T @ centred / len(wide) + np.diag(variances)
