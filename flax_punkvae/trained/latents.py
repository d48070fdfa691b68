"""Paths through the latent space, label directions, and statistics of posteriors: pure functions on NumPy arrays.

If the prior is N(0, I), a latent is in units of its standard deviation.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped

# Shrinks the coefficients of labels of few images, and decides between labels that always occur together. Chosen among
# 0, 30, 100 and 300 by the effect of edits on held-out punks (experiments/sprite/notes.md).
_RIDGE = 30.0


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


def blend(z: Float[np.ndarray, "n d"], weights: Float[np.ndarray, "n"]) -> Float[np.ndarray, "d"]:
    """The weighted mean of latents; the weights need not sum to 1."""
    return (weights / weights.sum() @ z.astype(np.float64)).astype(z.dtype)


def traverse(z: Float[np.ndarray, "d"], latent: int, values: Float[np.ndarray, "s"]) -> Float[np.ndarray, "s d"]:
    """Copies of `z`, one per value, with the component `latent` set to that value."""
    path = np.tile(z, (len(values), 1))
    path[:, latent] = values
    return path


def directions(means: Float[np.ndarray, "n d"], labels: Shaped[np.ndarray, "n a"]) -> Float[np.ndarray, "a d"]:
    """The direction of each label: how posterior means change with it while the other labels stay the same.

    The coefficients of a ridge regression of the means on all labels at once: a label's direction does not include
    those of the labels that it occurs with, and the directions of several labels may be added. The row of a label that
    all or none of the images have is nan.
    """
    wide, has = means.astype(np.float64), labels.astype(np.float64)
    centred = has - has.mean(axis=0)
    found = np.linalg.solve(centred.T @ centred + _RIDGE * np.eye(has.shape[1]), centred.T @ wide)
    varies = (has != has[0]).any(axis=0)[:, None]
    return np.where(varies, found, np.nan).astype(means.dtype)


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
