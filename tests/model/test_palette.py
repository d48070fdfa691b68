"""The distribution over the colours at each position, against sets, SciPy and sums over all sprites there are."""

import itertools
from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from flax_punkvae.model.palette import NEVER, Palette, Support, listed, log_frequencies
from flax_punkvae.model.pixels import PixelDecoder
from flax_punkvae.training.augmentation import moved

compiled_moved = jax.jit(moved)


def sprites(*shape: int, colours: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, colours, (*shape, 1), np.uint8)


def seen(support: Support) -> list[set[int]]:
    """The colours listed for each position."""
    return [set(row[row < support.colours].tolist()) for row in support.lists.reshape(-1, support.lists.shape[-1])]


@given(st.integers(1, 9), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_a_position_lists_the_colours_seen_there(count: int, height: int, width: int, seed: int):
    """Oracle: a set for each position, and Good-Turing's estimate from counts by hand."""
    images = sprites(count, height, width, colours=5, seed=seed)
    support = Support.of(images, 5)
    columns = [images[:, y, x, 0].tolist() for y, x in np.ndindex(height, width)]
    assert seen(support) == [set(column) for column in columns]
    assert all(list(row) == sorted(row) for row in support.lists.reshape(height * width, -1))
    several = [place for place, column in enumerate(columns) if len(set(column)) > 1]
    assert support.open.tolist() == (several or [0])
    once = [sum(column.count(colour) == 1 for colour in set(column)) for column in columns]
    np.testing.assert_allclose(support.other.ravel(), (np.array(once) + 0.1) / (count + 1), rtol=1e-6)


@settings(max_examples=8)
@given(st.integers(0, 2), st.booleans(), st.sampled_from([(1, 1), (4, 3), (2, 4)]), st.integers(0, 99))
def test_moved_sprites_show_the_listed_colours_and_no_others(shift: int, flip: bool, size: tuple[int, int], seed: int):
    """Oracle: every move that `augmentation.moved` can make of every sprite."""
    h, w = size
    images = sprites(2, h, w, colours=9, seed=seed)
    found: list[set[int]] = [set() for _ in range(h * w)]
    for y, x, mirrored in itertools.product(range(-shift, shift + 1), range(-shift, shift + 1), {False, flip}):
        shifts, flips = np.array([[y, x]] * 2, np.int32), np.array([mirrored] * 2)
        for image in np.asarray(compiled_moved(images, shifts, flips)):
            for place, colour in zip(found, image.ravel().tolist(), strict=True):
                place.add(colour)
    assert seen(Support.of(images, 9, shift, flip)) == found


def test_supports_are_equal_if_their_contents_are():
    images = sprites(4, 2, 2)
    support = Support.of(images, 3)
    assert support == Support.of(images.copy(), 3) and hash(support) == hash(Support.of(images.copy(), 3))
    assert support not in (Support.of(images, 4), Support.of(images[:3], 3), "a string")


@pytest.mark.parametrize("autoregressive", [False, True])
@pytest.mark.parametrize("count", [2, 1])
def test_the_probabilities_of_all_sprites_sum_to_1(autoregressive: bool, count: int):
    """All 4 ** 6 sprites of 3x2 in four colours, although the training sprites show two colours at most anywhere."""
    support = Support.of(sprites(count, 2, 3, colours=3), 4)
    assert support.lists.shape[-1] == 2
    every = np.array(list(itertools.product(range(4), repeat=6)), np.uint8).reshape(-1, 2, 3, 1)
    opened = every.reshape(-1, 6).T[support.open]
    random = np.random.default_rng(0).standard_normal((len(support.open), 1, 5)).astype(np.float32)

    @jax.jit
    def negative_log_likelihood(key: jax.Array, every: jax.Array, opened: jax.Array) -> jax.Array:
        features = jnp.broadcast_to(random, (*opened.shape, 5))
        if autoregressive:
            module = PixelDecoder(support, 5, 7, jnp.float32)
            found, _ = module.init_with_output(key, every, features, method="log_probabilities")
        else:
            found, _ = Palette(support, 5).init_with_output(key, features, opened, method="log_probabilities")
        return support.negative_log_likelihood(found, every)

    nll = negative_log_likelihood(jax.random.key(1), every, opened)
    probabilities = np.exp(-np.asarray(nll, float))
    assert probabilities.min() > 0
    np.testing.assert_allclose(probabilities.sum(), 1, rtol=1e-5)


@cache
def seven_colours() -> tuple[Support, Callable[..., jax.Array], Callable[..., jax.Array]]:
    """Of sprites in seven colours; and what a palette on two features makes of them, compiled once for all tests."""
    support = Support.of(sprites(30, 3, 2, colours=6), 7)
    apply = Palette(support, 2).apply
    log_probabilities, most_probable = (
        jax.jit(partial(apply, method=how)) for how in ("log_probabilities", "most_probable")
    )
    return support, log_probabilities, most_probable


@pytest.mark.parametrize("bias", [0.0, 1e8, -1e8, 1e30])
def test_a_listed_colour_has_scipys_softmax(bias: float):
    """Oracle: float64; equal logits of any size give log 1/m, of which float32 has none between 1e8 and 1e8 + 4."""
    support, log_probabilities, most_probable = seven_colours()
    x = np.random.default_rng(1).normal(0, 3, (len(support.open), 4, 2)).astype(np.float32)
    kernel = np.random.default_rng(2).normal(0, 3, (7, 2)).astype(np.float32) * (bias == 0)
    biases = np.full(support.open_lists.shape, bias, np.float32)
    variables = {"params": {"kernel": kernel, "bias": biases}}
    best = np.asarray(most_probable(variables, x))
    for colour in range(7):
        found = np.asarray(log_probabilities(variables, x, np.full(x.shape[:2], colour, np.int32)))
        for row, features, colours, chosen in zip(found, x, seen_at_open(support), best, strict=True):
            logits = features.astype(float) @ kernel[colours].T
            if colour not in colours:
                assert (row < NEVER / 2).all() and np.isfinite(row).all()
                continue
            expected = special.log_softmax(logits, axis=-1)[:, colours.index(colour)]
            np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_array_equal(chosen, np.array(colours)[logits.argmax(-1)])


def test_many_logits_are_taken_by_image(monkeypatch: pytest.MonkeyPatch):
    """Oracle: all at once; values, gradients and colours."""
    images = sprites(5, 3, 2, colours=6)
    support = Support.of(images, 6)
    module, colours = Palette(support, 2), jnp.array(images.reshape(5, -1).T[support.open])
    x = np.random.default_rng(1).normal(0, 3, (*colours.shape, 2)).astype(np.float32)
    variables = jax.jit(partial(module.init, method="log_probabilities"))(jax.random.key(0), x, colours)

    def found() -> list[jax.Array]:
        def total(variables, x: jax.Array) -> jax.Array:
            log_probabilities = module.apply(variables, x, colours, method="log_probabilities")
            assert isinstance(log_probabilities, jax.Array)
            return log_probabilities.sum()

        # Functions of each call, so that nothing compiled before the patch is taken again.
        value, gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(variables, x)
        most_probable = jax.jit(lambda x: module.apply(variables, x, method="most_probable"))(x)
        return [value, *jax.tree.leaves(gradients), jnp.asarray(most_probable)]

    whole = found()
    monkeypatch.setattr("flax_punkvae.model.palette._MOST_LOGITS", 10)
    for mine, theirs in zip(found(), whole, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def seen_at_open(support: Support) -> list[list[int]]:
    return [sorted(seen(support)[place]) for place in support.open]


def test_a_gradient_stays_finite_where_a_colour_is_all_but_impossible():
    support = Support.of(np.array([0, 1], np.uint8).reshape(2, 1, 1, 1), 3)

    @jax.jit
    @jax.value_and_grad
    def nll(bias: jax.Array, colour: jax.Array) -> jax.Array:
        variables = {"params": {"kernel": jnp.zeros((3, 1)), "bias": bias}}
        x, chosen = jnp.zeros((1, 1, 1)), jnp.full((1, 1), colour)
        log_probabilities = Palette(support, 1).apply(variables, x, chosen, method="log_probabilities")
        assert isinstance(log_probabilities, jax.Array)
        return support.negative_log_likelihood(log_probabilities, chosen.reshape(1, 1, 1, 1))[0]

    bias = np.array([[1e4, -1e4]], np.float32)
    # Both were seen once in two sprites, so a third colour has 2.1 / 3, and each of the three 0.7 / 3 from that.
    for colour, probability in enumerate((0.3 + 0.7 / 3, 0.7 / 3, 0.7 / 3)):
        value, gradient = nll(bias, np.int32(colour))
        np.testing.assert_allclose(value, -np.log(probability), rtol=1e-6)
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(("colours", "dtype"), [(3, np.uint8), (256, np.uint8), (257, np.int32)])
def test_an_image_has_the_chosen_colours_and_elsewhere_the_only_one(colours: int, dtype: type):
    images = sprites(2, 3, 4)
    support = Support.of(images, colours)
    chosen = images.reshape(2, -1).T[support.open]
    found = jax.jit(support.image)(chosen.astype(np.int32))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, images)


def test_before_training_a_pixel_has_the_frequencies_of_its_position():
    """Oracle: counts by hand."""
    images = sprites(16, 3, 4)
    found = log_frequencies(images, 5)
    count = (images[:, 2, 3, 0] == 1).sum()
    np.testing.assert_allclose(found[2, 3, 1], np.log((count + 0.1) / 16.5), rtol=1e-6)
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, rtol=1e-6)
    support = Support.of(images, 5)
    for row, colours, values in zip(listed(support, found), support.open_lists, found.reshape(12, 5), strict=True):
        np.testing.assert_array_equal(row, [values[colour] if colour < 5 else 0 for colour in colours])
