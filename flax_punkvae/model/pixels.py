"""The autoregressive decoder of a sprite: a pixel's colour depends on the latents and on pixels decoded before it.

Pixels are decoded row by row. Each is given its features, which the decoder computes from the latents, and ten
neighbours: eight above it and to its left, and two mirrored ones, since many sprites are symmetric. Its distribution is
a mixture: a softmax over the colours seen at its position, and the colour of each neighbour ("copying"). So a colour
that the latents decide once is carried on by copying, for shapes and colours that were never seen together too. At
positions where training showed one colour, there is nothing to decode.

Sources: van den Oord et al. 2016 ("Pixel Recurrent Neural Networks") for pixels given earlier ones; Merity et al. 2017
("Pointer Sentinel Mixture Models") for a mixture of a softmax and copies.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Integer

from flax_punkvae.model.networks import Affine
from flax_punkvae.model.palette import NEVER, Palette, Support

# (rows down, columns right) of each neighbour. The two mirrored ones come after these.
OFFSETS = ((0, -1), (0, -2), (-1, -1), (-1, 0), (-1, 1), (-2, 0), (-1, 2), (-1, -2))
NEIGHBOURS = len(OFFSETS) + 2
# How far the offsets reach: rows up, and columns to either side.
_UP, _ASIDE = 2, 2
# Sizes of a neighbour's embedding, and of the vector that is multiplied with each colour's embedding for its logit.
_EMBEDDING = 8
_OUTPUT = 16
# Colours less than this times as probable as the most probable one are not drawn: each is rare, but over all pixels
# they would add up to wrong pixels ("min-p sampling", Nguyen et al. 2024).
LEAST = 0.05


def neighbours(values: Array, outside: Array) -> Array:
    """[h w b e] to [h w b n e]: the values of each pixel's neighbours, and `outside` [e] where there is none.

    The mirrored neighbours are the pixel at w - 1 - x in the same row, once that is decoded, and in the row above.
    """
    height, width = values.shape[:2]
    padding = ((_UP, 0), (_ASIDE, _ASIDE), (0, 0), (0, 0))
    inside = jnp.pad(jnp.ones((height, width, 1, 1), bool), padding)
    padded = jnp.where(inside, jnp.pad(values, padding), outside)

    def shifted(down: int, right: int) -> Array:
        return padded[_UP + down : _UP + down + height, _ASIDE + right : _ASIDE + right + width]

    columns = jnp.arange(width)
    decoded = (columns > width - 1 - columns)[:, None, None]
    mirrored = (jnp.where(decoded, values[:, ::-1], outside), shifted(-1, 0)[:, ::-1])
    return jnp.stack([*(shifted(*offset) for offset in OFFSETS), *mirrored], axis=3)


class PixelDecoder(nn.Module):
    """The decoder's features of each pixel, and earlier pixels, to the distribution of its colour."""

    support: Support
    features: int
    hidden: int
    dtype: Any

    def setup(self) -> None:
        # The last embedding stands for a neighbour outside the sprite.
        embeddings = nn.initializers.normal(0.5)
        self.embedding = self.param("embedding", embeddings, (self.support.colours + 1, _EMBEDDING))
        sizes = self.features + NEIGHBOURS * _EMBEDDING, self.hidden, self.hidden
        outputs = self.hidden, self.hidden, _OUTPUT + 1 + NEIGHBOURS
        self.layers = [Affine((i, o), i, self.dtype) for i, o in zip(sizes, outputs, strict=True)]
        self.palette = Palette(self.support, _OUTPUT)

    def log_probabilities(
        self, images: Integer[Array, "b h w 1"], features: Float[Array, "o b f"]
    ) -> Float[Array, "o b"]:
        """log q(its colour | features, earlier pixels) of each pixel at an open position."""
        colours, at_open = self.support.colours, self.support.at_open
        indices = images.transpose(1, 2, 0, 3).astype(jnp.int32)
        near = at_open(neighbours(indices, jnp.array([colours])))[..., 0]
        # Embedded before they are shifted: the gradient of a lookup is slow, and this one has a tenth of the rows.
        embedded = at_open(neighbours(self.embedding[indices[..., 0]], self.embedding[colours]))
        chosen = at_open(indices)[..., 0]
        output, log_weights = self._mixture(features, embedded, near)
        drawn = log_weights[..., 0] + self.palette.log_probabilities(output, chosen)
        copied = jnp.where(near == chosen[..., None], log_weights[..., 1:], NEVER)
        return nn.logsumexp(jnp.concatenate([drawn[..., None], copied], axis=-1), axis=-1)

    def decode(
        self, features: Float[Array, "o b f"], uniform: Float[Array, "o b"] | None = None
    ) -> Integer[Array, "o b"]:
        """The colour at each open position, given those chosen before it.

        It is the most probable one or, with uniform draws from [0, 1), one drawn from its distribution, less the
        colours that are far less probable than the most probable one.
        """
        support, batch = self.support, features.shape[1]
        height, width, _ = support.lists.shape
        # The places of a pixel's neighbours in the canvas, whose last row is the outside.
        places = jnp.arange(height * width).reshape(height, width, 1, 1)
        near_places = support.at_open(neighbours(places, jnp.array([height * width])))[:, 0, :, 0]
        lists, positions = jnp.asarray(support.open_lists), jnp.asarray(support.open)
        kernel, bias = self.palette.parameters()
        canvas = jnp.append(support.lists[..., 0].ravel(), support.colours)
        canvas = jnp.broadcast_to(canvas[:, None], (len(canvas), batch))

        def choose(number: Array, canvas: Array) -> Array:
            near = canvas[near_places[number]].T
            output, log_weights = self._mixture(features[number], self.embedding[near], near)
            weights = jnp.exp(log_weights)
            softmax = weights[:, :1] * nn.softmax(output @ kernel[number].T + bias[number])
            # A neighbour outside has no weight.
            candidates = jnp.concatenate([jnp.broadcast_to(lists[number], softmax.shape), near], axis=1)
            same = candidates[:, :, None] == near[:, None]
            probabilities = (
                jnp.where(same, weights[:, None, 1:], 0.0).sum(axis=-1).at[:, : softmax.shape[1]].add(softmax)
            )
            if uniform is None:
                best = jnp.argmax(probabilities, axis=1, keepdims=True)
            else:
                likely = probabilities >= LEAST * probabilities.max(axis=1, keepdims=True)
                best = _draw(jnp.where(likely & _first(same, softmax.shape[1]), probabilities, 0.0), uniform[number])
            return canvas.at[positions[number]].set(jnp.take_along_axis(candidates, best, axis=1)[:, 0])

        return jax.lax.fori_loop(0, len(positions), choose, canvas)[positions]

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
        copies = jnp.where(near < self.support.colours, x[..., _OUTPUT + 1 :], NEVER)
        weights = jnp.concatenate([x[..., _OUTPUT : _OUTPUT + 1], copies], axis=-1)
        return x[..., :_OUTPUT], nn.log_softmax(weights, axis=-1)


def _first(same: Bool[Array, "b c n"], listed: int) -> Bool[Array, "b c"]:
    """Whether a candidate is the first of its colour: `listed` distinct ones, then the neighbours, each the `same`."""
    number = same.shape[-1]
    earlier = same[:, :listed].any(axis=1) | (same[:, listed:] & jnp.tri(number, k=-1, dtype=bool)).any(axis=2)
    return jnp.concatenate([jnp.ones_like(same[:, :listed, 0]), ~earlier], axis=1)


def _draw(masses: Float[Array, "b c"], uniform: Float[Array, "b"]) -> Integer[Array, "b 1"]:
    """The index of one candidate, with probability proportional to its mass."""
    # A cumulative sum as a product, since the reduction that `cumsum` compiles to is not known to every backend.
    ends = masses @ jnp.tri(masses.shape[1]).T
    return jnp.argmax((masses > 0) & (ends > uniform[:, None] * ends[:, -1:]), axis=1, keepdims=True)
