"""What a sheet shows of its own grid: lines of one colour, and where drawings continue across a line."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt32
from PIL import Image

from flax_punkvae.data import scaling

# Number of pixel rows examined at once, and of pixels whose colours are counted.
_BAND, _COUNTED = 64, 2**18
# Neighbouring pixels whose channels differ by at most this much belong together.
_ALIKE = 16


@dataclass(frozen=True)
class Axis:
    """What the columns of a sheet, or its rows, show.

    joined: for each, the fraction of its pixels that are drawn and continue the pixel before. changed: whether it
    differs from the one before. plain: whether it has one colour. lined: whether that is another colour than the
    background's.
    """

    joined: Float[np.ndarray, "length"]
    changed: Bool[np.ndarray, "length"]
    plain: Bool[np.ndarray, "length"]
    lined: Bool[np.ndarray, "length"]

    def reduced(self, by: int) -> "Axis":
        """That of a sheet before it was enlarged by this factor."""
        return Axis(self.joined[::by], self.changed[::by], self.plain[::by], self.lined[::by])


def measure(sheet: Image.Image) -> tuple[Axis, Axis]:
    """What the columns and the rows of an RGBA sheet show. Reads it in bands, to bound memory."""
    background = _background(sheet)
    width, height = sheet.size
    changed = np.zeros(width, bool), np.zeros(height, bool)
    plain = np.ones(width, bool), np.ones(height, bool)
    colours = np.zeros(width, np.uint32), np.zeros(height, np.uint32)
    for rows, band, above in _bands(sheet):
        code, before = scaling.codes(band), scaling.codes(above)
        changed[0][1:] |= (code[:, 1:] != code[:, :-1]).any(0)
        changed[1][rows] = (code != before).any(1)
        if rows.start == 0:
            colours[0][:] = code[0]
        plain[0][:] &= (code == colours[0]).all(0)
        plain[1][rows] = (code == code[:, :1]).all(1)
        colours[1][rows] = code[:, 0]
    lines = [of[is_plain] for of, is_plain in zip(colours, plain, strict=True)]
    blank = np.unique(np.concatenate([np.array([background], np.uint32), *lines]))
    joined = _joined(sheet, blank)
    lined = [is_plain & (of != background) for of, is_plain in zip(colours, plain, strict=True)]
    columns, rows = (Axis(*of) for of in zip(joined, changed, plain, lined, strict=True))
    return columns, rows


def _joined(
    sheet: Image.Image, blank: UInt32[np.ndarray, "_"]
) -> tuple[Float[np.ndarray, "width"], Float[np.ndarray, "height"]]:
    """`Axis.joined` of columns and rows; pixels of the `blank` colours are not drawn."""
    across, down = np.zeros(sheet.width), np.zeros(sheet.height)
    for rows, band, above in _bands(sheet):
        drawn = ~np.isin(scaling.codes(band), blank)
        across[1:] += (drawn[:, 1:] & _alike(band[:, :-1], band[:, 1:])).sum(0)
        down[rows] = (drawn & _alike(above, band)).mean(1)
    down[0] = 0
    return across / sheet.height, down


def _bands(sheet: Image.Image) -> Iterator[tuple[slice, UInt8[np.ndarray, "h w 4"], UInt8[np.ndarray, "h w 4"]]]:
    """(which rows, they, the rows above them); above the first is itself."""
    for top in range(0, sheet.height, _BAND):
        bottom = min(top + _BAND, sheet.height)
        pixels = np.asarray(sheet.crop((0, max(top - 1, 0), sheet.width, bottom)))
        yield slice(top, bottom), pixels[-(bottom - top) :], pixels[:-1] if top else pixels[[0, *range(bottom - 1)]]


def _alike(one: UInt8[np.ndarray, "h w 4"], other: UInt8[np.ndarray, "h w 4"]) -> Bool[np.ndarray, "h w"]:
    return np.all(np.abs(one.astype(np.int16) - other) <= _ALIKE, axis=-1)


def _background(sheet: Image.Image) -> int:
    """The code of the colour between sprites: transparent, if any pixel is, else the most common colour."""
    step = max(1, sheet.height * sheet.width // _COUNTED)
    pixels = np.asarray(sheet.resize((sheet.width, max(1, sheet.height // step)), Image.Resampling.NEAREST))
    code, counts = np.unique(scaling.codes(pixels), return_counts=True)
    return 0 if code[0] == 0 else int(code[counts.argmax()])
