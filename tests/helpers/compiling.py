"""How tests compile."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax
import numpy as np

from flax_punkvae.trained.model import Model


@contextmanager
def optimised() -> Iterator[None]:
    """Optimise what is compiled in this context, for a test that computes for longer than it compiles.

    The others turn most optimisations off (conftest.py), and what they compile computes up to ten times as long.
    """
    jax.config.update("jax_disable_most_optimizations", False)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", True)


def compile_optimised(model: Model) -> None:
    """Compile its encoder and decoder for batches with optimisations: tests that draw hundreds of pictures use them."""
    z = np.zeros((1, model.description.model.latent), np.float32)
    with optimised():
        model.encode(model.decode(z))
        model.decode(z, np.zeros(1, np.uint32))
