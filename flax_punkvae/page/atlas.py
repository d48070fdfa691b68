"""The images of a set as an atlas: tiles in a few large pictures, which a canvas draws from."""

from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flax_punkvae import images

# Side of a page in pixels: what browsers on phones can still draw.
PAGE = 4096
# Larger images are shrunk to this side.
_LARGEST_TILE = 64


class Atlas(NamedTuple):
    """Tile i is on page i // per_page, where j = i % per_page is at row j // columns and column j % columns.

    width, height: of a tile in pixels. pages: PNG files.
    """

    width: int
    height: int
    columns: int
    per_page: int
    pages: list[bytes]


def make(pictures: UInt8[np.ndarray, "n h w c"]) -> Atlas:
    """The atlas of these images."""
    tiles = pictures if max(pictures.shape[1:3]) <= _LARGEST_TILE else _shrunk(pictures)
    count, height, width, _ = tiles.shape
    columns, rows = PAGE // width, PAGE // height
    pages = [_page(tiles[start : start + rows * columns], columns) for start in range(0, count, rows * columns)]
    return Atlas(width, height, columns, rows * columns, pages)


def _page(tiles: UInt8[np.ndarray, "n h w c"], columns: int) -> bytes:
    count, height, width, channels = tiles.shape
    columns = min(columns, count) if count < columns else columns
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, height, width, channels), np.uint8)
    cells[:count] = tiles
    sheet = cells.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    return images.to_png(sheet.reshape(rows * height, columns * width, channels))


def _shrunk(pictures: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n hs ws c"]:
    _, height, width, _ = pictures.shape
    scale = _LARGEST_TILE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    return np.stack([np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BOX)) for image in pictures])
