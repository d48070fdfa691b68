"""The autoregressive decoder of a sprite: a pixel's colour depends on the latents and on pixels decoded before it.

Pixels are decoded row by row. Each is given its features, which the decoder computes from the latents, and ten
neighbours: eight above it and to its left, and two mirrored ones, since many sprites are symmetric. Its distribution is
a mixture: a softmax over the palette, and the colour of each neighbour ("copying"). So a colour that the latents decide
once is carried on by copying, for shapes and colours that were never seen together too.

Sources: van den Oord et al. 2016 ("Pixel Recurrent Neural Networks") for pixels given earlier ones; Merity et al. 2017
("Pointer Sentinel Mixture Models") for a mixture of a softmax and copies.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Integer

from flax_punkvae.model.networks import Affine

# (rows down, columns right) of each neighbour. The two mirrored ones come after these.
OFFSETS = ((0, -1), (0, -2), (-1, -1), (-1, 0), (-1, 1), (-2, 0), (-1, 2), (-1, -2))
NEIGHBOURS = len(OFFSETS) + 2
# How far the offsets reach: rows up, and columns to either side.
_UP, _ASIDE = 2, 2
# Sizes of a neighbour's embedding, and of the vector that is multiplied with each colour's embedding for its logit.
_EMBEDDING = 8
_OUTPUT = 16
# The logarithm of a weight of 0, without infinities in the gradient.
_NEVER = -1e9


def neighbours(values: Array, outside: Array) -> Array:
    """[b h w e] to [b h w n e]: the values of each pixel's neighbours, and `outside` [e] where there is none.

    The mirrored neighbours are the pixel at w - 1 - x in the same row, once that is decoded, and in the row above.
    """
    height, width = values.shape[1:3]
    padding = ((0, 0), (_UP, 0), (_ASIDE, _ASIDE), (0, 0))
    inside = jnp.pad(jnp.ones((1, height, width, 1), bool), padding)
    padded = jnp.where(inside, jnp.pad(values, padding), outside)

    def shifted(down: int, right: int) -> Array:
        return padded[:, _UP + down : _UP + down + height, _ASIDE + right : _ASIDE + right + width]

    columns = jnp.arange(width)
    decoded = (columns > width - 1 - columns)[:, None]
    mirrored = (jnp.where(decoded, values[:, :, ::-1], outside), shifted(-1, 0)[:, :, ::-1])
    return jnp.stack([*(shifted(*offset) for offset in OFFSETS), *mirrored], axis=3)


class PixelDecoder(nn.Module):
    """The decoder's features of each pixel, and earlier pixels, to the distribution of its colour."""

    colours: int
    features: int
    hidden: int
    image_shape: tuple[int, int, int]
    dtype: Any

    def setup(self) -> None:
        height, width, _ = self.image_shape
        embeddings = nn.initializers.normal(0.5)
        # The last embedding stands for a neighbour outside the sprite.
        self.embedding = self.param("embedding", embeddings, (self.colours + 1, _EMBEDDING))
        self.kernel = self.param("kernel", embeddings, (self.colours, _OUTPUT))
        self.bias = self.param("bias", nn.initializers.zeros, (height, width, self.colours))
        sizes = self.features + NEIGHBOURS * _EMBEDDING, self.hidden, self.hidden
        outputs = self.hidden, self.hidden, _OUTPUT + 1 + NEIGHBOURS
        self.layers = [Affine((i, o), i, self.dtype) for i, o in zip(sizes, outputs, strict=True)]

    def negative_log_likelihood(
        self, images: Integer[Array, "b h w 1"], features: Float[Array, "b h w f"]
    ) -> Float[Array, "b"]:
        """-log p(image | features), in nats, summed over the pixels of an image."""
        indices = images.astype(jnp.int32)
        near = neighbours(indices, jnp.array([self.colours]))[..., 0]
        # Embedded before they are shifted: the gradient of a lookup is slow, and this one has a tenth of the rows.
        outputs, log_weights = self._mixture(features, neighbours(self.embedding[indices[..., 0]], self._outside), near)
        kernel, bias = self.kernel, self.bias

        # One image at a time, recomputed in the gradient, as in `PunkVAE.distortion`.
        @jax.checkpoint
        def log_softmax(parts: tuple[Array, Array]) -> Array:
            image, output = parts
            logits = output @ kernel.T + bias
            shifted = logits - jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
            return jnp.take_along_axis(shifted, image, axis=-1)[..., 0] - nn.logsumexp(shifted, axis=-1)

        drawn = log_weights[..., 0] + jax.lax.map(log_softmax, (indices, outputs))
        copied = jnp.where(near == indices, log_weights[..., 1:], _NEVER)
        log_likelihood = nn.logsumexp(jnp.concatenate([drawn[..., None], copied], axis=-1), axis=-1)
        return -jnp.sum(log_likelihood, axis=(1, 2))

    def decode(self, features: Float[Array, "b h w f"]) -> Integer[Array, "b h w 1"]:
        """The most probable colour of each pixel, given those chosen before it."""
        batch, height, width, _ = features.shape
        # Every pixel that is not decoded yet counts as outside.
        start = jnp.full((batch, height + _UP, width + 2 * _ASIDE), self.colours, jnp.int32)

        def choose(position: Array, canvas: Array) -> Array:
            row, column = position // width, position % width

            def at(y: Array, x: Array) -> Array:
                return jax.lax.dynamic_slice(canvas, (jnp.zeros_like(y), y + _UP, x + _ASIDE), (batch, 1, 1))[:, 0, 0]

            mirror = width - 1 - column
            near = [at(row + down, column + right) for down, right in OFFSETS]
            # The pixel itself is not decoded yet, so it counts as outside too.
            near = jnp.stack([*near, at(row, jnp.minimum(mirror, column)), at(row - 1, mirror)], axis=-1)
            near = near.at[:, len(OFFSETS)].set(jnp.where(column > mirror, near[:, len(OFFSETS)], self.colours))
            here = jax.lax.dynamic_slice(
                features, (jnp.zeros_like(row), row, column, jnp.zeros_like(row)), (batch, 1, 1, features.shape[-1])
            )[:, 0, 0]
            output, log_weights = self._mixture(here, self.embedding[near], near)
            bias = jax.lax.dynamic_slice(self.bias, (row, column, jnp.zeros_like(row)), (1, 1, self.colours))[0, 0]
            weights = jnp.exp(log_weights)
            drawn = weights[:, :1] * nn.softmax(output @ self.kernel.T + bias)
            # A neighbour outside has no weight and no colour, so it is dropped.
            probabilities = drawn.at[jnp.arange(batch)[:, None], near].add(weights[:, 1:], mode="drop")
            chosen = jnp.argmax(probabilities, axis=-1).astype(jnp.int32)
            return jax.lax.dynamic_update_slice(
                canvas, chosen[:, None, None], (jnp.zeros_like(row), row + _UP, column + _ASIDE)
            )

        canvas = jax.lax.fori_loop(0, height * width, choose, start)
        return canvas[:, _UP:, _ASIDE : _ASIDE + width, None]

    @property
    def _outside(self) -> Array:
        return self.embedding[self.colours]

    def _mixture(
        self, features: Float[Array, "*b f"], embedded: Float[Array, "*b n e"], near: Integer[Array, "*b n"]
    ) -> tuple[Float[Array, "*b o"], Float[Array, "*b m"]]:
        """What is multiplied with the colours' embeddings, and the log-weights of the softmax and of each copy."""
        x = jnp.concatenate([features, embedded.reshape(*embedded.shape[:-2], -1)], axis=-1).astype(self.dtype)
        for index, layer in enumerate(self.layers):
            kernel, bias = layer()
            x = x @ kernel + bias
            if index < len(self.layers) - 1:
                x = nn.relu(x)
        x = x.astype(jnp.float32)
        copies = jnp.where(near < self.colours, x[..., _OUTPUT + 1 :], _NEVER)
        weights = jnp.concatenate([x[..., _OUTPUT : _OUTPUT + 1], copies], axis=-1)
        return x[..., :_OUTPUT], nn.log_softmax(weights, axis=-1)
