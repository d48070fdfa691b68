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
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Integer

from flax_punkvae.model import ops
from flax_punkvae.model.networks import Affine
from flax_punkvae.model.palette import NEVER, Palette, Support

# (rows down, columns right) of each neighbour. The two mirrored ones come after these.
OFFSETS = ((0, -1), (0, -2), (-1, -1), (-1, 0), (-1, 1), (-2, 0), (-1, 2), (-1, -2))
NEIGHBOURS = len(OFFSETS) + 2
# Sizes of a neighbour's embedding, and of the vector that is multiplied with each colour's embedding for its logit.
_EMBEDDING = 8
_OUTPUT = 16
# Colours less than this times as probable as the most probable one are not drawn: each is rare, but over all pixels
# they would add up to wrong pixels ("min-p sampling", Nguyen et al. 2024).
LEAST = 0.05
# The largest table, in bytes, of whether each colour was seen at each position. Without it, decoding is slower.
_MOST_LISTED = 2**22


def neighbours(height: int, width: int) -> Int[np.ndarray, "h w n"]:
    """The position, row * w + column, of each pixel's neighbours; h * w where there is none.

    The mirrored neighbours are the pixel at w - 1 - x in the same row, once that is decoded, and in the row above.
    """
    rows, columns = np.mgrid[:height, :width][..., None]
    down, right = np.transpose(OFFSETS)
    mirrored = width - 1 - columns
    near_rows = np.concatenate([rows + down, rows, rows - 1], axis=2)
    near_columns = np.concatenate([columns + right, np.where(mirrored < columns, mirrored, -1), mirrored], axis=2)
    inside = (near_rows >= 0) & (near_columns >= 0) & (near_columns < width)
    return np.where(inside, near_rows * width + near_columns, height * width)


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
        self, images: Integer[Array, "#b h w 1"], features: Float[Array, "o b f"]
    ) -> Float[Array, "o b"]:
        """log q(its colour | features, earlier pixels) of each pixel at an open position; one image may do for all."""
        colours = images.reshape(len(images), -1).astype(jnp.int32)
        chosen = jnp.broadcast_to(colours[:, self.support.open], features.shape[1::-1])
        near = jnp.pad(colours, ((0, 0), (0, 1)), constant_values=self.support.colours)[:, self._near_places()]
        output, log_weights = self._mixture(features.swapaxes(0, 1), near)
        copied = jnp.where(near == chosen[..., None], log_weights[..., 1:], NEVER)
        drawn = log_weights[..., 0].T + self.palette.log_probabilities(output.swapaxes(0, 1), chosen.T)
        return jnp.logaddexp(drawn, nn.logsumexp(copied, axis=-1).T)

    def decode(
        self, features: Float[Array, "o b f"], uniform: Float[Array, "o b"] | None = None
    ) -> Integer[Array, "o b"]:
        """The colour at each open position, given those chosen before it.

        It is the most probable one or, with uniform draws from [0, 1), one drawn from its distribution, less the
        colours that are far less probable than the most probable one.
        """
        support, batch = self.support, features.shape[1]
        near_places, positions = jnp.asarray(self._near_places()), jnp.asarray(support.open)
        lists, (kernel, bias) = jnp.asarray(support.open_lists), self.palette.parameters()
        # The last row is the outside.
        canvas = jnp.append(support.lists[..., 0].ravel(), support.colours)
        canvas = jnp.broadcast_to(canvas[:, None], (len(canvas), batch))

        # Sprites along the last axis: a step is made of loops over them, which the compiler vectorises.
        def choose(number: Array, canvas: Array) -> Array:
            near = canvas[near_places[number]]
            output, weights = self._mixture_of_columns(features[number], near)
            softmax = weights[0] * nn.softmax(kernel[number] @ output + bias[number][:, None], axis=0)
            # A neighbour outside has no weight.
            candidates = jnp.concatenate([jnp.broadcast_to(lists[number][:, None], softmax.shape), near])
            copied = jnp.where(candidates[:, None] == near, weights[1:], 0.0).sum(axis=1)
            probabilities = copied.at[: len(softmax)].add(softmax)
            if uniform is None:
                best = _first_true(probabilities == probabilities.max(axis=0))
            else:
                likely = probabilities >= LEAST * probabilities.max(axis=0)
                first = _first(self._listed(number, near), near)
                likely &= jnp.concatenate([jnp.ones_like(softmax, bool), first])
                best = _draw(jnp.where(likely, probabilities, 0.0), uniform[number])
            return canvas.at[positions[number]].set(jnp.take_along_axis(candidates, best[None], axis=0)[0])

        return jax.lax.fori_loop(0, len(positions), choose, canvas)[positions]

    def _near_places(self) -> Int[np.ndarray, "o n"]:
        height, width, _ = self.support.lists.shape
        return neighbours(height, width).reshape(height * width, -1)[self.support.open]

    def _listed(self, number: Integer[Array, ""], near: Integer[Array, "n b"]) -> Bool[Array, "n b"]:
        """Whether the neighbours' colours were seen at an open position."""
        lists, size = self.support.open_lists, self.support.colours + 1
        if len(lists) * size > _MOST_LISTED:
            return (jnp.asarray(lists)[number][:, None, None] == near).any(axis=0)
        found = np.zeros((len(lists), size), bool)
        found[np.arange(len(lists))[:, None], lists] = True
        return jnp.asarray(found)[number, near]

    def _mixture(
        self, features: Float[Array, "*b f"], near: Integer[Array, "*#b n"]
    ) -> tuple[Float[Array, "*b o"], Float[Array, "*b m"]]:
        """What is multiplied with the colours' embeddings, and the log-weights of the softmax and of each copy."""
        kernel, bias = self.layers[2]()
        x = (_product(self._hidden(features, near), kernel) + bias).astype(jnp.float32)
        copies = jnp.where(near < self.support.colours, x[..., _OUTPUT + 1 :], NEVER)
        weights = jnp.concatenate([x[..., _OUTPUT : _OUTPUT + 1], copies], axis=-1)
        return x[..., :_OUTPUT], nn.log_softmax(weights, axis=-1)

    def _mixture_of_columns(
        self, features: Float[Array, "b f"], near: Integer[Array, "n b"]
    ) -> tuple[Float[Array, "o b"], Float[Array, "m b"]]:
        """`_mixture`, with the weights themselves and sprites along the last axis."""
        kernel, bias = self.layers[2]()
        x = (jnp.einsum("io,bi->ob", kernel, self._hidden(features, near.T)) + bias[:, None]).astype(jnp.float32)
        copies = jnp.where(near < self.support.colours, x[_OUTPUT + 1 :], NEVER)
        return x[:_OUTPUT], nn.softmax(jnp.concatenate([x[_OUTPUT : _OUTPUT + 1], copies]), axis=0)

    def _hidden(self, features: Float[Array, "*b f"], near: Integer[Array, "*#b n"]) -> Float[Array, "*b i"]:
        """The input of the last layer."""
        (kernel, bias), (second, second_bias) = (layer() for layer in self.layers[:2])
        embedded = self.embedding[near].reshape(*near.shape[:-1], -1)
        # Apart, so that one image's neighbours are multiplied once for all features.
        x = _product(features.astype(self.dtype), kernel[: self.features]) + bias
        x = x + _product(embedded.astype(self.dtype), kernel[self.features :])
        return nn.relu(_product(nn.relu(x), second) + second_bias)


def _product(x: Float[Array, "*b i"], kernel: Float[Array, "i o"]) -> Float[Array, "*b o"]:
    rows: Array = ops.product(x.reshape(-1, x.shape[-1]), kernel, x.shape[-2])
    return rows.reshape(*x.shape[:-1], -1)


def _first(listed: Bool[Array, "n b"], near: Integer[Array, "n b"]) -> Bool[Array, "n b"]:
    """Whether a neighbour is the first candidate of its colour: not `listed`, and no earlier neighbour's."""
    return jnp.stack([~sum((near[m] == near[n] for m in range(n)), listed[n]) for n in range(len(near))])


def _draw(masses: Float[Array, "c b"], uniform: Float[Array, "b"]) -> Integer[Array, "b"]:
    """The index of one candidate, with probability proportional to its mass."""
    # A cumulative sum as a product, since the reduction that `cumsum` compiles to is not known to every backend.
    ends = jnp.tri(len(masses)) @ masses
    return _first_true((masses > 0) & (ends > uniform * ends[-1]))


def _first_true(x: Bool[Array, "c b"]) -> Integer[Array, "b"]:
    """The index of the first true value, 0 if there is none: `argmax`, which takes several times as long on a CPU."""
    least = jnp.where(x, jnp.arange(len(x))[:, None], len(x)).min(axis=0)
    return jnp.where(least < len(x), least, 0)
