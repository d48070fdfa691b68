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


@functools.partial(jax.jit, static_argnums=(0, 1))
def _pulled_back(op: Callable[..., jax.Array], elsewhere: bool, cotangent: jax.Array, *inputs: jax.Array) -> Any:
    out, pullback = jax.vjp(op, *inputs)
    return out, pullback(cotangent)


def pulled_back(op: Callable[..., jax.Array], cotangent: Any, *inputs: Any) -> tuple[Any, Any]:
    """(op(*inputs), the gradients of <cotangent, op> with respect to them), compiled as one."""
    return _pulled_back(op, False, cotangent, *inputs)


def pulled_back_elsewhere(op: Callable[..., jax.Array], cotangent: Any, *inputs: Any) -> tuple[Any, Any]:
    """The same in the form of other backends: `platform_dependent` is made to choose its default."""
    with mock.patch.object(jax.lax, "platform_dependent", lambda *arguments, cpu, default: default(*arguments)):
        return _pulled_back(op, True, cotangent, *inputs)


@functools.partial(jax.jit, static_argnums=(0, 1))
def dropped(op: Callable[..., jax.Array], rate: float, kept: Any, cotangent: Any, x: Any) -> tuple[Any, Any]:
    """(op(x, kept, rate), the gradient of <cotangent, op> with respect to x)."""
    out, pullback = jax.vjp(lambda x: op(x, kept, rate), x)
    return out, pullback(cotangent)[0]


# Each new shape is compiled anew: b, h, w, in and out.
SHAPES = st.sampled_from([(1, 1, 1, 1, 1), (3, 6, 5, 3, 4), (2, 1, 4, 5, 2)])
CONVOLUTIONS = [(ops.convolution, convolution), (ops.transposed_convolution, transposed_convolution)]
ids = ("convolution", "transposed")


@pytest.mark.parametrize(("ours", "oracle"), CONVOLUTIONS, ids=ids)
@given(SHAPES, st.integers(0, 99))
@settings(max_examples=4)
@x64
def test_convolutions_and_their_gradients(ours, oracle, shape: tuple[int, ...], seed: int):
    """An op is linear in x, kernel and bias: the gradient g of <cotangent, op> has <g, v> = <cotangent, op(v)>.

    The right sides are the float64 oracle's, for random directions v.
    """
    *_, i, o = shape
    x, v = normal(seed, 2, *shape[:4])
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
@given(SHAPES, st.integers(0, 99))
@settings(max_examples=3)
@x64
def test_the_cpu_form_equals_the_form_of_other_backends(op, shape: tuple[int, ...], seed: int):
    """Values and every element of the gradients."""
    *_, i, o = shape
    inputs = [normal(seed, *each) for each in (shape[:4], (3, 3, i, o), (o,))]
    cotangent = normal(seed + 1, *jax.eval_shape(op, *inputs).shape)
    ours, gradients = pulled_back(op, cotangent, *inputs)
    theirs, others = pulled_back_elsewhere(op, cotangent, *inputs)
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    for gradient, expected in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rate", [None, 0.5])
@given(st.sampled_from([(1, 1, 1, 1), (3, 6, 5, 4), (2, 1, 4, 5)]), st.integers(0, 99))
@settings(max_examples=4)
def test_max_pool_relu_dropout_and_its_gradient(rate: float | None, shape: tuple[int, ...], seed: int):
    b, h, w, c = shape
    x = normal(seed, b, 2 * h, 2 * w, c).astype(np.float32)
    largest = np.stack([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]).max(0)
    cotangent = normal(seed + 1, b, h, w, c).astype(np.float32)
    kept = None if rate is None else np.random.default_rng(seed).random(largest.shape) < 0.7
    scale, passed = (1, largest > 0) if kept is None else (2, (largest > 0) & kept)
    out, gradient = dropped(ops.max_pool_relu_dropout, rate or 0.0, kept, cotangent, x)
    np.testing.assert_array_equal(out, np.where(passed, scale * largest, 0))
    # Without ties: to the largest of the four, and only where it passed.
    largest, passed, cotangent = (np.asarray(part).repeat(2, 1).repeat(2, 2) for part in (largest, passed, cotangent))
    np.testing.assert_array_equal(gradient, np.where((x == largest) & passed, scale * cotangent, 0))


@pytest.mark.parametrize("rate", [0.0, 0.38])
def test_relu_dropout_and_its_gradient(rate: float):
    x, dy = normal(0, 3, 33).astype(np.float32), normal(1, 3, 33).astype(np.float32)
    kept = np.random.default_rng(2).random(x.shape) < 0.6
    out, gradient = dropped(ops.relu_dropout, rate, kept, dy, x)
    # XLA multiplies by the reciprocal.
    np.testing.assert_allclose(out, np.where((x > 0) & kept, x / (1 - rate), 0), rtol=3e-7)
    np.testing.assert_allclose(gradient, np.where((x > 0) & kept, dy / (1 - rate), 0), rtol=3e-7)
    out, gradient = dropped(ops.relu_dropout, 0.0, None, dy, x)
    np.testing.assert_array_equal(out, np.maximum(x, 0))
    np.testing.assert_array_equal(gradient, np.where(x > 0, dy, 0))


@pytest.mark.parametrize("op", [ops.relu_dropout, ops.max_pool_relu_dropout])
def test_nan_passes_where_it_is_kept(op: Callable[..., jax.Array]):
    x = np.full((1, 2, 2, 1), np.nan, np.float32)
    compiled = jax.jit(op, static_argnums=2)
    out = compiled(x, None, 0.0)
    kept = np.ones(out.shape, bool)
    assert np.isnan(out).all() and np.isnan(compiled(x, kept, 0.5)).all()
    assert not np.any(compiled(x, ~kept, 0.5))


@functools.cache
def product_of_blocks(block: int) -> Callable[..., jax.Array]:
    return lambda x, kernel: ops.product(x, kernel, block)


# Blocks, rows of one, and columns: dy is much narrower than x in the second.
@given(st.sampled_from([(1, 1, 1, 1), (3, 6, 5, 2), (2, 4, 3, 5)]), st.integers(0, 99))
@settings(max_examples=4)
@x64
def test_product_and_its_gradients(shape: tuple[int, ...], seed: int):
    """Oracle: NumPy in double precision, dx = dy k^T and dk = x^T dy."""
    blocks, block, i, o = shape
    x, kernel, dy = (normal(seed, *shape) for shape in ((blocks * block, i), (i, o), (blocks * block, o)))
    y, here = pulled_back(product_of_blocks(block), dy, x, kernel)
    np.testing.assert_allclose(y, x @ kernel, atol=1e-12)
    _, elsewhere = pulled_back_elsewhere(product_of_blocks(block), dy, x, kernel)
    for *gradients, expected in zip(here, elsewhere, (dy @ kernel.T, x.T @ dy), strict=True):
        for gradient in gradients:
            np.testing.assert_allclose(gradient, expected, atol=1e-12)


def test_of_equal_maxima_the_first_gets_the_gradient_and_zero_none():
    x = np.array([[1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 0.0, -1.0]], np.float32)[None, :, :, None]
    _, gradient = dropped(ops.max_pool_relu_dropout, 0.0, None, np.ones((1, 1, 2, 1), np.float32), x)
    assert gradient[0, :, :, 0].tolist() == [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]]


def test_odd_sides_cannot_be_pooled():
    with pytest.raises(ValueError, match="expected an even height and width"):
        ops.max_pool_relu_dropout(jnp.ones((1, 3, 4, 1)), None, 0.0)


@pytest.mark.parametrize("size", [1, 3, 8, 12])
def test_micro_batches_change_neither_values_nor_order(size: int):
    x = normal(0, size, 3).astype(np.float32)
    scale = np.array([1.0, 2.0, 3.0], np.float32)
    seen = []

    def function(scale, x, others):
        seen.append(len(x))
        return (others[0] * x * scale)[:, None, :]

    others = [np.full((size, 1), 2.0, np.float32), None]
    # Not under jit, which traces what is for other backends too.
    out, pullback = jax.vjp(lambda scale: ops.by_micro_batch(function, scale, x, others), scale)
    np.testing.assert_array_equal(out, (2 * x * scale)[:, None, :])
    (gradient,) = pullback(np.ones(out.shape, np.float32))
    np.testing.assert_allclose(gradient, 2 * x.sum(0), rtol=1e-5, atol=1e-6)
    assert max(seen) <= 2
