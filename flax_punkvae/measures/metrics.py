"""Measures of a trained VAE; each function is one definition with its source. Float64 NumPy throughout."""

import numpy as np
from jaxtyping import Bool, Float, UInt8


def active_units(means: Float[np.ndarray, "n d"], threshold: float = 0.01) -> Bool[np.ndarray, "d"]:
    """Which latents are active: the variance over n images of the posterior mean exceeds the threshold.

    Source: Burda, Grosse & Salakhutdinov 2015 (IWAE), section 5.2, with their threshold of 0.01.
    """
    # A few latents at once, since the deviations of many images from their mean take as much memory as these.
    few = 16
    parts = (means[:, start : start + few].astype(np.float64) for start in range(0, means.shape[1], few))
    return np.concatenate([part.var(axis=0) for part in parts]) > threshold


def iwae_bound(log_weights: Float[np.ndarray, "n k"], samples: int) -> Float[np.ndarray, "n"]:
    """E log 1/K sum_i w_i, a lower bound of log p(x) that rises with K = samples, in nats for each of n images.

    log w = log p(x|z) + log p(z) - log q(z|x), z from q(z|x). Averages the bounds of groups of K of the k weights; K
    must divide k. Source: Burda, Grosse & Salakhutdinov 2015, equation 8.
    """
    n, k = log_weights.shape
    if not 0 < samples <= k or k % samples:
        raise ValueError(f"expected a number of samples that divides the {k} weights, got {samples}")
    groups = log_weights.astype(float).reshape(n, k // samples, samples)
    largest = groups.max(axis=-1, keepdims=True)
    return (np.log(np.exp(groups - largest).mean(axis=-1)) + largest[..., 0]).mean(axis=-1)


def pixel_and_sprite_accuracy(
    sprites: UInt8[np.ndarray, "n h w c"], originals: UInt8[np.ndarray, "n h w c"]
) -> tuple[float, float]:
    """(fraction of correct pixels, fraction of sprites with all pixels correct); all channels of a pixel must match."""
    right = (sprites == originals).all(axis=-1)
    return float(right.mean()), float(right.all(axis=(1, 2)).mean())
