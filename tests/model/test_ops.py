"""Each op against float64 NumPy."""

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


@pytest.mark.parametrize("rate", [None, 0.5])
@given(st.integers(1, 3), sides, sides, channels, st.integers(0, 99))
@settings(max_examples=4)
def test_max_pool_relu_dropout_and_its_gradient(rate: float | None, b: int, h: int, w: int, c: int, seed: int):
    x = normal(seed, b, 2 * h, 2 * w, c).astype(np.float32)
    largest = np.stack([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]).max(0)
    cotangent = normal(seed + 1, b, h, w, c).astype(np.float32)
    kept = None if rate is None else jnp.asarray(np.random.default_rng(seed).random(largest.shape) < 0.7)
    scale, passed = (1, largest > 0) if kept is None else (2, (largest > 0) & kept)
    out, (gradient,) = pulled_back(lambda x: ops.max_pool_relu_dropout(x, kept, rate or 0.0), cotangent, x)
    np.testing.assert_array_equal(out, np.where(passed, scale * largest, 0))
    # Without ties: to the largest of the four, and only where it passed.
    largest, passed, cotangent = (np.asarray(part).repeat(2, 1).repeat(2, 2) for part in (largest, passed, cotangent))
    np.testing.assert_array_equal(gradient, np.where((x == largest) & passed, scale * cotangent, 0))


@pytest.mark.parametrize("rate", [0.0, 0.38])
def test_relu_dropout_and_its_gradient(rate: float):
    x, dy = normal(0, 3, 33).astype(np.float32), normal(1, 3, 33).astype(np.float32)
    kept = jnp.asarray(np.random.default_rng(2).random(x.shape) < 0.6)
    out, (gradient,) = pulled_back(lambda x: ops.relu_dropout(x, kept, rate), dy, x)
    # XLA multiplies by the reciprocal.
    np.testing.assert_allclose(out, np.where((x > 0) & kept, x / (1 - rate), 0), rtol=3e-7)
    np.testing.assert_allclose(gradient, np.where((x > 0) & kept, dy / (1 - rate), 0), rtol=3e-7)
    out, (gradient,) = pulled_back(lambda x: ops.relu_dropout(x, None, 0.0), dy, x)
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    np.testing.assert_array_equal(gradient, np.where(x > 0, dy, 0))


@pytest.mark.parametrize("op", [ops.relu_dropout, ops.max_pool_relu_dropout])
def test_nan_passes_where_it_is_kept(op: Callable[..., jax.Array]):
    x = jnp.full((1, 2, 2, 1), jnp.nan)
    kept = jnp.ones(op(x, None, 0.0).shape, bool)
    assert np.isnan(op(x, None, 0.0)).all() and np.isnan(op(x, kept, 0.5)).all()
    assert not np.any(op(x, ~kept, 0.5))


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
    _, (gradient,) = pulled_back(lambda x: ops.max_pool_relu_dropout(x, None, 0.0), jnp.ones((1, 1, 2, 1)), x)
    assert gradient[0, :, :, 0].tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_odd_sides_cannot_be_pooled():
    with pytest.raises(ValueError, match="expected an even height and width"):
        ops.max_pool_relu_dropout(jnp.ones((1, 3, 4, 1)), None, 0.0)


@pytest.mark.parametrize("size", [1, 3, 8, 12])
def test_micro_batches_change_neither_values_nor_order(size: int):
    x = jnp.array(normal(0, size, 3), jnp.float32)
    scale = jnp.array([1.0, 2.0, 3.0])
    seen = []

    def function(scale, x, others):
        seen.append(len(x))
        return (others[0] * x * scale)[:, None, :]

    others = [jnp.full((size, 1), 2.0), None]
    np.testing.assert_array_equal(ops.by_micro_batch(function, scale, x, others), (2 * x * scale)[:, None, :])
    gradient = jax.grad(lambda scale: ops.by_micro_batch(function, scale, x, others).sum())(scale)
    np.testing.assert_allclose(gradient, 2 * x.sum(0), rtol=1e-5, atol=1e-6)
    assert max(seen) <= 2
