"""The nearest of many sprites: those that differ in the fewest pixels."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Int32, UInt, UInt8

from flax_punkvae import images

# Pixels of references, sprites, and positions of them, that are compared at a time.
_PIXELS = 2**23
_SPRITES = 64
_UNROLLED = 8
# For fewer sprites than this, to transpose the references takes longer than to compare them.
_FEW = 8


def nearest_sprites(
    sprites: UInt8[np.ndarray, "n h w c"], references: UInt8[np.ndarray, "m h w c"]
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """(position of the reference with the fewest differing pixels, their number) for each sprite; ties take the first.

    A pixel differs if any of its channels does.
    """
    pixels = sprites[0, ..., 0].size if len(sprites) else 1
    nearest, fewest = np.zeros(len(sprites), np.int64), np.full(len(sprites), pixels + 1)
    at_once = max(_PIXELS // pixels, 1)
    for start in range(0, len(references), at_once):
        theirs = _numbers(references[start : start + at_once]).reshape(-1, pixels)
        first = 0
        for differing in _counts(_numbers(sprites).reshape(-1, pixels), theirs):
            rows = slice(first, first := first + len(differing))
            better = differing.min(axis=1) < fewest[rows]
            nearest[rows] = np.where(better, start + differing.argmin(axis=1), nearest[rows])
            fewest[rows] = np.where(better, differing.min(axis=1), fewest[rows])
    return nearest, fewest


def _numbers(sprites: UInt8[np.ndarray, "n h w c"]) -> UInt[np.ndarray, "n h w"]:
    # A channel alone stays a byte, of which four times as many are compared at a time.
    return sprites[..., 0] if sprites.shape[-1] == 1 else images.packed(sprites)


def _counts(ours: UInt[np.ndarray, "n p"], theirs: UInt[np.ndarray, "m p"]) -> Iterator[Int[np.ndarray, "r m"]]:
    """The number of positions at which each of ours differs from each of theirs, some of ours at a time."""
    if len(ours) < _FEW:
        for one in ours:
            yield np.count_nonzero(theirs != one, axis=1)[None]
        return
    # Padded with positions that are the same in all, and to one number of ours, which compiles once.
    end = (0, -theirs.shape[1] % _UNROLLED)
    transposed = jnp.asarray(np.pad(theirs.T, (end, (0, 0))))
    for start in range(0, len(ours), _SPRITES):
        part = ours[start : start + _SPRITES]
        padded = np.pad(part, ((0, _SPRITES - len(part)), end))
        yield np.asarray(_differing(padded, transposed))[: len(part)]


@jax.jit
def _differing(ours: UInt[Array, "n p"], theirs: UInt[Array, "p m"]) -> Int32[Array, "n m"]:
    """The number of positions at which each of ours differs from each of theirs."""

    def add(group: Array, total: Array) -> Array:
        # A few positions at a time, of all references: one loop over contiguous memory, which the compiler vectorises.
        count = jnp.zeros(total.shape, jnp.uint8)
        for number in range(_UNROLLED):
            position = group * _UNROLLED + number
            count += (ours[:, position, None] != theirs[position]).astype(jnp.uint8)
        return total + count.astype(jnp.int32)

    zero = jnp.zeros((len(ours), theirs.shape[1]), jnp.int32)
    return jax.lax.fori_loop(0, len(theirs) // _UNROLLED, add, zero)
