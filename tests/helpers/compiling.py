"""How tests compile."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax


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
