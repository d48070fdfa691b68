"""Augmentation: random shifts and flips of the training images, for sets that are too small without them."""

import zlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, Shaped

# A stream of its own: the step's key is split for dropout and latent noise.
_PURPOSE = zlib.crc32(b"augmentation")


class Augmentation(NamedTuple):
    """What is done to each training image of the first `steps` steps.

    shift: it is moved by a whole number of pixels from -shift to shift, both in x and in y. flip: it is mirrored left
    to right with probability 1/2.
    """

    shift: int = 0
    flip: bool = False
    steps: int = 0


def augment(
    images: Shaped[Array, "b h w c"], augmentation: Augmentation, step: Int[Array, ""], key: Key[Array, ""]
) -> Shaped[Array, "b h w c"]:
    """Augment the images of a step; image i by its own key, so whatever the other images of the batch are."""
    if not (augmentation.steps and (augmentation.shift or augmentation.flip)):
        return images
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(key, _PURPOSE), jnp.arange(len(images)))
    shifts, flips = jax.vmap(lambda key: _draw(augmentation, key))(keys)
    active = step < augmentation.steps
    return moved(images, jnp.where(active, shifts, 0), flips & active)


def _draw(augmentation: Augmentation, key: Key[Array, ""]) -> tuple[Int[Array, "2"], Bool[Array, ""]]:
    key_shift, key_flip = jax.random.split(key)
    shift = jax.random.randint(key_shift, (2,), -augmentation.shift, augmentation.shift + 1)
    return shift, jax.random.bernoulli(key_flip) if augmentation.flip else jnp.zeros((), bool)


def moved(
    images: Shaped[Array, "b h w c"], shifts: Int[Array, "b 2"], flips: Bool[Array, "b"]
) -> Shaped[Array, "b h w c"]:
    """Each image mirrored left to right if its flip is true, then moved down and right by its shift (y, x).

    What is uncovered repeats the pixels at the edge. Not filled with the background: sprites often continue beyond an
    edge, as necks do at the bottom, and palettes need not hold the background colour. Where an edge is background or
    transparent, the two are the same.
    """
    count, height, width, _ = images.shape
    rows = jnp.clip(jnp.arange(height) - shifts[:, :1], 0, height - 1)
    columns = jnp.clip(jnp.arange(width) - shifts[:, 1:], 0, width - 1)
    columns = jnp.where(flips[:, None], width - 1 - columns, columns)
    return images[jnp.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]
