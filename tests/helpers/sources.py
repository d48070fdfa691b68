"""Images as sources on disk: sheets and folders, and the line that refuses one."""

import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flax_punkvae.errors import UserError

_COLOURS = np.random.default_rng(0).integers(1, 256, (5, 4), np.uint8) | np.array([0, 0, 0, 255], np.uint8)


def opaque(count: int, side: int) -> np.ndarray:
    """Sprites of few colours, without a transparent pixel."""
    return _COLOURS[np.random.default_rng(count).integers(0, len(_COLOURS), (count, side, side))]


def tiled(sprites: np.ndarray, columns: int, margin: int = 0, spacing: int = 0) -> np.ndarray:
    """Sprites in reading order, on a sheet that is transparent between and around them and after the last."""
    count, height, width, channels = sprites.shape
    rows = -(-count // columns)
    size = (rows * (height + spacing) - spacing + 2 * margin, columns * (width + spacing) - spacing + 2 * margin)
    sheet = np.zeros((*size, channels), np.uint8)
    for place, sprite in enumerate(sprites):
        top, left = margin + place // columns * (height + spacing), margin + place % columns * (width + spacing)
        sheet[top : top + height, left : left + width] = sprite
    return sheet


def write(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels).save(path)
    return path


def write_folder(folder: Path, images: dict[str, np.ndarray]) -> Path:
    folder.mkdir()
    for name, pixels in images.items():
        write(folder / name, pixels)
    return folder


def refusal(load: Callable, *arguments: object) -> str:
    """The one line that the call is refused with."""
    with pytest.raises(UserError) as error:
        load(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def png(depth: int, kind: int, rows: Sequence[bytes], *chunks: tuple[bytes, bytes], late: bool = False) -> bytes:
    """A PNG file 8 pixels wide, of packed rows, with other chunks before its pixels, or after them where `late`."""
    header = struct.pack(">IIBBBBB", 8, len(rows), depth, kind, 0, 0, 0)
    pixels = (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows)))
    body = (pixels, *chunks) if late else (*chunks, pixels)
    return assembled((b"IHDR", header), *body)


def png16(pixels: np.ndarray) -> bytes:
    """A PNG file of RGBA pixels of 8 bits, stored in 16."""
    height, width = pixels.shape[:2]
    header = struct.pack(">IIBBBBB", width, height, 16, 6, 0, 0, 0)
    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in pixels)
    return assembled((b"IHDR", header), (b"IDAT", zlib.compress(rows)))


def assembled(*named: tuple[bytes, bytes]) -> bytes:
    """A PNG file of these chunks (name, content), and its end."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in (*named, (b"IEND", b""))
    )
