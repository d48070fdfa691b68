"""Filter the chunks of a PNG file: keep those that affect the pixels, drop the rest (text, colour profiles).

Source: Portable Network Graphics Specification (Third Edition), sections 5 and 11.
"""

import io
import struct
import zlib
from dataclasses import dataclass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
# Kept besides critical chunks and transparency: orientation and the chunks of an animation.
_KEPT = (b"eXIf", b"acTL", b"fcTL", b"fdAT")
# Text may contain an orientation. A file may hold megabytes of other text, which Pillow refuses to read.
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTING = (b"Raw profile type exif", b"XML:com.adobe.xmp")
_LARGEST_TEXT = 2**20
_BLOCK = 2**20


@dataclass(frozen=True)
class Png:
    """The filtered file, its bits per sample, and its transparent colour as 8-bit levels.

    The colour is empty if there is none, or if pixels are indices: then the palette holds the transparency. Of an image
    of 16 bits it has 16 bits.
    """

    stream: io.BytesIO
    depth: int
    transparent: tuple[int, ...]


def read_png(source: io.BytesIO | io.BufferedReader) -> Png | None:
    """Read a PNG file; if `source` is something else, rewind it and return None."""
    if source.read(len(SIGNATURE)) != SIGNATURE:
        source.seek(0)
        return None
    stream = io.BytesIO()
    stream.write(SIGNATURE)
    found: dict[bytes, bytes] = {}
    while len(head := source.read(8)) == 8 and b"IEND" not in found:
        length, kind = struct.unpack(">I4s", head)
        if not _wanted(kind, length, found):
            source.seek(length + 4, io.SEEK_CUR)
            continue
        start = stream.tell()
        stream.write(head)
        _copy(source, stream, length + 4)
        body = bytes(stream.getbuffer()[start + 8 : start + 8 + min(length, _LARGEST_TEXT)])
        name = body.partition(b"\0")[0] if kind in _TEXT else kind
        # Keep only the first text of each name, which bounds their total size.
        if kind in _TEXT and (name in found or not _orients(kind, body)):
            stream.seek(start)
            stream.truncate()
        found.setdefault(name, body)
    stream.seek(0)
    header = found.get(b"IHDR", b"").ljust(13, b"\0")
    return Png(stream, header[8], _levels(found.get(b"tRNS", b""), header[8], header[9]))


def _wanted(kind: bytes, length: int, found: dict[bytes, bytes]) -> bool:
    """Whether this chunk affects the pixels, how they are displayed or the kind of image."""
    if kind in _TEXT:
        return length <= _LARGEST_TEXT
    if kind == b"tRNS":
        # Only the first one counts, and only before the pixels.
        return not {b"IDAT", b"tRNS"} & found.keys()
    # The name of a critical chunk starts with a capital letter.
    return kind in _KEPT or not kind[0] & 32


def _copy(source: io.BytesIO | io.BufferedReader, stream: io.BytesIO, length: int) -> None:
    # In blocks, since a damaged length may claim gigabytes.
    while length and (block := source.read(min(length, _BLOCK))):
        stream.write(block)
        length -= len(block)


def _levels(transparency: bytes, depth: int, colour: int) -> tuple[int, ...]:
    """The samples of a tRNS chunk as levels 0..255; 16-bit samples as they are."""
    if colour not in (_GREY, _RGB) or not transparency or depth not in (1, 2, 4, 8, 16):
        return ()
    count = 3 if colour == _RGB else 1
    # If the chunk is shorter, Pillow rejects the file before this is used.
    samples = struct.unpack(f">{count}H", transparency[: 2 * count].ljust(2 * count, b"\0"))
    if depth == 16:
        return samples
    most = 2**depth - 1
    # The specification requires masking bits beyond the depth.
    return tuple((sample & most) * 255 // most for sample in samples)


def _orients(kind: bytes, body: bytes) -> bool:
    """Whether a text chunk can contain an orientation and, once inflated, is small enough to read."""
    name, _, rest = body.partition(b"\0")
    if name not in _ORIENTING:
        return False
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt" and rest[:1] == b"\1":
        rest = rest[2:].split(b"\0", 2)[-1]
    else:
        return True
    try:
        return len(zlib.decompressobj().decompress(rest, _LARGEST_TEXT)) < _LARGEST_TEXT
    except zlib.error:
        return False
