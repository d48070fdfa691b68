"""What every source gives, before rendering."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae.errors import UserError


class Unavailable(UserError):
    """A source that is not there at all, so that `auto` may try the next; anything else wrong with it is an error."""


@dataclass(frozen=True)
class Raw:
    """Images of one size, RGB or RGBA, ordered by id; labels are 0 or 1, and may be none.

    Exact enlargements of sprites come as the sprites.
    """

    pixels: UInt8[np.ndarray, "n h w c"]
    ids: Int[np.ndarray, "n"]
    labels: UInt8[np.ndarray, "n a"]
    label_names: tuple[str, ...]
    source: str

    def first(self, limit: int | None) -> "Raw":
        """The first `limit` images, or all."""
        if limit is None:
            return self
        cut = slice(limit)
        return Raw(self.pixels[cut], self.ids[cut], self.labels[cut], self.label_names, self.source)


def unlabelled(pixels: UInt8[np.ndarray, "n h w c"], ids: Int[np.ndarray, "n"], source: str) -> Raw:
    """Images that come without labels."""
    return Raw(pixels, ids, np.zeros((len(pixels), 0), np.uint8), (), source)
