"""Animations byte by byte: files whose frames store only what changes, to be put on top of what is under it."""

import struct
import zlib
from typing import NamedTuple

import numpy as np

from helpers.sources import assembled


class Frame(NamedTuple):
    """A part of the canvas at (left, top). dispose and blend are the format's own numbers."""

    pixels: np.ndarray
    left: int
    top: int
    dispose: int = 0
    blend: int = 0


def apng(frames: list[Frame], still: np.ndarray | None = None) -> bytes:
    """A PNG of RGBA frames, the first of which is the whole canvas; `still` is a picture that is not part of it.

    Source: PNG (Third Edition), sections 11.3.6 (acTL, fcTL, fdAT) and 12.
    """
    height, width = frames[0].pixels.shape[:2]
    content = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))]
    content.append((b"acTL", struct.pack(">II", len(frames), 0)))
    if still is not None:
        content.append((b"IDAT", _packed(still)))
    number = 0
    for place, frame in enumerate(frames):
        size = (frame.pixels.shape[1], frame.pixels.shape[0], frame.left, frame.top)
        control = struct.pack(">IIIIIHHBB", number, *size, 1, 10, frame.dispose, frame.blend)
        content.append((b"fcTL", control))
        number += 1
        if place == 0 and still is None:
            content.append((b"IDAT", _packed(frame.pixels)))
        else:
            content.append((b"fdAT", struct.pack(">I", number) + _packed(frame.pixels)))
            number += 1
    return assembled(*content)


def gif(frames: list[Frame], palette: np.ndarray, size: tuple[int, int], transparent: int) -> bytes:
    """A GIF of frames of indices into a palette [128 3], on a canvas of (width, height). Source: GIF89a."""
    content = b"GIF89a" + struct.pack("<HHBBB", *size, 0xF6, transparent, 0) + palette.astype(np.uint8).tobytes()
    for frame in frames:
        content += b"\x21\xf9\x04" + struct.pack("<BHBB", frame.dispose << 2 | 1, 10, transparent, 0)
        height, width = frame.pixels.shape
        content += b"\x2c" + struct.pack("<HHHHB", frame.left, frame.top, width, height, 0)
        content += b"\x07"
        # Codes stay at 8 bits, one byte each, if the table is cleared (128) before it is full; 129 ends the data.
        codes = b"".join(
            b"\x80" + part.tobytes() for part in np.split(frame.pixels.ravel(), range(90, height * width, 90))
        )
        codes += b"\x81"
        for start in range(0, len(codes), 255):
            part = codes[start : start + 255]
            content += bytes([len(part)]) + part
        content += b"\0"
    return content + b"\x3b"


def _packed(pixels: np.ndarray) -> bytes:
    return zlib.compress(b"".join(b"\0" + row.tobytes() for row in pixels))
