"""Images of 16 bits per sample, brought to 8 bits: the high byte of each."""

import io

import numpy as np
from jaxtyping import UInt16
from PIL import Image

from flax_punkvae.data.png import Png

# How the names of Pillow's modes of 16-bit grey begin. RGB and RGBA of 16 bits are reduced by Pillow as they are read.
MODE = "I;16"


def to_rgba(image: Image.Image, png: Png | None) -> Image.Image:
    """A loaded 16-bit image as RGBA; pixels of the transparent colour of its `png` have no alpha.

    That colour is compared in all 16 bits, since different colours may become one.
    """
    grey = image.mode.startswith(MODE)
    samples = np.asarray(image) if grey else _samples(image, png)
    levels = (samples >> 8).astype(np.uint8)
    rgba = Image.fromarray(levels).convert("RGBA")
    if png and png.transparent:
        key = np.array(png.transparent, np.uint16)
        differs = samples != key if grey else (samples != key).any(axis=-1)
        rgba.putalpha(Image.fromarray(np.where(differs, 255, 0).astype(np.uint8)))
    return rgba


def _samples(image: Image.Image, png: Png | None) -> UInt16[np.ndarray, "h w 3"]:
    """All 16 bits of an RGB image in PNG, of which Pillow keeps the high byte.

    It also reads 16-bit samples that begin with the low byte: read as such, the kept bytes are the low ones.
    """
    assert png
    png.stream.seek(0)
    with Image.open(io.BytesIO(png.stream.getvalue()), formats=("PNG",)) as again:
        again.tile = [(*tile[:3], "RGB;16L") for tile in again.tile]  # pyright: ignore[reportAttributeAccessIssue]
        low = np.asarray(again).astype(np.uint16)
    return np.asarray(image).astype(np.uint16) << 8 | low
