"""Each op against float64 NumPy, dropout against its exact rate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flax_punkvae import ops

sides = st.integers(1, 6)
channels = st.integers(1, 5)


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def convolution(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The equation, term by term, in float64."""
    b, h, w, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    out = np.zeros((b, h, w, kernel.shape[-1]))
    for ky in range(3):
        for kx in range(3):
            out += padded[:, ky : ky + h, kx : kx + w] @ kernel[ky, kx]
    return out


def transposed_convolution(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """The equation, term by term, in float64: what falls outside the image is dropped."""
    b, h, w, _ = x.shape
    out = np.zeros((b, 2 * h + 2, 2 * w + 2, kernel.shape[-1]))
    for ky in range(3):
        for kx in range(3):
            out[:, ky : ky + 2 * h : 2, kx : kx + 2 * w : 2] += x @ kernel[ky, kx]
    return out[:, 1 : 1 + 2 * h, 1 : 1 + 2 * w]


@given(st.integers(1, 3), sides, sides, channels, channels, st.integers(0, 99))
@settings(max_examples=15)
def test_convolution(b: int, h: int, w: int, i: int, o: int, seed: int):
    x, kernel = normal(seed, b, h, w, i), normal(seed + 1, 3, 3, i, o)
    ours = ops.convolution(jnp.array(x, jnp.float32), jnp.array(kernel, jnp.float32))
    np.testing.assert_allclose(ours, convolution(x, kernel), rtol=1e-4, atol=1e-4)


@given(st.integers(1, 3), sides, sides, channels, channels, st.integers(0, 99))
@settings(max_examples=15)
def test_transposed_convolution(b: int, h: int, w: int, i: int, o: int, seed: int):
    x, kernel = normal(seed, b, h, w, i), normal(seed + 1, 3, 3, i, o)
    ours = ops.transposed_convolution(jnp.array(x, jnp.float32), jnp.array(kernel, jnp.float32))
    np.testing.assert_allclose(ours, transposed_convolution(x, kernel), rtol=1e-4, atol=1e-4)


@given(st.integers(1, 3), sides, sides, channels, st.integers(0, 99))
@settings(max_examples=15)
def test_max_pool(b: int, h: int, w: int, c: int, seed: int):
    x = normal(seed, b, 2 * h, 2 * w, c).astype(np.float32)
    expected = np.max([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], axis=0)
    np.testing.assert_array_equal(ops.max_pool(jnp.array(x)), expected)


@given(st.integers(1, 3), sides, sides, channels, channels, st.integers(0, 99))
@settings(max_examples=10)
def test_gradients_of_the_convolutions(b: int, h: int, w: int, i: int, o: int, seed: int):
    """Both are linear in x and in the kernel: the gradient g of <cotangent, op> has <g, v> = <cotangent, op(v)>.

    The right side is the float64 oracle's."""
    x, v = normal(seed, 2, b, h, w, i)
    kernel, u = normal(seed + 1, 2, 3, 3, i, o)
    for op, oracle in ((ops.convolution, convolution), (ops.transposed_convolution, transposed_convolution)):
        cotangent = normal(seed + 2, *oracle(x, kernel).shape)
        _, pullback = jax.vjp(op, jnp.array(x, jnp.float32), jnp.array(kernel, jnp.float32))
        gradient_x, gradient_kernel = pullback(jnp.array(cotangent, jnp.float32))
        for gradient, direction, moved in (
            (gradient_x, v, oracle(v, kernel)),
            (gradient_kernel, u, oracle(x, u)),
        ):
            np.testing.assert_allclose(
                np.sum(np.asarray(gradient, np.float64) * direction), np.sum(cotangent * moved), rtol=1e-3, atol=1e-3
            )


@pytest.mark.parametrize("rate", [0.36, 0.38, 0.5, 0.9, 0.001])
def test_dropout_keeps_at_the_exact_rate(rate: float):
    """Oracle: the binomial's standard error; 0.36 and 0.38 are no multiples of 1/256."""
    x = jnp.ones((400, 50, 50), jnp.float32)
    out = np.asarray(ops.dropout(x, jax.random.key(0), rate), np.float64)
    assert set(np.unique(out)) <= {0.0, float(np.float32(1) / np.float32(1 - rate))}
    kept = np.mean(out > 0)
    assert abs(kept - (1 - rate)) < 4 * np.sqrt(rate * (1 - rate) / x.size)


def test_dropout_is_independent_between_elements_and_keys():
    x = jnp.ones((64, 64, 64), jnp.float32)
    kept = np.asarray(ops.dropout(x, jax.random.key(1), 0.5)) > 0
    other = np.asarray(ops.dropout(x, jax.random.key(2), 0.5)) > 0
    for shifted in (other, *(np.roll(kept, 1, axis) for axis in range(3))):
        # Agreement of two independent fair coins: 1/2, within four standard errors.
        assert abs(np.mean(kept == shifted) - 0.5) < 4 * 0.5 / np.sqrt(kept.size)


def test_dropout_of_rate_zero_changes_nothing():
    x = jnp.arange(8.0).reshape(2, 4)
    np.testing.assert_array_equal(ops.dropout(x, jax.random.key(0), 0.0), x)


def test_dropout_passes_the_gradient_where_it_kept():
    x = jnp.ones((3, 33), jnp.float32)
    key = jax.random.key(3)
    gradient = jax.grad(lambda x: jnp.sum(ops.dropout(x, key, 0.38)))(x)
    np.testing.assert_array_equal(gradient, ops.dropout(x, key, 0.38))
