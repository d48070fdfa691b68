"""Sprites that were enlarged by a whole factor (nearest neighbour): find the factor and undo it."""

import math
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, UInt8, UInt32

# Sprites of fewer pixels across or down are hardly meant: such a factor is chance.
_LEAST_SIDE = 8


def codes(rgba: UInt8[np.ndarray, "*n 4"]) -> UInt32[np.ndarray, "*n"]:
    """One number for each colour; all transparent ones are 0."""
    found = np.ascontiguousarray(rgba).view(np.uint32)[..., 0]
    return np.where(rgba[..., 3] == 0, np.uint32(0), found)


def is_plain(rgba: UInt8[np.ndarray, "h w 4"]) -> bool:
    """Whether an image has a single colour, or is transparent everywhere."""
    found = codes(rgba)
    return bool((found == found[0, 0]).all())


def factor(images: UInt8[np.ndarray, "n h w 4"]) -> int:
    """The largest factor by which every one of these images was enlarged exactly; 1 if there is no such factor.

    Colours change at multiples of the factor only, so it is their greatest common divisor.
    """
    found = codes(images)
    across = (found[:, :, 1:] != found[:, :, :-1]).any((0, 1))
    down = (found[:, 1:] != found[:, :-1]).any((0, 2))
    return divisor(across, down)


def divisor(across: Bool[np.ndarray, "_"], down: Bool[np.ndarray, "_"]) -> int:
    """The greatest common divisor of the image's sides and of where its columns and rows change.

    `across` and `down` say which columns and rows, from the second on, differ from the ones before.
    """
    changes = [*(np.flatnonzero(across) + 1).tolist(), *(np.flatnonzero(down) + 1).tolist()]
    return math.gcd(len(across) + 1, len(down) + 1, *changes)


def common(stacks: Iterable[UInt8[np.ndarray, "n _ _ 4"]]) -> int:
    """The largest factor by which all images were enlarged exactly; 1 if there is no such factor.

    Reads no further than the first image that shows that there is no such factor. The largest sides stay at 8 or more.
    """
    found, height, width = 0, 0, 0
    for images in stacks:
        found = math.gcd(found, factor(images))
        height, width = max(height, images.shape[1]), max(width, images.shape[2])
        if found == 1:
            break
    return bounded(found, height, width)


def bounded(found: int, height: int, width: int) -> int:
    """The largest divisor of a factor that leaves sprites of at least 8x8; 1 if there is none."""
    return next((by for by in range(found, 1, -1) if found % by == 0 and min(height, width) >= by * _LEAST_SIDE), 1)


def undone(image: UInt8[np.ndarray, "h w 4"], by: int) -> UInt8[np.ndarray, "hs ws 4"]:
    """The sprite that was enlarged by this factor, copied, since a view would keep the large image in memory."""
    return image if by == 1 else image[::by, ::by].copy()


def note(by: int) -> tuple[str, ...]:
    """A line for the user if images were enlarged."""
    return (f"the images are enlarged {by} times (whole blocks of {by}x{by} pixels): undone",) if by > 1 else ()
