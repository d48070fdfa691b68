"""Each op against float64 NumPy, dropout against its exact rate."""

import functools
import importlib
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_punkvae.model import ops
from helpers.convolutions import convolution, transposed_convolution

sides = st.integers(1, 6)
channels = st.integers(1, 5)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


# At home in jax since 0.8; in the metal set still an experiment.
enable_x64 = jax.enable_x64 if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental").enable_x64


def x64(function: Callable[..., None]) -> Callable[..., None]:
    """In double precision, so that ours and the oracle differ by rounding alone."""

    @functools.wraps(function)
    def wrapped(*arguments, **options):
        with enable_x64(True):
            function(*arguments, **options)

    return wrapped


@functools.partial(jax.jit, static_argnums=0)
def pulled_back(op: Callable[..., jax.Array], cotangent: jax.Array, *inputs: jax.Array) -> tuple[Any, Any]:
    """(op(*inputs), the gradients of <cotangent, op> with respect to them), compiled as one."""
    out, pullback = jax.vjp(op, *inputs)
    return out, pullback(cotangent)


CONVOLUTIONS = [(ops.convolution, convolution), (ops.transposed_convolution, transposed_convolution)]
ids = ("convolution", "transposed")


@pytest.mark.parametrize(("ours", "oracle"), CONVOLUTIONS, ids=ids)
@given(st.integers(1, 3), sides, sides, channels, channels, st.integers(0, 99))
@settings(max_examples=4)
@x64
def test_convolutions_and_their_gradients(ours, oracle, b: int, h: int, w: int, i: int, o: int, seed: int):
    """An op is linear in x, kernel and bias: the gradient g of <cotangent, op> has <g, v> = <cotangent, op(v)>.

    The right sides are the float64 oracle's, for random directions v.
    """
    x, v = normal(seed, 2, b, h, w, i)
    kernel, u = normal(seed + 1, 2, 3, 3, i, o)
    bias = normal(seed + 2, o)
    expected = oracle(x, kernel) + bias
    cotangent = normal(seed + 3, *expected.shape)
    out, (dx, dkernel, dbias) = pulled_back(ours, cotangent, x, kernel, bias)
    np.testing.assert_allclose(out, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(np.sum(dx * v), np.sum(cotangent * oracle(v, kernel)), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.sum(dkernel * u), np.sum(cotangent * oracle(x, u)), rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(dbias, cotangent.sum((0, 1, 2)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("op", [op for op, _ in CONVOLUTIONS], ids=ids)
@given(st.integers(1, 2), sides, sides, channels, channels, st.integers(0, 99))
@settings(max_examples=3)
@x64
def test_the_cpu_form_equals_the_form_of_other_backends(op, b: int, h: int, w: int, i: int, o: int, seed: int):
    """Values and every element of the gradients; `platform_dependent` is made to choose its default."""
    x, kernel, bias = (jnp.array(normal(seed, *shape)) for shape in ((b, h, w, i), (3, 3, i, o), (o,)))
    ours, pullback = jax.vjp(op, x, kernel, bias)
    cotangent = jnp.array(normal(seed + 1, *ours.shape))
    with mock.patch.object(jax.lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments)):
        theirs, other = jax.vjp(op, x, kernel, bias)
        gradients = other(cotangent)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    for gradient, expected in zip(pullback(cotangent), gradients, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-11)


@given(st.integers(1, 3), sides, sides, channels, st.integers(0, 99))
@settings(max_examples=8)
def test_max_pool_relu_and_its_gradient(b: int, h: int, w: int, c: int, seed: int):
    x = normal(seed, b, 2 * h, 2 * w, c).astype(np.float32)
    blocks = np.stack([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    cotangent = normal(seed + 1, b, h, w, c).astype(np.float32)
    out, (gradient,) = pulled_back(ops.max_pool_relu, cotangent, x)
    np.testing.assert_array_equal(out, np.maximum(blocks.max(0), 0))
    # Without ties: to the largest of the four, and only where it is positive.
    repeated = np.asarray(out).repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(gradient, np.where((x == repeated), cotangent.repeat(2, 1).repeat(2, 2), 0))


@given(st.integers(1, 3), sides, channels, channels, st.integers(0, 99))
@settings(max_examples=4)
@x64
def test_product_and_its_gradients(blocks: int, block: int, i: int, o: int, seed: int):
    """Oracle: NumPy in double precision, dx = dy k^T and dk = x^T dy."""
    x, kernel, dy = (normal(seed, *shape) for shape in ((blocks * block, i), (i, o), (blocks * block, o)))
    found: Any = jax.vjp(lambda *given: ops.product(*given, block), jnp.asarray(x), jnp.asarray(kernel))
    y, backward = found
    np.testing.assert_allclose(y, x @ kernel, atol=1e-12)
    here = backward(jnp.asarray(dy))
    with mock.patch.object(jax.lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments)):
        elsewhere = backward(jnp.asarray(dy))
    for *gradients, expected in zip(here, elsewhere, (dy @ kernel.T, x.T @ dy), strict=True):
        for gradient in gradients:
            np.testing.assert_allclose(gradient, expected, atol=1e-12)


def test_of_equal_maxima_the_first_gets_the_gradient_and_zero_none():
    x = jnp.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, -1.0]])[None, :, :, None]
    gradient = jax.grad(lambda x: ops.max_pool_relu(x).sum())(x)
    assert gradient[0, :, :, 0].tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_odd_sides_cannot_be_pooled():
    with pytest.raises(ValueError, match="expected an even height and width"):
        ops.max_pool_relu(jnp.ones((1, 3, 4, 1)))


def split(seed: int, count: int) -> jax.Array:
    return jax.random.split(jax.random.key(seed), count)


@pytest.mark.parametrize("rate", [0.36, 0.38, 0.5, 0.9, 0.001])
def test_dropout_keeps_at_the_exact_rate(rate: float):
    """Oracle: the binomial's standard error, and that of the images' thresholds, whole numbers with mean 256 rate."""
    images = 400
    x = jnp.ones((images, 50, 50), jnp.float32)
    out = np.asarray(ops.dropout(x, split(0, images), rate), np.float64)
    assert set(np.unique(out)) <= {0.0, float(np.float32(1) / np.float32(1 - rate))}
    kept = np.mean(out > 0)
    fraction = 256 * rate % 1
    variance = rate * (1 - rate) / x.size + fraction * (1 - fraction) / 256**2 / images
    assert abs(kept - (1 - rate)) < 4 * np.sqrt(variance)


def test_dropout_is_independent_between_elements_and_keys():
    x = jnp.ones((64, 64, 64), jnp.float32)
    kept = np.asarray(ops.dropout(x, split(1, 64), 0.5)) > 0
    other = np.asarray(ops.dropout(x, split(2, 64), 0.5)) > 0
    for shifted in (other, *(np.roll(kept, 1, axis) for axis in range(3))):
        # Agreement of two independent fair coins: 1/2, within four standard errors.
        assert abs(np.mean(kept == shifted) - 0.5) < 4 * 0.5 / np.sqrt(kept.size)


def test_dropout_of_rate_zero_changes_nothing():
    x = jnp.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(ops.dropout(x, split(0, 2), 0.0), x)


@pytest.mark.parametrize("rate", [-0.1, 0.999, float("nan")])
def test_a_rate_that_a_byte_cannot_tell_is_refused(rate: float):
    with pytest.raises(ValueError, match="expected a dropout rate"):
        ops.dropout(jnp.ones((2, 2)), split(0, 2), rate)


def test_dropout_passes_the_gradient_where_it_kept():
    x = jnp.ones((3, 33), jnp.float32)
    keys = split(3, 3)
    gradient = jax.grad(lambda x: jnp.sum(ops.dropout(x, keys, 0.38)))(x)
    np.testing.assert_array_equal(gradient, ops.dropout(x, keys, 0.38))


def test_dropout_of_an_image_does_not_depend_on_its_batch():
    x = jnp.ones((5, 6, 7), jnp.float32)
    whole = np.asarray(ops.dropout(x, split(4, 5), 0.38))
    np.testing.assert_array_equal(whole[3:4], ops.dropout(x[3:4], split(4, 5)[3:4], 0.38))


@pytest.mark.parametrize("size", [1, 3, 8, 12])
def test_micro_batches_change_neither_values_nor_order(size: int):
    x = jnp.array(normal(0, size, 3), jnp.float32)
    scale = jnp.array([1.0, 2.0, 3.0])
    seen = []

    def function(scale, x):
        seen.append(len(x))
        return (x * scale)[:, None, :]

    np.testing.assert_array_equal(ops.by_micro_batch(function, scale, x), (x * scale)[:, None, :])
    gradient = jax.grad(lambda scale: ops.by_micro_batch(function, scale, x).sum())(scale)
    np.testing.assert_allclose(gradient, x.sum(0), rtol=1e-5, atol=1e-6)
    assert max(seen) <= 2
