"""Convolution, transposed convolution, pooling and dropout, with gradients that are fast on a CPU.

Images are (b, h, w, c), kernels (3, 3, in, out), biases (out,). Every function computes the same as its lax equivalent,
in any float dtype; at lowering, `jax.lax.platform_dependent` picks the implementation here on a CPU and plain lax
elsewhere. XLA's CPU backend runs forward convolutions and row-major matrix products near the machine's peak, but lax's
gradients become convolutions that run 5 to 50 times slower. So every gradient below is built from those two.

Convolution     y[i, j] = sum_{p,q} x[i+p-1, j+q-1] . k[p, q] + bias              p, q in 0..2, x zero outside the image
  wrt x         the convolution of dy with k rotated by 180 degrees, its channel axes swapped
  wrt k         dk[p, q] = sum_{i,j} x[i+p-1, j+q-1]^T dy[i, j]: with x stored channels first and its three column
                shifts stacked, the three dk[p, :] are products of (3 in, h w) by (h w, out), one image at a time

Transposed      y[2i+p-1, 2j+q-1] += x[i, j] . k[p, q], bias added: the output is (2h, 2w)
  forward       t = x K, one product of (b h w, in) by (in, 9 out); an even row of y takes p = 1 of its own i, an odd
                row p = 2 of its own i and p = 0 of the next; likewise for columns
  wrt x, k      d = the nine patches dy[2i+p-1, 2j+q-1] concatenated, (b h w, 9 out); dx = d K^T and dK = x^T d

Product         y = x k, with many more rows than columns
  wrt k         x^T dy, as a sum of products of blocks of rows, from a copy of x, or of dy if that is much narrower,
                with each block's columns first

ReLU            is monotonic, so max_pool(relu(x)) = relu(max_pool(x)) sees a quarter of the values. Its gradient needs
                one byte per output: the index of the maximum, or 4 if ReLU or dropout made it 0. Without pooling, the
                output itself, which the next layer keeps, says where it passed

Dropout         divides what it keeps by 1 - rate; `dropout.kept` draws which elements these are
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, UInt8

_LAYOUT = ("NHWC", "HWIO", "NHWC")
# Terms (input row offset, kernel row) by the parity of a transposed convolution's output row; same for columns.
_TAPS = {0: [(0, 1)], 1: [(0, 2), (1, 0)]}

# Chosen by measurement: see experiments/speed/notes.md.
_LANES = 4
_PIECE = 1


def _lax_convolution(x: Array, kernel: Array) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), ((1, 1), (1, 1)), dimension_numbers=_LAYOUT)


def _cpu_convolution(x: Array, kernel: Array) -> Array:
    # Pad channels to a multiple of 4: three input channels run at a quarter of the speed.
    extra = -x.shape[3] % 4
    x = jnp.pad(x, [(0, 0)] * 3 + [(0, extra)])
    return _lax_convolution(x, jnp.pad(kernel, [(0, 0)] * 2 + [(0, extra), (0, 0)]))


def _cpu_convolution_gradients(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    _, h, w, c = x.shape
    d = dy.shape[3]

    def add_image(total: Array, image: tuple[Array, Array]) -> tuple[Array, None]:
        x, dy = image
        x = jnp.pad(x.transpose(2, 0, 1), ((0, 0), (1, 1), (1, 1)))
        shifts = jnp.stack([x[:, :, q : q + w] for q in range(3)]).reshape(3 * c, h + 2, w)
        rows = [shifts[:, p : p + h].reshape(3 * c, h * w) @ dy.reshape(h * w, d) for p in range(3)]
        return total + jnp.stack(rows).reshape(3, 3, c, d), None

    dx = _cpu_convolution(dy, kernel[::-1, ::-1].swapaxes(2, 3))
    return dx, lax.scan(add_image, jnp.zeros_like(kernel), (x, dy))[0]


def _lax_convolution_gradients(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    return jax.vjp(_lax_convolution, x, kernel)[1](dy)


@jax.custom_vjp
def convolution(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], bias: Float[Array, "o"]
) -> Float[Array, "b h w o"]:
    """out[y, x] = bias + sum over ky, kx of in[y + ky - 1, x + kx - 1] . kernel[ky, kx]; zero outside the image."""
    return lax.platform_dependent(x, kernel, cpu=_cpu_convolution, default=_lax_convolution) + bias


def _convolution_forward(x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return convolution(x, kernel, bias), (x, kernel)


def _convolution_backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    dx, dk = lax.platform_dependent(*residuals, dy, cpu=_cpu_convolution_gradients, default=_lax_convolution_gradients)
    return dx, dk, dy.sum((0, 1, 2))


convolution.defvjp(_convolution_forward, _convolution_backward)


def _cpu_product_gradients(block: int, x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    # Without the barriers, XLA computes x and dy several times, and fuses transpositions into the product: it is slow.
    x, dy = lax.optimization_barrier((x, dy))
    left, right = (part.reshape(-1, block, part.shape[1]) for part in (x, dy))
    swapped = 2 * dy.shape[1] < x.shape[1]
    if swapped:
        left, right = right, left
    columns_first = lax.optimization_barrier(left.swapaxes(1, 2))
    dk = lax.optimization_barrier(columns_first @ right).sum(0)
    return dy @ kernel.T, dk.T if swapped else dk


def _lax_product_gradients(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    return dy @ kernel.T, x.T @ dy


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def product(x: Float[Array, "n i"], kernel: Float[Array, "i o"], block: int) -> Float[Array, "n o"]:
    """x @ kernel, for many rows of few columns; `block` is a divisor of n: see above."""
    return x @ kernel


def _product_forward(x: Array, kernel: Array, block: int) -> tuple[Array, tuple[Array, Array]]:
    return product(x, kernel, block), (x, kernel)


def _product_backward(block: int, residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array]:
    on_cpu = partial(_cpu_product_gradients, block)
    return lax.platform_dependent(*residuals, dy, cpu=on_cpu, default=_lax_product_gradients)


product.defvjp(_product_forward, _product_backward)


def _lax_transposed_convolution(x: Array, kernel: Array) -> Array:
    return lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), ((1, 2), (1, 2)), dimension_numbers=_LAYOUT)


def _cpu_transposed_convolution(x: Array, kernel: Array) -> Array:
    b, h, w, c = x.shape
    d = kernel.shape[3]
    products = x.reshape(-1, c) @ kernel.transpose(2, 0, 1, 3).reshape(c, 9 * d)
    t = jnp.pad(products.reshape(b, h, w, 3, 3, d), ((0, 0), (0, 1), (0, 1), (0, 0), (0, 0), (0, 0)))
    rows = []
    for row in (0, 1):
        terms = [[t[:, i : i + h, j : j + w, p, q] for i, p in _TAPS[row] for j, q in _TAPS[col]] for col in (0, 1)]
        rows.append(jnp.stack([sum(phase[1:], phase[0]) for phase in terms], axis=3))
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, d)


def _cpu_transposed_convolution_gradients(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    b, h, w, c = x.shape
    d = dy.shape[3]
    dy = jnp.pad(dy, ((0, 0), (1, 0), (1, 0), (0, 0)))
    patches = [dy[:, p : p + 2 * h - 1 : 2, q : q + 2 * w - 1 : 2] for p in range(3) for q in range(3)]
    patches = jnp.concatenate(patches, axis=3).reshape(b * h * w, 9 * d)
    dx = patches @ kernel.swapaxes(2, 3).reshape(9 * d, c)
    # Without the barrier, XLA fuses the transposition into the product, which is then slow.
    channels_first = lax.optimization_barrier(x.reshape(-1, c).T)
    return dx.reshape(x.shape), (channels_first @ patches).reshape(c, 3, 3, d).transpose(1, 2, 0, 3)


def _lax_transposed_convolution_gradients(x: Array, kernel: Array, dy: Array) -> tuple[Array, Array]:
    return jax.vjp(_lax_transposed_convolution, x, kernel)[1](dy)


@jax.custom_vjp
def transposed_convolution(
    x: Float[Array, "b h w i"], kernel: Float[Array, "3 3 i o"], bias: Float[Array, "o"]
) -> Float[Array, "b h2 w2 o"]:
    """out[2i + ky - 1, 2j + kx - 1] += in[i, j] . kernel[ky, kx], plus bias: twice the height and width.

    PyTorch's ConvTranspose2d(kernel_size=3, stride=2, padding=1, output_padding=1).
    """
    product = lax.platform_dependent(x, kernel, cpu=_cpu_transposed_convolution, default=_lax_transposed_convolution)
    return product + bias


def _transposed_convolution_forward(x: Array, kernel: Array, bias: Array) -> tuple[Array, tuple[Array, Array]]:
    return transposed_convolution(x, kernel, bias), (x, kernel)


def _transposed_convolution_backward(residuals: tuple[Array, Array], dy: Array) -> tuple[Array, Array, Array]:
    dx, dk = lax.platform_dependent(
        *residuals, dy, cpu=_cpu_transposed_convolution_gradients, default=_lax_transposed_convolution_gradients
    )
    return dx, dk, dy.sum((0, 1, 2))


transposed_convolution.defvjp(_transposed_convolution_forward, _transposed_convolution_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def max_pool_relu_dropout(
    x: Float[Array, "b h w c"], kept: Bool[Array, "b h2 w2 c"] | None, rate: float
) -> Float[Array, "b h2 w2 c"]:
    """`relu_dropout` of the maximum of each 2x2 block, the first of equal ones. h and w must be even."""
    return _max_pool_relu_dropout_forward(x, kept, rate)[0]


def _max_pool_relu_dropout_forward(
    x: Array, kept: Array | None, rate: float
) -> tuple[Array, UInt8[Array, "b h2 w2 c"]]:
    if x.shape[1] % 2 or x.shape[2] % 2:
        raise ValueError(f"expected an even height and width, got {x.shape}: pad or crop the images")
    x00, x01, x10, x11 = (x[:, i::2, j::2] for i in (0, 1) for j in (0, 1))
    top, bottom = jnp.maximum(x00, x01), jnp.maximum(x10, x11)
    largest = jnp.maximum(top, bottom)
    winner = jnp.where(top >= bottom, jnp.where(x00 >= x01, 0, 1), jnp.where(x10 >= x11, 2, 3))
    passed = _passed(largest, kept)
    return jnp.where(passed, largest / (1 - rate), 0), jnp.where(passed, winner, 4).astype(jnp.uint8)


def _max_pool_relu_dropout_backward(rate: float, winner: Array, dy: Array) -> tuple[Array, None]:
    b, h, w, c = dy.shape
    position = jnp.arange(4, dtype=jnp.uint8).reshape(2, 1, 2, 1)
    dx = jnp.where(winner[:, :, None, :, None] == position, (dy / (1 - rate))[:, :, None, :, None], 0)
    return dx.reshape(b, 2 * h, 2 * w, c), None


max_pool_relu_dropout.defvjp(_max_pool_relu_dropout_forward, _max_pool_relu_dropout_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def relu_dropout(
    x: Float[Array, "b *rest"], kept: Bool[Array, "b *rest"] | None, rate: float
) -> Float[Array, "b *rest"]:
    """max(0, x), divided by 1 - rate where it is kept and 0 elsewhere (Srivastava et al. 2014).

    `kept` is drawn with this rate (see `dropout`); None, with a rate of 0: everything is kept.
    """
    return _relu_dropout_forward(x, kept, rate)[0]


def _relu_dropout_forward(x: Array, kept: Array | None, rate: float) -> tuple[Array, Array]:
    y = jnp.where(_passed(x, kept), x / (1 - rate), 0)
    return y, y


def _relu_dropout_backward(rate: float, y: Array, dy: Array) -> tuple[Array, None]:
    # y, which the next layer keeps for its gradient too, is positive exactly where x passed.
    return jnp.where(y > 0, dy / (1 - rate), 0), None


relu_dropout.defvjp(_relu_dropout_forward, _relu_dropout_backward)


def _passed(x: Array, kept: Array | None) -> Array:
    # So that nan passes, as through max(0, x): a run must see that it diverged.
    positive = ~(x <= 0)
    return positive if kept is None else positive & kept


def by_micro_batch(function: Callable[..., Array], params: Any, *batch: Any) -> Array:
    """function(params, *batch), trees of arrays whose examples, along the first axis, must not depend on each other.

    A CPU processes a few images at a time, so that their data stays in its cache, as independent lanes, so that several
    cores have work even if XLA runs an op on one. Other backends process the whole batch.
    """

    # Under jit, so that it is traced once rather than once per lane.
    one = jax.jit(function)

    def in_pieces(params: Any, *batch: Any) -> Array:
        size = len(jax.tree.leaves(batch)[0])
        lanes = math.gcd(size, _LANES)
        piece = math.gcd(size // lanes, _PIECE)
        pieces = jax.tree.map(lambda array: array.reshape(-1, lanes, piece, *array.shape[1:]), batch)

        def lane(pieces: Any, index: int) -> Array:
            return one(params, *jax.tree.map(lambda array: array[index], pieces))

        out = lax.map(lambda pieces: jnp.stack([lane(pieces, index) for index in range(lanes)]), pieces)
        return out.reshape(size, *out.shape[3:])

    return lax.platform_dependent(params, *batch, cpu=in_pieces, default=function)
