"""Cut a sheet, one image file, into a grid of tiles."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from flax_punkvae.data.decode import open_rgba
from flax_punkvae.data.raw import Raw, unlabelled
from flax_punkvae.errors import UserError

# Number of pixel rows examined at once.
_BAND = 64
# Limits of the search for another pitch: the smallest pitch, the widest spacing.
_SMALLEST_PITCH, _WIDEST_SPACING = 4, 64
_ADVICE = (
    "give the size of its tiles with --data.tile WIDTH HEIGHT, and what is around and between them with --data.margin "
    "and --data.spacing, or use a folder of images"
)
# With fewer cells, blank lines between them may be chance, especially in a single row or column.
_LEAST_CELLS, _LEAST_OF_ROW = 3, 6


def load(path: Path, tile: tuple[int, int], margin: int = 0, spacing: int = 0) -> Raw:
    """Load the nonempty tiles (width, height) of a sheet; ids are their positions in reading order.

    There are `margin` pixels around the tiles and `spacing` pixels between them. Raises UserError if the file is not an
    image or is clearly not a grid of such tiles.
    """
    try:
        sheet = open_rgba(path)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    (width, height), (across, down) = sheet.size, tile
    if margin or spacing:
        sheet, evidence = _bare(sheet, tile, margin, spacing, path), None
    else:
        evidence = _another_grid(sheet, tile)
    if sheet.height % down or sheet.width % across:
        raise UserError(
            f"{path}: a sheet of {width}x{height} pixels cannot be cut into tiles of {across}x{down}"
            f"{f' ({evidence})' if evidence else ''}: {_ADVICE}"
        )
    if evidence:
        raise UserError(
            f"{path}: tiles of {across}x{down} would cut through the sprites of this sheet ({evidence}): {_ADVICE}"
        )
    drawn = np.concatenate([tiles[..., 3].any(axis=(1, 2)) for tiles in _rows(sheet, tile)])
    pixels, filled = np.empty((int(drawn.sum()), down, across, 4), np.uint8), 0
    for row, tiles in enumerate(_rows(sheet, tile)):
        chosen = tiles[drawn[row * len(tiles) : (row + 1) * len(tiles)]]
        pixels[filled : filled + len(chosen)] = chosen
        filled += len(chosen)
    empty = len(drawn) - filled
    notes = (f"left out {empty} empty tiles of {len(drawn)}; ids are positions in the sheet",)
    return unlabelled(pixels, np.flatnonzero(drawn), f"sheet {path}", notes=notes if empty else ())


def _bare(sheet: Image.Image, tile: tuple[int, int], margin: int, spacing: int, path: Path) -> Image.Image:
    """The sheet without its margin and spacing. Raises UserError if whole tiles do not fill it."""
    kept = []
    for length, side in zip(sheet.size, tile, strict=True):
        count, rest = divmod(length - 2 * margin + spacing, side + spacing)
        if count < 1 or rest:
            raise UserError(
                f"{path}: a sheet of {sheet.width}x{sheet.height} pixels is no grid of tiles of {tile[0]}x{tile[1]} "
                f"with a margin of {margin} and a spacing of {spacing}: change --data.tile, --data.margin or "
                "--data.spacing"
            )
        starts = margin + np.arange(count) * (side + spacing)
        kept.append((starts[:, None] + np.arange(side)).ravel())
    columns, rows = kept
    return Image.fromarray(np.asarray(sheet)[np.ix_(rows, columns)])


def _rows(sheet: Image.Image, tile: tuple[int, int]) -> Iterator[UInt8[np.ndarray, "n h w 4"]]:
    """Yield the tiles of the sheet row by row, to bound memory."""
    across, down = tile
    for top in range(0, sheet.height, down):
        band = np.asarray(sheet.crop((0, top, sheet.width, top + down)))
        yield band.reshape(down, -1, across, 4).swapaxes(0, 1)


def _another_grid(sheet: Image.Image, tile: tuple[int, int]) -> str | None:
    """Evidence that the sheet is no plain grid of such tiles, or None.

    The evidence is lines of one colour through the whole sheet. Between tiles, they repeat at the tiles' pitch. If no
    lines repeat at the given tile size, but some do at another pitch, larger or smaller by the same number of pixels
    across and down, with something drawn between any two, that is the sheet's pitch. Outer lines show a margin.
    """
    (width, height), (across, down) = sheet.size, tile
    if sheet.size == tile:
        return None
    corners = [(0, 0), (across, 0), (0, down)]
    colours = {(0, 0, 0, 0)} | {_pixel(sheet, x, y) for x, y in corners if x < width and y < height}
    for colour in sorted(colours):
        columns, rows = _blank_lines(sheet, colour)
        at_tiles = (width > across and _lines(columns, across).any()) or (height > down and _lines(rows, down).any())
        if columns.all() or at_tiles:
            continue
        name = "transparent" if not colour[3] else "#{:02x}{:02x}{:02x}".format(*colour[:3])
        for more in range(_SMALLEST_PITCH - min(tile), min(*tile, _WIDEST_SPACING + 1)):
            if more and _has_other_pitch(columns, rows, tile, more):
                return f"it has {name} lines every {across + more} pixels across and every {down + more} down"
        margin = _margin(columns, rows)
        if margin % across or margin % down:
            inner = width - 2 * margin, height - 2 * margin
            if min(inner[0] // across, inner[1] // down) > 1 and not (inner[0] % across or inner[1] % down):
                return f"it has a {name} margin of {margin} pixels"
    return None


def _has_other_pitch(
    columns: Bool[np.ndarray, "width"], rows: Bool[np.ndarray, "height"], tile: tuple[int, int], more: int
) -> bool:
    """Whether blank lines show another pitch in both directions, or in the only direction of a single row of tiles."""
    directions = (columns, tile[0]), (rows, tile[1])
    if len(columns) > tile[0] and len(rows) > tile[1]:
        return all(_repeats(lines, side, more, _LEAST_CELLS) for lines, side in directions)
    lines, side = directions[len(columns) == tile[0]]
    # All lines between cells are blank, and none within: a row with few drawn pixels would prove nothing.
    return more > 0 and _repeats(lines, side, more, _LEAST_OF_ROW) and int(_lines(lines, side + more).sum()) == more


def _margin(columns: Bool[np.ndarray, "width"], rows: Bool[np.ndarray, "height"]) -> int:
    """Number of blank lines at each of the four sides; 0 if the sides differ."""
    margins = {int(lines.argmin()) for lines in (columns, columns[::-1], rows, rows[::-1])}
    return margins.pop() if len(margins) == 1 else 0


def _repeats(blank: Bool[np.ndarray, "length"], tile: int, more: int, least: int) -> bool:
    """Whether blank lines repeat every tile + more (no multiple or divisor of tile) between `least` drawn cells."""
    pitch = tile + more
    if pitch % tile == 0 or tile % pitch == 0 or pitch > len(blank):
        return False
    lines = _lines(blank, pitch)
    # A cell starts right after a blank line.
    for start in np.flatnonzero(~lines & np.roll(lines, 1)).tolist():
        gap = int(np.roll(lines, -start)[::-1].argmin())
        cells = [blank[left : left + pitch - gap] for left in range(start, len(blank) - pitch + gap + 1, pitch)]
        drawn = [not cell.all() for cell in cells]
        used = len(cells) - drawn[::-1].index(True) if any(drawn) else 0
        whole = sum(int((~cell).sum()) for cell in cells) == (~blank).sum()
        if gap >= more and used >= least and all(drawn[:used]) and whole:
            return True
    return False


def _lines(blank: Bool[np.ndarray, "length"], pitch: int) -> Bool[np.ndarray, "pitch"]:
    """Which lines of a cell are blank in every cell."""
    padded = np.pad(blank, (0, -len(blank) % pitch), constant_values=True)
    return np.logical_and.reduce(padded.reshape(-1, pitch))


def _pixel(sheet: Image.Image, x: int, y: int) -> tuple[int, ...]:
    pixel = np.asarray(sheet.crop((x, y, x + 1, y + 1)))[0, 0].tolist()
    return tuple(pixel) if pixel[3] else (0, 0, 0, 0)


def _blank_lines(
    sheet: Image.Image, colour: tuple[int, ...]
) -> tuple[Bool[np.ndarray, "width"], Bool[np.ndarray, "height"]]:
    """Which columns and which rows have only this colour; all transparent pixels count as one colour."""
    columns, rows = np.ones(sheet.width, bool), np.ones(sheet.height, bool)
    for top in range(0, sheet.height, _BAND):
        band = np.asarray(sheet.crop((0, top, sheet.width, min(top + _BAND, sheet.height))))
        same = (band == np.array(colour, np.uint8)).all(axis=-1) if colour[3] else band[..., 3] == 0
        columns &= same.all(axis=0)
        rows[top : top + _BAND] = same.all(axis=1)
    return columns, rows
