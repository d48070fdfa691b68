"""Fill in the unknown pixels of a sprite, with those that are known held."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Bool, Float, UInt8

from flax_punkvae.errors import UserError
from flax_punkvae.images import MODES

Sprites = UInt8[np.ndarray, "n h w c"]
Latents = Float[np.ndarray, "n d"]


def check(sprite: np.ndarray, known: np.ndarray, shape: tuple[int, int, int]) -> None:
    """Raise UserError if the sprite or the mask is not of the model's (height, width, channels), or no pixel or every
    pixel is known. The sprite may also have the other number of channels: RGB for RGBA, and the reverse."""
    height, width, channels = shape
    fits = sprite.ndim == 3 and sprite.shape[:2] == (height, width) and sprite.shape[2] in MODES
    if sprite.dtype != np.uint8 or not fits:
        got = f"{sprite.dtype} {list(sprite.shape)}"
        raise UserError(f"complete: expected a uint8 {MODES[channels]} sprite {list(shape)}, got {got}")
    if known.dtype != bool or known.shape != (height, width):
        got = f"{known.dtype} {list(known.shape)}"
        raise UserError(f"complete: expected known pixels as bool [{height}, {width}], got {got}")
    if known.all():
        raise UserError("complete: every pixel is known, so there is nothing to fill in: leave some out")
    if not known.any():
        raise UserError("complete: no pixel is known: sample new sprites instead")


def complete(
    encode: Callable[[Sprites], tuple[Latents, Latents]],
    decode: Callable[[Latents], Sprites],
    sprite: UInt8[np.ndarray, "h w c"],
    known: Bool[np.ndarray, "h w"],
    starts: Sprites,
    noise: Iterator[Latents],
) -> Sprites:
    """Encode, draw from the posterior and decode once for each noise [n d], then once more at the posterior mean.

    The unknown pixels begin as those of `starts`; after each decoding, the known ones are put back. `encode` gives
    (mean, logvar). Source: Rezende et al. 2014, "Stochastic Backpropagation and Approximate Inference in Deep
    Generative Models", on missing data: a Markov chain whose stationary distribution is about that of the unknown
    pixels given the known ones. Without the noise it would stay at the first sprite that decodes to itself.
    """

    def held(sprites: Sprites) -> Sprites:
        return np.where(known[..., None], sprite, sprites)

    sprites = held(starts)
    for draw in noise:
        mean, logvar = encode(sprites)
        sprites = held(decode(mean + np.exp(0.5 * logvar) * draw))
    return held(decode(encode(sprites)[0]))
