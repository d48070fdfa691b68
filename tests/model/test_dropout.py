"""What dropout keeps, against its exact rate and JAX's own random bits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_punkvae.model import dropout


def split(seed: int, count: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg"])
@pytest.mark.parametrize("count", [1, 2, 33])
def test_random_words_are_those_of_jax(count: int, generator: str):
    keys = jax.random.split(jax.random.key(5, impl=generator), 3)
    expected = jax.vmap(lambda key: jax.random.bits(key, (count,), jnp.uint32))(keys)
    np.testing.assert_array_equal(dropout.random_words(keys, count), expected)


@pytest.mark.parametrize("rate", [0.36, 0.38, 0.5, 0.9, 0.001])
def test_dropout_keeps_at_the_exact_rate(rate: float):
    """Oracle: the binomial's standard error, and that of the images' thresholds, whole numbers with mean 256 rate."""
    images = 400
    kept = np.asarray(dropout.kept(split(0, images), (50, 50), rate))
    fraction = 256 * rate % 1
    variance = rate * (1 - rate) / kept.size + fraction * (1 - fraction) / 256**2 / images
    assert abs(kept.mean() - (1 - rate)) < 4 * np.sqrt(variance)


def test_dropout_is_independent_between_elements_and_keys():
    kept, other = (np.asarray(dropout.kept(split(seed, 64), (64, 64), 0.5)) for seed in (1, 2))
    for shifted in (other, *(np.roll(kept, 1, axis) for axis in range(3))):
        # Agreement of two independent fair coins: 1/2, within four standard errors.
        assert abs(np.mean(kept == shifted) - 0.5) < 4 * 0.5 / np.sqrt(kept.size)


def test_dropout_of_rate_zero_keeps_everything():
    assert np.all(dropout.kept(split(0, 2), (4,), 0.0))


@pytest.mark.parametrize("rate", [-0.1, 0.999, float("nan")])
def test_a_rate_that_a_byte_cannot_tell_is_refused(rate: float):
    with pytest.raises(ValueError, match="expected a dropout rate"):
        dropout.kept(split(0, 2), (2,), rate)


def test_dropout_of_an_image_does_not_depend_on_its_batch():
    whole = np.asarray(dropout.kept(split(4, 5), (6, 7), 0.38))
    np.testing.assert_array_equal(whole[3:4], dropout.kept(split(4, 5)[3:4], (6, 7), 0.38))
