"""The distribution over the palette at each position of a sprite: a softmax over the colours seen there in training.

A position shows few of a palette's colours: on the punks 8 of 220 on average, and 166 of 576 positions show one alone.
So the softmax runs over those, and only at positions that show more than one, the open ones. All other colours share
a small probability, so that this is a distribution over the whole palette.

Here an axis `o` is the open positions, in reading order, and comes before the batch axis `b`.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Float32, Int, Int32, Integer, Shaped, UInt

# The logarithm of a weight of 0, without infinities in the gradient.
NEVER = -1e9
# The count that every colour has before any is seen.
_PRIOR_COUNT = 0.1
# The most logits that are held in memory at once, 128 MB.
_MOST_LOGITS = 2**25


@dataclass(frozen=True, eq=False)
class Support:
    """The colours that each position showed in training, and the probability of all others together.

    colours: size p of the palette. lists [h w m]: the colours of each position, ascending, filled up with p. other
    [h w]: the probability that the next sprite shows a colour not seen before at this position; Good-Turing's estimate,
    the number of colours seen once over the number of sprites, each with a little added.

    Two are equal if their contents are: it is a static argument of compiled functions.
    """

    colours: int
    lists: Int32[np.ndarray, "h w m"] = field(repr=False)
    other: Float32[np.ndarray, "h w"] = field(repr=False)

    @classmethod
    def of(cls, indices: UInt[np.ndarray, "n h w 1"], colours: int, shift: int = 0, flip: bool = False) -> "Support":
        """The support of training sprites, also when they are moved by up to `shift` pixels or mirrored."""
        count, height, width, _ = indices.shape
        counts = [np.bincount(column, minlength=colours) for column in indices.reshape(count, -1).T]
        other = (np.array([(found == 1).sum() for found in counts]) + _PRIOR_COUNT) / (count + 1)
        seen = [np.flatnonzero(found) for found in counts]
        if shift or flip:
            sources = _sources(height, width, shift, flip)
            seen = [np.unique(np.concatenate([seen[source] for source in places])) for places in sources]
        # At least two columns, so that the open positions are those with a second colour.
        lists = np.full((len(seen), max(2, *map(len, seen))), colours, np.int32)
        for row, found in zip(lists, seen, strict=True):
            row[: len(found)] = found
        return cls(colours, lists.reshape(height, width, -1), other.reshape(height, width).astype(np.float32))

    @cached_property
    def open(self) -> Int[np.ndarray, "o"]:
        """The positions, row * w + column, that show more than one colour; position 0 if none does."""
        several = np.flatnonzero(self.lists[..., 1].ravel() < self.colours)
        return several if len(several) else np.zeros(1, int)

    @cached_property
    def open_lists(self) -> Int32[np.ndarray, "o m"]:
        """The lists of the open positions."""
        return self.lists.reshape(-1, self.lists.shape[-1])[self.open]

    @cached_property
    def groups(self) -> list[tuple[Int[np.ndarray, "g"], int]]:
        """The open positions, as indices of `open`, in groups of similar numbers of colours, with the largest number.

        Most positions show few colours. Padded to the longest list of all, three quarters of the logits would be
        computed for nothing.
        """
        lengths = np.maximum((self.open_lists < self.colours).sum(axis=1), 1)
        steps = np.ceil(np.log(lengths) / np.log(4)).astype(int)
        rows = [np.flatnonzero(steps == step) for step in np.unique(steps)]
        return [(found, int(lengths[found].max())) for found in rows]

    def at_open(self, values: Shaped[Array, "h w *rest"]) -> Shaped[Array, "o *rest"]:
        """The values at the open positions."""
        return values.reshape(-1, *values.shape[2:])[self.open]

    def negative_log_likelihood(
        self, log_probabilities: Float[Array, "o b"], images: Integer[Array, "#b h w 1"]
    ) -> Float[Array, "b"]:
        """-log p(image), in nats, given log q(its colour) at each open position.

        A colour has (1 - other) q(colour) + other / colours: q is over the listed ones, and one alone has all of it.
        """
        pixels = images.reshape(len(images), -1).T.astype(jnp.int32)
        seen, other = jnp.log1p(-self.other.ravel()), jnp.log(self.other.ravel() / self.colours)
        at_open = jnp.logaddexp(seen[self.open, None] + log_probabilities, other[self.open, None])
        closed = np.setdiff1d(np.arange(len(seen)), self.open)
        only = self.lists[..., 0].ravel()[closed]
        right = jnp.logaddexp(seen[closed], other[closed])
        at_closed = jnp.where(pixels[closed] == only[:, None], right[:, None], other[closed, None])
        return -jnp.sum(at_open, axis=0) - jnp.sum(at_closed, axis=0)

    def image(self, chosen: Integer[Array, "o b"]) -> Integer[Array, "b h w 1"]:
        """The sprites with these colours at the open positions; elsewhere, the one colour seen there."""
        height, width, _ = self.lists.shape
        only = self.lists[..., 0].reshape(-1, 1)
        every = jnp.concatenate([chosen, jnp.broadcast_to(only, (len(only), chosen.shape[1]))])
        places = len(self.open) + np.arange(len(only))
        places[self.open] = np.arange(len(self.open))
        # As int32 if a byte is too small, since some backends have no 16-bit integers.
        every = every.astype(jnp.uint8 if self.colours <= 256 else jnp.int32)
        return every[places].T.reshape(-1, height, width, 1)

    @cached_property
    def _digest(self) -> bytes:
        content = (self.lists.shape, self.colours, self.lists.tobytes(), self.other.tobytes())
        return hashlib.sha256(repr(content).encode()).digest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Support) and self._digest == other._digest

    def __hash__(self) -> int:
        return hash(self._digest)


def _sources(height: int, width: int, shift: int, flip: bool) -> Int[np.ndarray, "q s"]:
    """The positions whose colour may come to each position when a sprite is moved and mirrored (`augmentation`)."""
    places = np.arange(height * width).reshape(height, width)
    moves = np.arange(-shift, shift + 1)
    rows = np.clip(np.arange(height)[:, None] - moves, 0, height - 1)
    columns = np.clip(np.arange(width)[:, None] - moves, 0, width - 1)
    found = places[rows[:, None, :, None], columns[None, :, None, :]].reshape(height * width, -1)
    mirrored = found // width * width + (width - 1 - found % width)
    return np.concatenate([found, mirrored], axis=1) if flip else found


def log_frequencies(indices: UInt[np.ndarray, "n h w 1"], colours: int) -> Float[np.ndarray, "h w p"]:
    """log((count + 0.1) / (n + 0.1 p)) of each colour at each position, so that no colour has probability 0."""
    n, height, width, _ = indices.shape
    found = np.empty((height * width, colours), np.float32)
    # In float64, but one position at a time, since there may be many colours.
    for position, column in enumerate(indices.reshape(n, -1).T):
        counts = np.bincount(column, minlength=colours)
        found[position] = np.log((counts + _PRIOR_COUNT) / (n + _PRIOR_COUNT * colours))
    return found.reshape(height, width, colours)


def listed(support: Support, values: Float[np.ndarray, "h w p"]) -> Float[np.ndarray, "o m"]:
    """The values of the listed colours at the open positions; 0 where a list has ended."""
    flat = values.reshape(-1, support.colours)[support.open]
    found = np.take_along_axis(flat, np.minimum(support.open_lists, support.colours - 1), axis=1)
    return np.where(support.open_lists < support.colours, found, 0)


class Palette(nn.Module):
    """Map each pixel's features to a distribution over the colours seen at its position.

    The logits are a product with each colour's embedding, plus a bias per position and colour;
    `training.state.create_state` sets the biases to the log frequencies.
    """

    support: Support
    features: int

    def setup(self) -> None:
        lists = self.support.open_lists
        self.kernel = self.param("kernel", nn.initializers.normal(0.5), (self.support.colours, self.features))
        self.bias = self.param("bias", nn.initializers.zeros, lists.shape)

    def parameters(self) -> tuple[Float[Array, "o m e"], Float[Array, "o m"]]:
        """(kernel, bias) of each position's logits; where a list has ended, the logit is practically -infinity."""
        lists = self.support.open_lists
        ended = lists == self.support.colours
        return self.kernel[np.where(ended, 0, lists)], jnp.where(ended, NEVER, self.bias)

    def log_probabilities(self, x: Float[Array, "o b e"], colours: Integer[Array, "o b"]) -> Float[Array, "o b"]:
        """log q(colour); practically -infinity for a colour that was not seen at its position."""
        kernel, bias = self.parameters()

        def chosen(x: Array, colours: Array) -> Array:
            parts = []
            for rows, length in self.support.groups:
                lists = self.support.open_lists[rows, :length, None]
                logits = _logits(x[rows], kernel[rows, :length], bias[rows, :length])
                # The largest logit is subtracted first: at 1e8, float32 cannot resolve log 3.
                shifted = logits - jax.lax.stop_gradient(logits.max(axis=1, keepdims=True))
                hits = lists == colours[rows].astype(jnp.int32)[:, None]
                found = jnp.where(hits.any(axis=1), jnp.where(hits, shifted, 0.0).sum(axis=1), NEVER)
                parts.append(found - nn.logsumexp(shifted, axis=1))
            return jnp.concatenate(parts)[np.argsort(np.concatenate([rows for rows, _ in self.support.groups]))]

        return self._by_image(chosen, x, colours)

    def most_probable(self, x: Float[Array, "o b e"]) -> Integer[Array, "o b"]:
        """The colour with the largest logit at each open position."""
        lists, (kernel, bias) = jnp.asarray(self.support.open_lists)[..., None], self.parameters()

        def best(x: Array) -> Array:
            places = _logits(x, kernel, bias).argmax(axis=1, keepdims=True)
            return jnp.take_along_axis(lists, places, axis=1)[:, 0]

        return self._by_image(best, x)

    def _by_image(self, function: Callable[..., Array], *values: Array) -> Array:
        """The function of arrays [o b ...]; one image at a time, and again in the gradient, if its logits are many."""
        if self.support.open_lists.size * values[0].shape[1] <= _MOST_LOGITS:
            return function(*values)
        one = jax.checkpoint(lambda parts: function(*(part[:, None] for part in parts))[:, 0])
        return jax.lax.map(one, [value.swapaxes(0, 1) for value in values]).swapaxes(0, 1)


def _logits(
    x: Float[Array, "o b e"], kernel: Float[Array, "o m e"], bias: Float[Array, "o m"]
) -> Float[Array, "o m b"]:
    return jnp.einsum("ome,obe->omb", kernel, x) + bias[..., None]
