"""The autoregressive decoder, against a loop over pixels and neighbours in float64 NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_punkvae.model.pixels import NEIGHBOURS, OFFSETS, PixelDecoder, neighbours

COLOURS, FEATURES, HEIGHT, WIDTH = 5, 3, 4, 6
MODULE = PixelDecoder(COLOURS, FEATURES, 7, (HEIGHT, WIDTH, 1), jnp.float32)
negative_log_likelihood = jax.jit(partial(MODULE.apply, method="negative_log_likelihood"))
decode = jax.jit(partial(MODULE.apply, method="decode"))


@pytest.fixture(scope="module")
def variables():
    features, images = jnp.zeros((1, HEIGHT, WIDTH, FEATURES)), jnp.zeros((1, HEIGHT, WIDTH, 1), jnp.int32)
    found = jax.jit(partial(MODULE.init, method="negative_log_likelihood"))(jax.random.key(0), images, features)
    bias = 2 * jax.random.normal(jax.random.key(1), (HEIGHT, WIDTH, COLOURS))
    return {"params": {**found["params"], "bias": bias}}


def places(row: int, column: int) -> list[tuple[int, int] | None]:
    """Where each neighbour of a pixel is; None if it is outside, or not decoded yet."""
    mirror = WIDTH - 1 - column
    found = [(row + down, column + right) for down, right in OFFSETS]
    found += [(row, mirror) if mirror < column else (-1, 0), (row - 1, mirror)]
    return [(y, x) if y >= 0 and 0 <= x < WIDTH else None for y, x in found]


def probabilities(variables, features: np.ndarray, sprite: np.ndarray, row: int, column: int) -> np.ndarray:
    """p(colour) of one pixel [p], given the features and the pixels of `sprite` decoded before it."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    near = [COLOURS if place is None else int(sprite[place]) for place in places(row, column)]
    x = np.concatenate([features[row, column], *(p["embedding"][index] for index in near)])
    for index in range(3):
        layer = p[f"layers_{index}"]
        x = x @ layer["kernel"] + layer["bias"]
        x = np.maximum(x, 0) if index < 2 else x
    logits = p["kernel"] @ x[:16] + p["bias"][row, column]
    weights = np.exp(x[16:]) * [1, *(index < COLOURS for index in near)]
    weights /= weights.sum()
    found = weights[0] * np.exp(logits) / np.exp(logits).sum()
    for index, weight in zip(near, weights[1:], strict=True):
        if index < COLOURS:
            found[index] += weight
    return found


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1))
def test_the_likelihood_is_the_product_of_each_pixels_mixture(variables, seed: int):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(2, HEIGHT, WIDTH, FEATURES)).astype(np.float32)
    sprites = rng.integers(0, COLOURS, (2, HEIGHT, WIDTH, 1))
    found = negative_log_likelihood(variables, jnp.array(sprites), jnp.array(features))
    for nll, feature, sprite in zip(np.asarray(found), features, sprites[..., 0], strict=True):
        each = [probabilities(variables, feature, sprite, row, column) for row, column in np.ndindex(HEIGHT, WIDTH)]
        np.testing.assert_allclose([one.sum() for one in each], 1, rtol=1e-12)
        expected = -sum(np.log(one[colour]) for one, colour in zip(each, sprite.flat, strict=True))
        np.testing.assert_allclose(nll, expected, rtol=1e-5)


def test_decoding_takes_the_most_probable_colour_pixel_by_pixel(variables):
    features = np.random.default_rng(0).normal(size=(3, HEIGHT, WIDTH, FEATURES)).astype(np.float32)
    found = np.asarray(decode(variables, jnp.array(features)))
    for feature, sprite in zip(features, found[..., 0], strict=True):
        for row, column in np.ndindex(HEIGHT, WIDTH):
            assert sprite[row, column] == probabilities(variables, feature, sprite, row, column).argmax()


def test_a_pixel_depends_on_no_later_pixel(variables):
    """Whatever the colours that come later in reading order, the terms up to a pixel stay the same."""
    rng = np.random.default_rng(0)
    before, after = (rng.integers(0, COLOURS, (1, HEIGHT, WIDTH, 1)) for _ in range(2))
    near = [np.asarray(neighbours(jnp.array(sprite), jnp.array([COLOURS]))) for sprite in (before, after)]
    for position in range(HEIGHT * WIDTH):
        mixed = np.where(np.arange(HEIGHT * WIDTH).reshape(1, HEIGHT, WIDTH, 1) < position, before, after)
        found = np.asarray(neighbours(jnp.array(mixed), jnp.array([COLOURS])))
        row, column = divmod(position, WIDTH)
        np.testing.assert_array_equal(found[0, row, column], near[0][0, row, column])
    assert near[0].shape == (1, HEIGHT, WIDTH, NEIGHBOURS, 1)


def test_a_sprite_of_one_column_decodes():
    """Its only mirrored neighbour is the pixel above."""
    module = PixelDecoder(COLOURS, FEATURES, 4, (2, 1, 1), jnp.float32)
    features, images = jnp.ones((2, 2, 1, FEATURES)), jnp.zeros((2, 2, 1, 1), jnp.int32)
    init = jax.jit(partial(module.init, method="negative_log_likelihood"))
    variables = init(jax.random.key(0), images, features)
    assert jax.jit(partial(module.apply, method="decode"))(variables, features).shape == (2, 2, 1, 1)
