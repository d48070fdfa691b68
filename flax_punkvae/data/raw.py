"""Raw: what every source returns, before rendering."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae.errors import UserError


class Unavailable(UserError):
    """A source does not exist, so `auto` may try the next one; any other problem is a plain UserError."""


@dataclass(frozen=True)
class Raw:
    """Images of one size, RGB or RGBA, ordered by id; labels are 0 or 1, and a may be 0.

    Exact enlargements of sprites are stored as the sprites. `notes` and `files` are as in a Dataset. `shape` is (count,
    height, width, channels) of the images as read, if `pixels` holds fewer or smaller ones. Images of one number in
    `groups`, such as the frames of an animation, belong on one side of the split; None: each image is on its own.
    """

    pixels: UInt8[np.ndarray, "n h w c"]
    ids: Int[np.ndarray, "n"]
    labels: UInt8[np.ndarray, "n a"]
    label_names: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    shape: tuple[int, int, int, int] | None = None
    groups: Int[np.ndarray, "n"] | None = None

    @property
    def read_as(self) -> tuple[int, ...]:
        """(count, height, width, channels) of the images as read."""
        return self.shape or self.pixels.shape

    def first(self, limit: int | None) -> "Raw":
        """The first `limit` images, or all."""
        if limit is None:
            return self
        cut = slice(limit)
        return dataclasses.replace(
            self,
            pixels=self.pixels[cut],
            ids=self.ids[cut],
            labels=self.labels[cut],
            files=self.files[cut],
            groups=None if self.groups is None else self.groups[cut],
        )


def unlabelled(pixels: UInt8[np.ndarray, "n h w c"], ids: Int[np.ndarray, "n"], source: str, **other: Any) -> Raw:
    """A Raw without labels; `other` are further fields of Raw."""
    return Raw(pixels, ids, np.zeros((len(pixels), 0), np.uint8), (), source, **other)
