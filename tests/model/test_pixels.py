"""The autoregressive decoder, against a loop over pixels and neighbours in float64 NumPy."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_punkvae.model import pixels
from flax_punkvae.model.palette import Support
from flax_punkvae.model.pixels import NEIGHBOURS, OFFSETS, PixelDecoder, neighbours

COLOURS, FEATURES, HEIGHT, WIDTH = 5, 3, 4, 6
# Positions show one to three of the colours.
SPRITES = np.random.default_rng(5).integers(0, COLOURS, (3, HEIGHT, WIDTH, 1), np.uint8)
SPRITES[:, 1:3, 2:5] = 4
SUPPORT = Support.of(SPRITES, COLOURS)
OPEN = [divmod(int(position), WIDTH) for position in SUPPORT.open]
MODULE = PixelDecoder(SUPPORT, FEATURES, 7, jnp.float32)
log_probabilities = jax.jit(partial(MODULE.apply, method="log_probabilities"))
decode = jax.jit(partial(MODULE.apply, method="decode"))


@pytest.fixture(scope="module")
def variables():
    features, images = jnp.zeros((len(OPEN), 1, FEATURES)), jnp.zeros((1, HEIGHT, WIDTH, 1), jnp.int32)
    found = jax.jit(partial(MODULE.init, method="log_probabilities"))(jax.random.key(0), images, features)
    params = found["params"]
    bias = 2 * jax.random.normal(jax.random.key(1), params["palette"]["bias"].shape)
    return {"params": {**params, "palette": {**params["palette"], "bias": bias}}}


def places(row: int, column: int, width: int = WIDTH) -> list[tuple[int, int] | None]:
    """Where each neighbour of a pixel is; None if it is outside, or not decoded yet."""
    mirror = width - 1 - column
    found = [(row + down, column + right) for down, right in OFFSETS]
    found += [(row, mirror) if mirror < column else (-1, 0), (row - 1, mirror)]
    return [(y, x) if y >= 0 and 0 <= x < width else None for y, x in found]


def probabilities(variables, features: np.ndarray, sprite: np.ndarray, number: int) -> np.ndarray:
    """q(colour) [p] at one open position, given its features and the pixels of `sprite` decoded before it."""
    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    near = [COLOURS if place is None else int(sprite[place]) for place in places(*OPEN[number])]
    x = np.concatenate([features, *(p["embedding"][index] for index in near)])
    for index in range(3):
        layer = p[f"layers_{index}"]
        x = x @ layer["kernel"] + layer["bias"]
        x = np.maximum(x, 0) if index < 2 else x
    colours = np.unique(SPRITES[(slice(None), *OPEN[number], 0)])
    logits = p["palette"]["kernel"][colours] @ x[:16] + p["palette"]["bias"][number, : len(colours)]
    weights = np.exp(x[16:]) * [1, *(index < COLOURS for index in near)]
    weights /= weights.sum()
    found = np.zeros(COLOURS)
    found[colours] = weights[0] * np.exp(logits) / np.exp(logits).sum()
    for index, weight in zip(near, weights[1:], strict=True):
        if index < COLOURS:
            found[index] += weight
    return found


@settings(max_examples=10)
@given(seed=st.integers(0, 2**31 - 1))
def test_a_pixel_has_the_probability_of_the_mixture(variables, seed: int):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(len(OPEN), 2, FEATURES)).astype(np.float32)
    sprites = rng.integers(0, COLOURS, (2, HEIGHT, WIDTH, 1))
    found = np.asarray(log_probabilities(variables, jnp.array(sprites), jnp.array(features)))
    for number, which in np.ndindex(found.shape):
        each = probabilities(variables, features[number, which], sprites[which, ..., 0], number)
        np.testing.assert_allclose(each.sum(), 1, rtol=1e-12)
        expected = np.log(np.maximum(each[sprites[(which, *OPEN[number], 0)]], 1e-300))
        if expected > -600:
            np.testing.assert_allclose(found[number, which], expected, rtol=1e-4, atol=1e-5)
        else:
            assert found[number, which] < -1e8


def test_decoding_takes_the_most_probable_colour_pixel_by_pixel(variables):
    features = np.random.default_rng(0).normal(size=(len(OPEN), 3, FEATURES)).astype(np.float32)
    chosen = decode(variables, jnp.array(features))
    for which, sprite in enumerate(np.asarray(SUPPORT.image(chosen))[..., 0]):
        for number, place in enumerate(OPEN):
            assert sprite[place] == probabilities(variables, features[number, which], sprite, number).argmax()


def test_drawn_pixels_have_their_probabilities_less_the_least_of_them(variables):
    """Oracle: the mixture, without colours under 0.05 times the most probable; 5 standard errors of 6,000 sprites."""
    count = 6_000
    features = np.random.default_rng(0).normal(size=(len(OPEN), 1, FEATURES)).astype(np.float32)
    uniform = np.random.default_rng(1).random((len(OPEN), count), np.float32)
    chosen = decode(variables, jnp.broadcast_to(features, (len(OPEN), count, FEATURES)), jnp.array(uniform))
    sprites = np.asarray(SUPPORT.image(chosen))[..., 0]
    dropped = 0
    for number, place in enumerate(OPEN[:12]):
        # Sprites that agree in every neighbour share a distribution.
        near = [other for other in places(*place) if other is not None]
        keys = np.stack([sprites[:, *other] for other in near], axis=1) if near else np.zeros((count, 1))
        _, first, group = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        for index, representative in enumerate(first):
            expected = probabilities(variables, features[number, 0], sprites[representative], number)
            dropped += int(((expected > 0) & (expected < 0.05 * expected.max())).sum())
            expected = np.where(expected < 0.05 * expected.max(), 0, expected)
            expected /= expected.sum()
            members = sprites[group.ravel() == index][:, *place]
            counts = np.bincount(members, minlength=COLOURS)
            assert not counts[expected == 0].any()
            if len(members) >= 200:
                bound = 5 * np.sqrt(expected * (1 - expected) / len(members)) + 1e-6
                assert (np.abs(counts / len(members) - expected) <= bound).all()
    assert dropped > 0


def test_without_a_table_of_listed_colours_the_same_pixels_are_drawn(variables, monkeypatch: pytest.MonkeyPatch):
    random = np.random.default_rng(2)
    features = jnp.array(random.normal(size=(len(OPEN), 50, FEATURES)).astype(np.float32))
    uniform = jnp.array(random.random((len(OPEN), 50), np.float32))
    expected = decode(variables, features, uniform)
    monkeypatch.setattr(pixels, "_MOST_LISTED", 0)
    found = jax.jit(partial(MODULE.apply, method="decode"))(variables, features, uniform)
    np.testing.assert_array_equal(found, expected)


@given(st.integers(1, 7), st.integers(1, 7))
def test_the_neighbours_are_the_ten_of_the_definition_and_decoded_earlier(height: int, width: int):
    found = neighbours(height, width)
    assert found.shape == (height, width, NEIGHBOURS)
    for row, column in np.ndindex(height, width):
        expected = [height * width if at is None else at[0] * width + at[1] for at in places(row, column, width)]
        assert found[row, column].tolist() == expected
        assert all(place < row * width + column or place == height * width for place in expected)


@pytest.mark.parametrize("count", [1, 9])
def test_a_sprite_of_one_column_decodes(count: int):
    """Its only mirrored neighbour is the pixel above. Of one training sprite, no position is open but the first."""
    images = np.random.default_rng(1).integers(0, COLOURS, (count, 2, 1, 1), np.uint8)
    support = Support.of(images, COLOURS)
    module = PixelDecoder(support, FEATURES, 4, jnp.float32)
    features = jnp.ones((len(support.open), count, FEATURES))
    init = jax.jit(partial(module.init, method="log_probabilities"))
    variables = init(jax.random.key(0), jnp.array(images), features)
    chosen = jax.jit(partial(module.apply, method="decode"))(variables, features)
    assert support.image(chosen).shape == images.shape
