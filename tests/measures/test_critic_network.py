"""The critic's network: the shapes it takes, what it folds, and its first convolution against NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flax_punkvae.measures import critic_network


@pytest.mark.parametrize("size", [(3, 5), (24, 24), (70, 40), (128, 128)])
def test_all_sizes_are_taken(size: tuple[int, int]):
    """Oracle: one logit each, and no more parameters than for sprites of 32x32."""
    sprites = np.zeros((2, *size, 3), np.uint8)
    params = jax.eval_shape(critic_network.Critic().init, jax.random.key(0), sprites)
    assert jax.eval_shape(critic_network.Critic().apply, params, sprites).shape == (2,)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) < 250_000


def test_folding_keeps_all_pixels():
    x = np.arange(2 * 70 * 40 * 3, dtype=np.float32).reshape(2, 70, 40, 3) + 1
    folded = np.asarray(critic_network._folded(jnp.asarray(x)))
    # A side of 3: 70 rows are padded to 72, 40 columns to 42.
    assert folded.shape == (2, 24, 14, 27)
    np.testing.assert_array_equal(folded[1, 2, 3].reshape(3, 3, 3), x[1, 6:9, 9:12])
    np.testing.assert_array_equal(np.sort(folded[folded > 0]), np.sort(x.ravel()))


@pytest.mark.parametrize(("size", "channels"), [((5, 7), 3), ((40, 33), 4)])
def test_the_first_convolution_is_of_colours_neighbours_and_positions(size: tuple[int, int], channels: int):
    """Oracle: all features as float64, in NumPy, and the sum over the nine pixels of a neighbourhood."""
    random, (h, w) = np.random.default_rng(0), size
    sprites = random.integers(0, 3, (2, h, w, channels), np.uint8) * np.uint8(120)
    padded = np.pad(sprites, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    equal = [(padded[:, y : y + h, x : x + w] == sprites).all(-1) for y, x in ((0, 1), (1, 0), (1, 2), (2, 1))]
    position = np.broadcast_to(
        np.stack(np.meshgrid(*map(partial(np.linspace, -1, 1), size), indexing="ij"), -1), (2, h, w, 2)
    )
    features = np.concatenate([sprites * (4 / 255) - 2, np.stack(equal, -1), position], -1).astype(np.float32)
    x = np.pad(np.asarray(critic_network._folded(jnp.asarray(features)), np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    h, w, kernel = x.shape[1] - 2, x.shape[2] - 2, random.normal(size=(3, 3, x.shape[3], 5)).astype(np.float32)
    expected = sum(x[:, i : i + h, j : j + w] @ kernel[i, j] for i in range(3) for j in range(3))
    weights = jnp.asarray(kernel.reshape(-1, 5))
    found = critic_network._first_convolution(jnp.asarray(sprites), critic_network._shared(sprites.shape), weights)
    np.testing.assert_allclose(np.asarray(found).transpose(3, 1, 2, 0), expected, atol=1e-4)
