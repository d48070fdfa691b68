"""A PNG file's chunks: what its pixels need is handed on, the rest (text, colour profiles) is left out.

Source: Portable Network Graphics Specification (Third Edition), sections 5 and 11.
"""

import io
import struct
import zlib
from dataclasses import dataclass

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
# Beside the critical chunks and transparency: orientation, and what makes an image an animated one.
_KEPT = (b"eXIf", b"acTL", b"fcTL", b"fdAT")
# Text that can hold an orientation; a file may hold megabytes of other text, which Pillow refuses to read.
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_ORIENTING = (b"Raw profile type exif", b"XML:com.adobe.xmp")
_LARGEST_TEXT = 2**20
_BLOCK = 2**20


@dataclass(frozen=True)
class Png:
    """The file without what pixels do not need, its bits per sample, and its one transparent colour as 8-bit levels.

    The colour is empty where there is none, and where pixels are indices, whose transparency belongs to the palette.
    """

    stream: io.BytesIO
    depth: int
    transparent: tuple[int, ...]


def read_png(source: io.BytesIO | io.BufferedReader) -> Png | None:
    """The PNG file in `source`, or None, with `source` back at its start, where it is something else."""
    if source.read(len(_SIGNATURE)) != _SIGNATURE:
        source.seek(0)
        return None
    stream = io.BytesIO()
    stream.write(_SIGNATURE)
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
        # Of equal texts the first is enough, and keeps their sum small.
        if kind in _TEXT and (name in found or not _orients(kind, body)):
            stream.seek(start)
            stream.truncate()
        found.setdefault(name, body)
    stream.seek(0)
    header = found.get(b"IHDR", b"").ljust(13, b"\0")
    return Png(stream, header[8], _levels(found.get(b"tRNS", b""), header[8], header[9]))


def _wanted(kind: bytes, length: int, found: dict[bytes, bytes]) -> bool:
    """Whether the pixels, how they are shown or what kind of image it is depend on this chunk."""
    if kind in _TEXT:
        return length <= _LARGEST_TEXT
    if kind == b"tRNS":
        # It comes once, before the pixels, or does not count.
        return not {b"IDAT", b"tRNS"} & found.keys()
    # The first letter of a critical chunk is a capital.
    return kind in _KEPT or not kind[0] & 32


def _copy(source: io.BytesIO | io.BufferedReader, stream: io.BytesIO, length: int) -> None:
    # In blocks: a damaged length asks for gigabytes.
    while length and (block := source.read(min(length, _BLOCK))):
        stream.write(block)
        length -= len(block)


def _levels(transparency: bytes, depth: int, colour: int) -> tuple[int, ...]:
    """The samples of a tRNS chunk as levels 0..255; of more than 8 bits the high ones."""
    if colour not in (_GREY, _RGB) or not transparency or depth not in (1, 2, 4, 8, 16):
        return ()
    count = 3 if colour == _RGB else 1
    # Shorter ones make Pillow refuse the file, before this is used.
    samples = struct.unpack(f">{count}H", transparency[: 2 * count].ljust(2 * count, b"\0"))
    if depth == 16:
        return tuple(sample >> 8 for sample in samples)
    most = 2**depth - 1
    # Bits beyond the depth are to be masked.
    return tuple((sample & most) * 255 // most for sample in samples)


def _orients(kind: bytes, body: bytes) -> bool:
    """Whether a text chunk can hold an orientation, and is small enough, inflated, to be read."""
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
