"""Images that are rendered when they are asked for: a sprite takes 2 kB, its rendering 49 kB."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, UInt

from flax_punkvae import images as im

# Number of images rendered at once where all are needed one after the other.
_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class LazyImages:
    """The images of a Dataset, indexed like an array [n h w c]; `pixels` are what is held of them.

    render: `reference` or `crisp` if these are sprites, which indexing renders; otherwise they are the images.
    """

    pixels: UInt[np.ndarray, "n hs ws c"]
    render: im.Render = "sprite"

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(count, height, width, channels)."""
        count, height, width, channels = self.pixels.shape
        if im.enlarges(self.render):
            height = width = im.IMAGE_SIZE
        return count, height, width, channels

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of a pixel."""
        return self.pixels.dtype

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, where: Any) -> UInt[np.ndarray, "..."]:
        """The images there, or an image if `where` is one position."""
        found = self.pixels[where]
        if not im.enlarges(self.render):
            return found
        return im.render(found, self.render) if found.ndim == 4 else im.render(found[None], self.render)[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype)

    def at(self, positions: Int[np.ndarray, "m"]) -> "LazyImages":
        """The images at these positions, not yet rendered."""
        return LazyImages(self.pixels[positions], self.render)

    def sha256(self) -> str:
        """SHA-256 of the bytes of all images, rendered."""
        digest = hashlib.sha256()
        for start in range(0, len(self), _AT_ONCE):
            digest.update(np.ascontiguousarray(self[start : start + _AT_ONCE]).data)
        return digest.hexdigest()
