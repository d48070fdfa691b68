"""Compose the frames of animated PNG files.

Pillow composes them too, but where it blends a translucent pixel over what is there, the result is too transparent.
Source: Portable Network Graphics Specification (Third Edition), sections 11.3.6 and 12.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from flax_punkvae.data.decode import open_rgba
from flax_punkvae.data.png import SIGNATURE, Png
from flax_punkvae.errors import UserError

_TO_BACKGROUND, _TO_PREVIOUS = 1, 2
_OVER = 1


class _Control(NamedTuple):
    """The fields of an fcTL chunk: where a frame is, and what it does to what is there."""

    number: int
    width: int
    height: int
    left: int
    top: int
    numerator: int
    denominator: int
    dispose: int
    blend: int


def frames(png: Png, size: tuple[int, int]) -> Iterator[Image.Image]:
    """The frames of an animation on a canvas of this (width, height), in RGBA.

    Raises UserError for a damaged file.
    """
    canvas = Image.new("RGBA", size)
    for number, (control, content) in enumerate(_parts(png)):
        frame = open_rgba(io.BytesIO(content))
        place, end = (control.left, control.top), (control.left + control.width, control.top + control.height)
        if end[0] > size[0] or end[1] > size[1]:
            raise UserError("damaged: a frame is larger than the animation")
        before = canvas.copy()
        if control.blend == _OVER:
            canvas.alpha_composite(frame, place)
        else:
            canvas.paste(frame, place)
        yield canvas.copy()
        # Before the first frame there is only the background.
        if control.dispose == _TO_PREVIOUS and number:
            canvas = before
        elif control.dispose in (_TO_BACKGROUND, _TO_PREVIOUS):
            canvas.paste((0, 0, 0, 0), (*place, *end))


def _parts(png: Png) -> Iterator[tuple[_Control, bytes]]:
    """(control, a PNG file of the frame alone) of each frame."""
    header, shared, control, pixels = b"", b"", None, b""
    for kind, body in (*_chunks(png), (b"fcTL", b"")):
        if kind == b"IHDR":
            header = body
        elif kind in (b"PLTE", b"tRNS"):
            shared += _chunk(kind, body)
        elif kind == b"IDAT" and control:
            pixels += body
        elif kind == b"fdAT":
            pixels += body[4:]
        elif kind == b"fcTL":
            if control:
                size = struct.pack(">II", control.width, control.height)
                image = _chunk(b"IHDR", size + header[8:]) + shared + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")
                yield control, SIGNATURE + image
            control, pixels = (_Control(*struct.unpack(">IIIIIHHBB", body)) if body else None), b""


def _chunks(png: Png) -> Iterator[tuple[bytes, bytes]]:
    """(name, content) of each chunk. Raises UserError for one that is cut off or whose checksum is wrong."""
    content = png.stream.getvalue()
    start = len(SIGNATURE)
    while start + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, start)
        body = content[start + 8 : start + 8 + length]
        if content[start + 8 + length : start + 12 + length] != struct.pack(">I", zlib.crc32(kind + body)):
            raise UserError(f"damaged: chunk {kind!r} is not whole")
        yield kind, body
        start += length + 12


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
