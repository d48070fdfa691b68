"""The network of the critic: from sprites to the logit that each is real."""

import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Shaped, UInt8

# Larger sprites are folded: blocks of pixels become channels.
_SIDE = 32
# A pixel is compared with so many.
_NEIGHBOURS = 4


class Critic(nn.Module):
    """Three 3x3 convolutions, the last two with stride 2, and a dense layer, each with ReLU, then a dense layer to the
    logit that a sprite is real.

    Besides the colour, in [-2, 2] and with alpha if sprites have it, a pixel has its position and whether it equals
    each of its neighbours, which is how outlines and stray pixels show.
    """

    widths: tuple[int, ...] = (16, 32, 32)
    hidden: int = 64

    @nn.compact
    def __call__(self, sprites: UInt8[Array, "b h w c"]) -> Float[Array, "b"]:
        init = nn.initializers.he_normal()
        shared = _shared(sprites.shape)
        kernel, bias = _Layer((9 * len(shared), self.widths[0]), init, name="conv_0")()
        x = nn.relu(_first_convolution(sprites, shared, kernel) + bias[:, None, None, None])
        for index, width in enumerate(self.widths[1:], 1):
            kernel, bias = _Layer((9 * len(x), width), init, name=f"conv_{index}")()
            x = nn.relu(_convolution(x, kernel, 2) + bias[:, None, None, None])
        channels, height, width, batch = x.shape
        kernel, bias = _Layer((height * width * channels, self.hidden), init, name="dense")()
        kernel = kernel.reshape(height, width, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)
        x = nn.relu(_product(kernel, x.reshape(-1, batch)) + bias[:, None])
        kernel, bias = _Layer((self.hidden, 1), nn.initializers.lecun_normal(), name="logit")()
        return (_product(kernel, x) + bias[:, None])[0]


class _Layer(nn.Module):
    """The parameters of a dense layer: calling it returns (kernel, bias)."""

    shape: tuple[int, int]
    init: Any

    @nn.compact
    def __call__(self) -> tuple[Float[Array, "i o"], Float[Array, "o"]]:
        bias = nn.initializers.zeros
        return self.param("kernel", self.init, self.shape), self.param("bias", bias, self.shape[1:])


def _first_convolution(
    sprites: UInt8[Array, "b h w c"], shared: Float[Array, "f h2 w2 1"], kernel: Float[Array, "f9 o"]
) -> Float[Array, "o h2 w2 b"]:
    """The convolution of all features of the pixels: the `shared` ones, the same in all sprites, and the rest.

    The shared ones are convolved once; the rest are copied as bytes, a quarter of the memory of floats.
    """
    # Sprites last: shifting whole sets of them copies long runs, which makes a step 1.6 times as fast on a CPU.
    patches = _patches(_folded(_bytes(sprites)).transpose(3, 1, 2, 0), 1)
    # Without the barrier, XLA would make them floats before it copies them.
    patches = jax.lax.optimization_barrier(patches).astype(jnp.float32)
    channels = sprites.shape[-1]
    units = jnp.array([4 / 255] * channels + [1.0] * _NEIGHBOURS)
    of_bytes = kernel.reshape(-1, channels + _NEIGHBOURS + 2, kernel.shape[1])[:, : len(units)] * units[:, None]
    return _weighted(patches, of_bytes.reshape(-1, kernel.shape[1])) + _convolution(shared, kernel, 1)


def _bytes(sprites: UInt8[Array, "b h w c"]) -> UInt8[Array, "b h w f"]:
    """Colour, and whether the pixels above, on the left, on the right and below are equal."""
    _, height, width, _ = sprites.shape
    padded = jnp.pad(sprites, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    shifts = [(0, 1), (1, 0), (1, 2), (2, 1)]
    equal = [(padded[:, y : y + height, x : x + width] == sprites).all(-1) for y, x in shifts]
    return jnp.concatenate([sprites, jnp.stack(equal, -1).astype(jnp.uint8)], -1)


def _shared(shape: tuple[int, ...]) -> Float[Array, "f h2 w2 1"]:
    """The part of a pixel's features that is the same in all sprites: the least colour, -2, nothing for each of the
    neighbours, and the position, in [-1, 1]."""
    _, height, width, channels = shape
    where = jnp.meshgrid(jnp.linspace(-1, 1, height), jnp.linspace(-1, 1, width), indexing="ij")
    rest = jnp.array([-2.0] * channels + [0.0] * _NEIGHBOURS)
    features = jnp.concatenate([jnp.broadcast_to(rest, (height, width, len(rest))), jnp.stack(where, -1)], -1)
    return _folded(features[None]).transpose(3, 1, 2, 0)


def _folded(x: Shaped[Array, "b h w c"]) -> Shaped[Array, "b h2 w2 c2"]:
    """Blocks of pixels as channels, so that no side exceeds _SIDE; no pixel is lost."""
    batch, height, width, channels = x.shape
    side = math.ceil(max(height, width) / _SIDE)
    x = jnp.pad(x, ((0, 0), (0, -height % side), (0, -width % side), (0, 0)))
    rows, columns = x.shape[1] // side, x.shape[2] // side
    blocks = x.reshape(batch, rows, side, columns, side, channels).swapaxes(2, 3)
    return blocks.reshape(batch, rows, columns, side * side * channels)


def _patches(x: Shaped[Array, "c h w b"], stride: int) -> Shaped[Array, "c9 h2 w2 b"]:
    """The 3x3 neighbourhood of every pixel, or of every second one, zero outside the sprite."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return jnp.concatenate(
        [padded[:, i : i + height : stride, j : j + width : stride] for i in range(3) for j in range(3)]
    )


@jax.custom_vjp
def _product(kernel: Float[Array, "i o"], x: Float[Array, "i n"]) -> Float[Array, "o n"]:
    """kernel' x, whose gradients are products in the order that is fast on a CPU."""
    return kernel.T @ x


def _product_backward(
    residuals: tuple[Float[Array, "i o"], Float[Array, "i n"]], dy: Float[Array, "o n"]
) -> tuple[Float[Array, "i o"], Float[Array, "i n"]]:
    kernel, x = residuals
    return x @ dy.T, kernel @ dy


_product.defvjp(lambda kernel, x: (kernel.T @ x, (kernel, x)), _product_backward)


def _convolution(x: Float[Array, "c h w b"], kernel: Float[Array, "c9 o"], stride: int) -> Float[Array, "o h2 w2 b"]:
    """A 3x3 convolution, as a product with patches: lax's gradients of convolutions are many times slower on a CPU."""
    return _weighted(_patches(x, stride), kernel)


def _weighted(patches: Float[Array, "i h w b"], kernel: Float[Array, "i o"]) -> Float[Array, "o h w b"]:
    return _product(kernel, patches.reshape(len(patches), -1)).reshape(-1, *patches.shape[1:])
