"""The networks of PunkVAE: encoder and decoder.

Parameter layout, for exchanging weights with other frameworks: convolution kernels are (3, 3, in, out); the equation
in `ops.transposed_convolution` defines the kernels of transposed convolutions (PyTorch's weights, with axes in, out, y,
x moved to y, x, in, out, not flipped); dense kernels are (in, out); images are flattened in the order h, w, c.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Key, Shaped

from flax_punkvae.model import dropout, ops

Initializer = Callable[..., Array]
# A kernel and a bias.
Layer = tuple[Array, Array]
# Which elements of the activations of each layer dropout keeps; None: no dropout.
Masks = Sequence[Bool[Array, "b ..."] | None]


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
        rate = 0.0 if dropout_keys is None else self.dropout
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
            shapes = [(x.shape[1] >> n, x.shape[2] >> n, width) for n, width in enumerate(self.widths, 1)]
            x = ops.by_micro_batch(partial(encoder_blocks, rate), layers, x, _masks(dropout_keys, rate, 0, shapes))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(_dense(x, Affine((x.shape[1], self.hidden), x.shape[1], self.dtype, name="dense")()))
        x = _residual_blocks(x, self.residual_blocks, dropout_keys, len(layers), rate)
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
        rate = 0.0 if dropout_keys is None else self.dropout
        x = z.astype(self.dtype)
        x = nn.relu(_dense(x, Affine((x.shape[1], self.hidden), x.shape[1], self.dtype, name="dense_0")()))
        x = _residual_blocks(x, self.residual_blocks, dropout_keys, self.stages, rate)
        x = _dense(x, Affine((self.hidden, math.prod(self.start)), self.hidden, self.dtype, name="dense_1")())
        if not self.stages:
            return self._output(x.reshape(-1, *self.start))
        widths = (self.start[-1], *self.widths, self.channels)
        # PyTorch, and so the reference, computes the fan-in of a transposed convolution from its outputs.
        layers = [
            Affine((3, 3, i, o), 9 * o, self.dtype, name=f"conv_transpose_{index}")()
            for index, (i, o) in enumerate(itertools.pairwise(widths))
        ]

        height, width, _ = self.start
        shapes = [(height << n, width << n, channels) for n, channels in enumerate(self.widths, 1)]

        def blocks(layers: Sequence[Layer], x: Array, masks: Masks) -> Array:
            return self._output(decoder_blocks(rate, layers, x, masks))

        x = nn.relu(x).reshape(-1, *self.start)
        return ops.by_micro_batch(blocks, layers, x, _masks(dropout_keys, rate, 0, shapes))

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
    masks = _masks(keys, rate, first_noise, [(width,)] * count)
    for index, kept in enumerate(masks):
        inner, outer = (Affine((width, width), width, dtype, name=f"residual_{index}_{half}")() for half in (0, 1))
        x = x + _dense(ops.relu_dropout(_dense(x, inner), kept, rate), outer)
    return x


def encoder_blocks(
    rate: float, layers: Sequence[Layer], x: Float[Array, "b h w c"], masks: Masks
) -> Float[Array, "b h2 w2 c2"]:
    """The encoder's convolutions, each followed by 2x2 max pooling, ReLU and, with masks, dropout."""
    for (kernel, bias), kept in zip(layers, masks, strict=True):
        x = ops.max_pool_relu_dropout(ops.convolution(x, kernel, bias), kept, rate)
    return x


def decoder_blocks(
    rate: float, layers: Sequence[Layer], x: Float[Array, "b h w c"], masks: Masks
) -> Float[Array, "b h2 w2 c2"]:
    """The decoder's transposed convolutions, each doubling the image; between them ReLU and, with masks, dropout."""
    *inner, (kernel, bias) = layers
    for layer, kept in zip(inner, masks, strict=True):
        x = ops.relu_dropout(ops.transposed_convolution(x, *layer), kept, rate)
    return ops.transposed_convolution(x, kernel, bias)


def _masks(keys: Key[Array, "b"] | None, rate: float, first_noise: int, shapes: Sequence[tuple[int, ...]]) -> Masks:
    """What dropout keeps of the activations of these shapes; None for each without keys or dropout.

    For whole batches, since random bits are drawn faster outside the loop over micro-batches.
    """
    if keys is None or rate == 0:
        return [None] * len(shapes)
    return [
        dropout.kept(jax.vmap(lambda key, index=index: jax.random.fold_in(key, index))(keys), shape, rate)
        for index, shape in enumerate(shapes, first_noise)
    ]
