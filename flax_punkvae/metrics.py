"""What a trained VAE is measured by; each function is one definition with its source."""

import numpy as np
from jaxtyping import Bool, Float


def active_units(means: Float[np.ndarray, "n d"], threshold: float = 0.01) -> Bool[np.ndarray, "d"]:
    """Which latents are active: the variance over n images of the posterior mean exceeds the threshold.

    Source: Burda, Grosse & Salakhutdinov 2015 (IWAE), section 5.2, with their threshold of 0.01.
    """
    return means.var(axis=0) > threshold
