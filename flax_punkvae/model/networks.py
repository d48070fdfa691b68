"""The networks of PunkVAE: encoder and decoder.

Parameter layout, for exchanging weights with other frameworks: convolution kernels are (3, 3, in, out); the equation
in `ops.transposed_convolution` defines the kernels of transposed convolutions (PyTorch's weights, with axes in, out, y,
x moved to y, x, in, out, not flipped); dense kernels are (in, out); images are flattened in the order h, w, c.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key, Shaped

from flax_punkvae.model import ops

Initializer = Callable[..., Array]
# A kernel and a bias.
Layer = tuple[Array, Array]


def fan_in_uniform(fan_in: int) -> Initializer:
    """Uniform in +-1/sqrt(fan_in): PyTorch's default for both kernels and biases."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    return init


class Affine(nn.Module):
    """The parameters of a layer: calling it returns (kernel, bias) in the dtype of computation; stored in float32."""

    shape: tuple[int, ...]
    fan_in: int
    dtype: Any

    @nn.compact
    def __call__(self) -> Layer:
        init = fan_in_uniform(self.fan_in)
        kernel, bias = self.param("kernel", init, self.shape), self.param("bias", init, self.shape[-1:])
        return kernel.astype(self.dtype), bias.astype(self.dtype)


class Encoder(nn.Module):
    """Map images to the mean and log-variance of q(z | image)."""

    colours: int
    embedding: int
    widths: tuple[int, ...]
    hidden: int
    residual_blocks: int
    latent: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(
        self, images: Shaped[Array, "b h w c"], dropout_keys: Key[Array, "b"] | None
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        if self.colours:
            colours = self.param("colours", nn.initializers.normal(0.5), (self.colours, self.embedding))
            images = colours[images[..., 0].astype(jnp.int32)]
        x = images.astype(self.dtype)
        widths = (x.shape[-1], *self.widths)
        layers = [
            Affine((3, 3, i, o), 9 * i, self.dtype, name=f"conv_{index}")()
            for index, (i, o) in enumerate(itertools.pairwise(widths))
        ]
        if layers:
            x = _in_micro_batches(encoder_blocks, self.dropout, dropout_keys, layers, x)
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(_dense(x, Affine((x.shape[1], self.hidden), x.shape[1], self.dtype, name="dense")()))
        x = _residual_blocks(x, self.residual_blocks, dropout_keys, len(layers), self.dropout)
        mean, logvar = (
            _dense(x, Affine((self.hidden, self.latent), self.hidden, self.dtype, name=head)())
            for head in ("mean", "logvar")
        )
        return mean.astype(jnp.float32), logvar.astype(jnp.float32)


class Decoder(nn.Module):
    """Map latents to images with values in [0, 1] (`squashed`), or to `channels` unbounded values per pixel."""

    widths: tuple[int, ...]
    hidden: int
    residual_blocks: int
    dropout: float
    start: tuple[int, int, int]
    stages: int
    channels: int
    squashed: bool
    dtype: Any

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None) -> Float[Array, "b h w c"]:
        x = z.astype(self.dtype)
        x = nn.relu(_dense(x, Affine((x.shape[1], self.hidden), x.shape[1], self.dtype, name="dense_0")()))
        x = _residual_blocks(x, self.residual_blocks, dropout_keys, self.stages, self.dropout)
        x = _dense(x, Affine((self.hidden, math.prod(self.start)), self.hidden, self.dtype, name="dense_1")())
        if not self.stages:
            return self._output(x.reshape(-1, *self.start))
        widths = (self.start[-1], *self.widths, self.channels)
        # PyTorch, and so the reference, computes the fan-in of a transposed convolution from its outputs.
        layers = [
            Affine((3, 3, i, o), 9 * o, self.dtype, name=f"conv_transpose_{index}")()
            for index, (i, o) in enumerate(itertools.pairwise(widths))
        ]

        def blocks(layers: Sequence[Layer], rate: float, x: Array, keys: Array | None) -> Array:
            return self._output(decoder_blocks(layers, rate, x, keys))

        return _in_micro_batches(blocks, self.dropout, dropout_keys, layers, nn.relu(x).reshape(-1, *self.start))

    def _output(self, x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        x = x.astype(jnp.float32)
        return nn.sigmoid(x) if self.squashed else x


def _dense(x: Float[Array, "b i"], layer: Layer) -> Float[Array, "b o"]:
    kernel, bias = layer
    return x @ kernel + bias


def _residual_blocks(
    x: Float[Array, "b i"], count: int, keys: Key[Array, "b"] | None, first_noise: int, rate: float
) -> Float[Array, "b i"]:
    """Apply x + dense(dropout(relu(dense(x)))) `count` times; parameters belong to the calling module."""
    width, dtype = x.shape[1], x.dtype
    for index in range(count):
        inner, outer = (Affine((width, width), width, dtype, name=f"residual_{index}_{half}")() for half in (0, 1))
        y = nn.relu(_dense(x, inner))
        if rate:
            y = _dropout(y, keys, first_noise + index, rate)
        x = x + _dense(y, outer)
    return x


def encoder_blocks(
    layers: Sequence[Layer], rate: float, x: Float[Array, "b h w c"], keys: Key[Array, "b"] | None
) -> Float[Array, "b h2 w2 c2"]:
    """The encoder's convolutions, each followed by 2x2 max pooling, ReLU and, with keys, dropout."""
    for index, (kernel, bias) in enumerate(layers):
        x = _dropout(ops.max_pool_relu(ops.convolution(x, kernel, bias)), keys, index, rate)
    return x


def decoder_blocks(
    layers: Sequence[Layer], rate: float, x: Float[Array, "b h w c"], keys: Key[Array, "b"] | None
) -> Float[Array, "b h2 w2 c2"]:
    """The decoder's transposed convolutions, each doubling the image; between them ReLU and, with keys, dropout."""
    *inner, (kernel, bias) = layers
    for index, layer in enumerate(inner):
        x = _dropout(nn.relu(ops.transposed_convolution(x, *layer)), keys, index, rate)
    return ops.transposed_convolution(x, kernel, bias)


def _in_micro_batches(
    blocks: Callable[..., Array], rate: float, keys: Key[Array, "b"] | None, layers: Sequence[Layer], x: Array
) -> Array:
    if keys is None or rate == 0:
        return ops.by_micro_batch(lambda layers, x: blocks(layers, rate, x, None), layers, x)
    return ops.by_micro_batch(lambda layers, x, keys: blocks(layers, rate, x, keys), layers, x, keys)


def _dropout(x: Array, keys: Key[Array, "b"] | None, index: int, rate: float) -> Array:
    if keys is None:
        return x
    return ops.dropout(x, jax.vmap(lambda key: jax.random.fold_in(key, index))(keys), rate)
