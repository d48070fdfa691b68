"""What dropout keeps, against its exact rate and JAX's own random bits."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_punkvae.model import dropout

# Compiled as one for each shape, not op by op.
kept = jax.jit(dropout.kept, static_argnums=(1, 2))


@partial(jax.jit, static_argnums=1)
def split(seed: int, count: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("count", [1, 2, 33])
def test_random_words_are_those_of_jax(count: int, generator: str):

    @jax.jit
    def words(seed: int) -> tuple[jax.Array, jax.Array]:
        keys = jax.random.split(jax.random.key(seed, impl=generator), 3)
        theirs = jax.vmap(lambda key: jax.random.bits(key, (count,), jnp.uint32))(keys)
        return dropout.random_words(keys, count), theirs

    np.testing.assert_array_equal(*words(5))


@pytest.mark.parametrize("rate", [0.36, 0.38, 0.5, 0.9, 0.001])
def test_dropout_keeps_at_the_exact_rate(rate: float):
    """Oracle: the binomial's standard error, and that of the images' thresholds, whole numbers with mean 256 rate."""
    images = 400
    found = np.asarray(kept(split(0, images), (50, 50), rate))
    fraction = 256 * rate % 1
    variance = rate * (1 - rate) / found.size + fraction * (1 - fraction) / 256**2 / images
    assert abs(found.mean() - (1 - rate)) < 4 * np.sqrt(variance)


def test_dropout_is_independent_between_elements_and_keys():
    found, other = (np.asarray(kept(split(seed, 64), (64, 64), 0.5)) for seed in (1, 2))
    for shifted in (other, *(np.roll(found, 1, axis) for axis in range(3))):
        # Agreement of two independent fair coins: 1/2, within four standard errors.
        assert abs(np.mean(found == shifted) - 0.5) < 4 * 0.5 / np.sqrt(found.size)


def test_dropout_of_rate_zero_keeps_everything():
    assert np.all(kept(split(0, 2), (4,), 0.0))


@pytest.mark.parametrize("rate", [-0.1, 0.999, float("nan")])
def test_a_rate_that_a_byte_cannot_tell_is_refused(rate: float):
    with pytest.raises(ValueError, match="expected a dropout rate"):
        dropout.kept(split(0, 2), (2,), rate)


def test_dropout_of_an_image_does_not_depend_on_its_batch():
    @jax.jit
    def both(seed: int) -> tuple[jax.Array, jax.Array]:
        keys = split(seed, 5)
        return dropout.kept(keys, (6, 7), 0.38)[3:4], dropout.kept(keys[3:4], (6, 7), 0.38)

    np.testing.assert_array_equal(*both(4))
