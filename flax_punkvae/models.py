"""PunkVAE as linen modules: the reference network, layer for layer, with widths, latent and dropout as fields.

Parameters, so that weights can be exchanged with other frameworks: convolution kernels are (3, 3, in, out); a
transposed convolution's kernel is indexed by the equation in `ops.transposed_convolution` (PyTorch's weight with axes
in, out, y, x moved to y, x, in, out, not flipped); dense kernels are (in, out); images flatten in the order h, w, c.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Key

from flax_punkvae import ops

Initializer = Callable[..., Array]
# A kernel and a bias.
Layer = tuple[Array, Array]


def fan_in_uniform(fan_in: int) -> Initializer:
    """Uniform in +-1/sqrt(fan_in): PyTorch's default for kernels and biases alike."""
    bound = 1.0 / math.sqrt(fan_in)

    def init(key: Key[Array, ""], shape: tuple[int, ...]) -> Array:
        return jax.random.uniform(key, shape, jnp.float32, -bound, bound)

    return init


class Affine(nn.Module):
    """The kernel and bias of a layer, to be called for them, in the type to compute in; they are kept in float32."""

    shape: tuple[int, ...]
    fan_in: int
    dtype: Any

    @nn.compact
    def __call__(self) -> Layer:
        init = fan_in_uniform(self.fan_in)
        kernel, bias = self.param("kernel", init, self.shape), self.param("bias", init, self.shape[-1:])
        return kernel.astype(self.dtype), bias.astype(self.dtype)


class Encoder(nn.Module):
    """Images to the mean and log-variance of q(z | image)."""

    widths: tuple[int, ...]
    hidden: int
    latent: int
    dropout: float
    dtype: Any

    @nn.compact
    def __call__(
        self, images: Float[Array, "b h w c"], dropout_keys: Key[Array, "b"] | None
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        widths = (images.shape[-1], *self.widths)
        layers = [
            Affine((3, 3, i, o), 9 * i, self.dtype, name=f"conv_{index}")()
            for index, (i, o) in enumerate(itertools.pairwise(widths))
        ]
        x = _in_micro_batches(encoder_blocks, self.dropout, dropout_keys, layers, images.astype(self.dtype))
        x = x.reshape(x.shape[0], -1)
        x = nn.relu(_dense(x, Affine((x.shape[1], self.hidden), x.shape[1], self.dtype, name="dense")()))
        mean, logvar = (
            _dense(x, Affine((self.hidden, self.latent), self.hidden, self.dtype, name=head)())
            for head in ("mean", "logvar")
        )
        return mean.astype(jnp.float32), logvar.astype(jnp.float32)


class Decoder(nn.Module):
    """Latents to images, each value in [0, 1]."""

    widths: tuple[int, ...]
    hidden: int
    dropout: float
    start: tuple[int, int, int]
    channels: int
    dtype: Any

    @nn.compact
    def __call__(self, z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None) -> Float[Array, "b h w c"]:
        x = z.astype(self.dtype)
        for index, width in enumerate((self.hidden, math.prod(self.start))):
            x = nn.relu(_dense(x, Affine((x.shape[1], width), x.shape[1], self.dtype, name=f"dense_{index}")()))
        widths = (self.start[-1], *self.widths, self.channels)
        # PyTorch counts the fan-in of a transposed convolution on its output side; the reference does so too.
        layers = [
            Affine((3, 3, i, o), 9 * o, self.dtype, name=f"conv_transpose_{index}")()
            for index, (i, o) in enumerate(itertools.pairwise(widths))
        ]
        return _in_micro_batches(decoder_blocks, self.dropout, dropout_keys, layers, x.reshape(-1, *self.start))


def _dense(x: Float[Array, "b i"], layer: Layer) -> Float[Array, "b o"]:
    kernel, bias = layer
    return x @ kernel + bias


def encoder_blocks(
    layers: Sequence[Layer], rate: float, x: Float[Array, "b h w c"], keys: Key[Array, "b"] | None
) -> Float[Array, "b h2 w2 c2"]:
    """The encoder's convolutions: each with pool, ReLU and, with keys, dropout; it halves the image."""
    for index, (kernel, bias) in enumerate(layers):
        x = _dropout(ops.max_pool_relu(ops.convolution(x, kernel, bias)), keys, index, rate)
    return x


def decoder_blocks(
    layers: Sequence[Layer], rate: float, x: Float[Array, "b h w c"], keys: Key[Array, "b"] | None
) -> Float[Array, "b h2 w2 c2"]:
    """The decoder's transposed convolutions: each doubles the image; ReLU and, with keys, dropout between them."""
    *inner, (kernel, bias) = layers
    for index, layer in enumerate(inner):
        x = _dropout(nn.relu(ops.transposed_convolution(x, *layer)), keys, index, rate)
    return nn.sigmoid(ops.transposed_convolution(x, kernel, bias).astype(jnp.float32))


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


class PunkVAE(nn.Module):
    """The variational autoencoder; with no arguments, the reference. Images are NHWC float32 in [0, 1].

    All methods by `model.apply(variables, ..., method="encode")`. Noise is always explicit: a key for every image, so
    that it depends neither on the other images of a batch nor on how a batch is spread over devices.
    """

    encoder_widths: tuple[int, ...] = (32, 64, 128, 256)
    decoder_widths: tuple[int, ...] = (128, 64, 32)
    hidden: int = 512
    latent: int = 256
    encoder_dropout: float = 0.38
    decoder_dropout: float = 0.36
    image_size: int = 128
    channels: int = 3
    dtype: Any = jnp.float32

    def setup(self) -> None:
        side = self.image_size // 2 ** len(self.encoder_widths)
        self.encoder = Encoder(self.encoder_widths, self.hidden, self.latent, self.encoder_dropout, self.dtype)
        self.decoder = Decoder(
            self.decoder_widths,
            self.hidden,
            self.decoder_dropout,
            start=(side, side, self.encoder_widths[-1]),
            channels=self.channels,
            dtype=self.dtype,
        )

    def encode(
        self, images: Float[Array, "b h w c"], dropout_keys: Key[Array, "b"] | None = None
    ) -> tuple[Float[Array, "b d"], Float[Array, "b d"]]:
        """(mean, logvar) of q(z | image); with keys, dropout is on."""
        return self.encoder(images, dropout_keys)

    def decode(self, z: Float[Array, "b d"], dropout_keys: Key[Array, "b"] | None = None) -> Float[Array, "b h w c"]:
        """The images of latents; with keys, dropout is on."""
        return self.decoder(z, dropout_keys)

    def __call__(
        self, images: Float[Array, "b h w c"], keys: Key[Array, "b"], *, train: bool
    ) -> tuple[Float[Array, "b h w c"], Float[Array, "b d"], Float[Array, "b d"]]:
        """(reconstructions, mean, logvar) at one z = mean + exp(logvar / 2) * eps; dropout is on where `train` is."""
        keys_z, keys_encoder, keys_decoder = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
        mean, logvar = self.encode(images, keys_encoder if train else None)
        noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:], mean.dtype))(keys_z)
        z = mean + jnp.exp(0.5 * logvar) * noise
        return self.decode(z, keys_decoder if train else None), mean, logvar
