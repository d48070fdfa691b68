"""Made-up posteriors."""

import numpy as np


def posteriors(n: int = 400, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Correlated means around (5, -2, 1), and variances that differ from image to image."""
    rng = np.random.default_rng(1)
    means = rng.standard_normal((n, d)) @ np.array([[1.0, 0.5, 0.0], [0.0, 0.8, -0.6], [0.0, 0.0, 0.4]]) + [5, -2, 1]
    return means.astype(np.float32), rng.uniform(-3, 0, (n, d)).astype(np.float32)
