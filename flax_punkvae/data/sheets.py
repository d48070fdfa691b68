"""Cut a sheet, one image file, into a grid of tiles."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image

from flax_punkvae.config import DataConfig
from flax_punkvae.data import grids, guessing, punks, scaling, tiling
from flax_punkvae.data.decode import head, open_rgba
from flax_punkvae.data.raw import Raw, unlabelled
from flax_punkvae.data.tiling import Grid
from flax_punkvae.errors import UserError
from flax_punkvae.images import enlarges

_PUNKS = Grid((24, 24), 0, 0, (100, 100), (0.0, 0.0), 0.0)
_ADVICE = (
    "leave --data.tile out, or give the size of its tiles with --data.tile WIDTH HEIGHT, and what is around and "
    "between them with --data.margin and --data.spacing, or use a folder of images"
)


def load(path: Path, tile: tuple[int, int] | None, config: DataConfig | None = None) -> Raw:
    """Load the tiles (width, height) of a sheet; ids are their positions in reading order.

    Without a tile, its size, the margin around the tiles and the spacing between them are guessed from the sheet. Tiles
    of a single colour are left out. With a config that renders sprites as they are, enlarged ones are shrunk. Raises
    UserError if the file is not an image, if nothing can be guessed or if what is given is clearly wrong.
    """
    try:
        # A sheet may be larger than a sprite may be: up to what Pillow never reads.
        sheet = open_rgba(path, 2 * (Image.MAX_IMAGE_PIXELS or 0) or None)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    margin, spacing = (config.margin, config.spacing) if config else (None, None)
    if tile is None and _is_punks(sheet):
        grid, notes = _PUNKS, ()
    elif tile is None:
        grid, notes = _guessed(sheet, margin, spacing, path)
    else:
        grid, notes = _checked(sheet, tile, margin or 0, spacing or 0, path), ()
    drawn, plain = _drawn(sheet, grid)
    pixels = _cut(sheet, grid, drawn)
    empty = int((~drawn & ~plain).sum())
    left_out = [f"{empty} empty"] * (empty > 0) + [f"{plain.sum()} of a single colour"] * bool(plain.any())
    if left_out:
        notes += (f"left out {' and '.join(left_out)} of {len(drawn)} tiles; ids are positions in the sheet",)
    if config and not enlarges(config.render):
        by = scaling.common(pixels[start : start + 1024] for start in range(0, len(pixels), 1024))
        pixels, notes = pixels if by == 1 else pixels[:, ::by, ::by].copy(), notes + scaling.note(by)
    if (found := head(path)) and found.deep:
        notes += ("the sheet has 16 bits per sample: brought to 8",)
    return unlabelled(pixels, np.flatnonzero(drawn), f"sheet {path}", notes=notes)


def _is_punks(sheet: Image.Image) -> bool:
    """Whether these are the pixels of the CryptoPunks' composite."""
    if sheet.size != (2400, 2400):
        return False
    pixels = np.concatenate(list(_rows(sheet, _PUNKS)))
    return punks.verify(unlabelled(pixels, np.arange(len(pixels)), "")) == punks.VERIFIED


def _guessed(sheet: Image.Image, margin: int | None, spacing: int | None, path: Path) -> tuple[Grid, tuple[str, ...]]:
    """The grid that the sheet shows, and a line that says so. Raises UserError if it shows none."""
    shown = _measured(sheet, path, margin, spacing)
    by = shown.by
    found = tiling.candidates(
        shown.columns, shown.rows, *(None if gap is None else gap // by for gap in (margin, spacing))
    )
    if best := guessing.settled(found):
        grid = best.enlarged(by)
        return grid, (f"tiles of {grid.text} ({guessing.evidence(best, by)}): --data.tile overrides",)
    likely = guessing.listed([grid.enlarged(by) for grid in found if grid.value > 0])
    raise UserError(
        f"{path}: cannot tell the size of the tiles of this sheet of {sheet.width}x{sheet.height} pixels"
        f"{f', perhaps {likely}' if likely else ''}: give it with --data.tile WIDTH HEIGHT, and what is around and "
        "between them with --data.margin and --data.spacing"
    )


def _checked(sheet: Image.Image, tile: tuple[int, int], margin: int, spacing: int, path: Path) -> Grid:
    """The grid that was given. Raises UserError if it does not fill the sheet or clearly is not the sheet's."""
    shown = _measured(sheet, path)
    (count, rest), (count_down, rest_down) = (
        divmod(length - 2 * margin + spacing, side + spacing) for length, side in zip(sheet.size, tile, strict=True)
    )
    given = Grid(tile, margin, spacing, (count, count_down), (1.0, 1.0), 0.0)
    found = tiling.candidates(shown.columns, shown.rows)
    same = next((grid for grid in found if grid.enlarged(shown.by).cut == given.cut), None)
    if other := guessing.contradiction(found, same, given, shown.by):
        looks = f" (it looks like tiles of {other.enlarged(shown.by).text}: {guessing.evidence(other, shown.by)})"
    elif around := guessing.margin(shown.columns, shown.rows, same, given, shown.by):
        looks = f" (around all of it, {around} pixels are of one colour)"
    else:
        looks = ""
    if not same and (min(given.counts) < 1 or rest or rest_down):
        raise UserError(
            f"{path}: a sheet of {sheet.width}x{sheet.height} pixels cannot be cut into tiles of {given.text}{looks}: "
            f"{_ADVICE}"
        )
    if looks:
        raise UserError(f"{path}: tiles of {given.text} would cut through the sprites of this sheet{looks}: {_ADVICE}")
    return given


class _Shown(NamedTuple):
    """What the columns and rows of a sheet show, before it was enlarged by a factor."""

    columns: grids.Axis
    rows: grids.Axis
    by: int


def _measured(sheet: Image.Image, path: Path, *gaps: int | None) -> _Shown:
    """What a sheet shows; the factor divides the given gaps. Raises UserError if it has a single colour."""
    columns, rows = grids.measure(sheet)
    if columns.plain.all() and rows.plain.all():
        raise UserError(f"{path}: the sheet is of a single colour, or transparent everywhere: name another one")
    by = scaling.bounded(scaling.divisor(columns.changed[1:], rows.changed[1:]), sheet.height, sheet.width)
    by = math.gcd(by, *(gap or 0 for gap in gaps))
    return _Shown(columns.reduced(by), rows.reduced(by), by)


def _drawn(sheet: Image.Image, grid: Grid) -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
    """(which tiles have several colours, which have a single one and are not transparent)."""
    several, plain = [], []
    for tiles in _rows(sheet, grid):
        codes = scaling.codes(tiles).reshape(len(tiles), -1)
        several.append((codes != codes[:, :1]).any(1))
        plain.append(~several[-1] & (codes[:, 0] != 0))
    return np.concatenate(several), np.concatenate(plain)


def _cut(sheet: Image.Image, grid: Grid, chosen: Bool[np.ndarray, "n"]) -> UInt8[np.ndarray, "m h w 4"]:
    """The chosen tiles."""
    across, down = grid.tile
    pixels, filled = np.empty((int(chosen.sum()), down, across, 4), np.uint8), 0
    for row, tiles in enumerate(_rows(sheet, grid)):
        kept = tiles[chosen[row * len(tiles) : (row + 1) * len(tiles)]]
        pixels[filled : filled + len(kept)] = kept
        filled += len(kept)
    return pixels


def _rows(sheet: Image.Image, grid: Grid) -> Iterator[UInt8[np.ndarray, "n h w 4"]]:
    """Yield the tiles of the sheet row by row, to bound memory."""
    (across, down), (columns, rows) = grid.tile, grid.counts
    left, pitch = grid.margin, across + grid.spacing
    for top in range(grid.margin, grid.margin + rows * (down + grid.spacing), down + grid.spacing):
        # After the last tile, which has no spacing, Pillow adds transparent pixels.
        band = np.asarray(sheet.crop((left, top, left + columns * pitch, top + down)))
        yield band.reshape(down, columns, pitch, 4)[:, :, :across].swapaxes(0, 1)
