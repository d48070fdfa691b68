"""The grids that a sheet may be cut by, and how much what it shows speaks for each."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from flax_punkvae.data.grids import Axis

# The sizes of tiles, and the widths of margins and spacings, that are considered.
_SMALLEST, _LARGEST, _WIDEST = 6, 512, 16
# Sizes that most sheets have. Other multiples of 8 and a few more are seen, too.
_COMMON, _SEEN = (8, 16, 24, 32, 48, 64, 128), (10, 12, 18, 20)
# How much a grid is doubted for each thing that is odd about it (see `_doubts`), as a factor.
_DOUBT = 0.93
# Standard scores: of an axis without a line inside, and of a few lines that nothing crosses between tiles of a common
# size. Sheets with longer sides are hardly one row of tiles.
_WITHOUT_LINES, _UNCROSSED, _LONGEST_TILE = 1.5, 2.25, 128
# Lines are crossed if drawings cross them at least this often, relative to all columns or rows.
CROSSED = 0.02
# How many of the best ways to cut an axis are combined with those of the other one.
_CANDIDATES = 8


class _Way(NamedTuple):
    """A way to cut one axis: `tiles` sides, `spacing` pixels apart, after a margin.

    score: the standard score of how seldom drawings cross its lines. crossed: how often they do, relative to all
    columns or rows. doubts: how much about it is odd.
    """

    side: int
    spacing: int
    margin: int
    tiles: int
    score: float
    crossed: float
    doubts: float


class Grid(NamedTuple):
    """How a sheet may be cut. tile: (width, height). counts: tiles across and down. value: how much speaks for it.

    crossed: how often drawings cross its lines, across and down, relative to all columns and rows.
    """

    tile: tuple[int, int]
    margin: int
    spacing: int
    counts: tuple[int, int]
    crossed: tuple[float, float]
    value: float

    @property
    def pitch(self) -> tuple[int, int]:
        """Distance from tile to tile, across and down."""
        return self.tile[0] + self.spacing, self.tile[1] + self.spacing

    @property
    def cut(self) -> tuple[tuple[int, int], int, int]:
        """What decides where the sheet is cut."""
        return self.tile, self.margin, self.spacing

    @property
    def text(self) -> str:
        """The grid in words, such as `16x16 with 1 pixel between them`."""
        gaps = [(self.spacing, "between"), (self.margin, "around")]
        named = " and ".join(f"{gap} pixel{'s' * (gap > 1)} {where} them" for gap, where in gaps if gap)
        return f"{self.tile[0]}x{self.tile[1]}{' with ' * bool(named)}{named}"

    def enlarged(self, by: int) -> "Grid":
        """The grid of a sheet that is enlarged by this factor."""
        sides = (self.tile[0] * by, self.tile[1] * by)
        return self._replace(tile=sides, margin=self.margin * by, spacing=self.spacing * by)


def candidates(columns: Axis, rows: Axis, margin: int | None = None, spacing: int | None = None) -> list[Grid]:
    """The grids that are possible, likely ones first; with a given margin or spacing, only those that have it."""
    across, down = (_by_gaps(axis, margin, spacing) for axis in (columns, rows))
    found = [
        _grid(one, other)
        for gaps in across.keys() & down.keys()
        for one, other in _pairs(across[gaps], down[gaps])
        if one.tiles * other.tiles > 1
    ]
    return sorted(found, key=lambda grid: (-grid.value, grid))


def _by_gaps(axis: Axis, margin: int | None, spacing: int | None) -> dict[tuple[int, int], list[_Way]]:
    """The ways to cut an axis, by their (margin, spacing)."""
    found = defaultdict(list)
    for way in _ways(axis):
        if margin in (None, way.margin) and spacing in (None, way.spacing):
            found[way.margin, way.spacing].append(way)
    return found


def _pairs(across: list[_Way], down: list[_Way]) -> set[tuple[_Way, _Way]]:
    """Square tiles, and combinations of the best ways."""
    sides = {way.side: way for way in down}
    best = [sorted(ways, key=lambda way: -way.score)[:_CANDIDATES] for ways in (across, down)]
    whole = [[way for way in ways if way.tiles == 1] for ways in (across, down)]
    square = {(way, sides[way.side]) for way in across if way.side in sides}
    return square | set(itertools.product(best[0] + whole[0], best[1] + whole[1]))


def _grid(across: _Way, down: _Way) -> Grid:
    score = (across.score + down.score) / 2**0.5
    doubts = max(across.doubts, down.doubts) + (across.doubts + down.doubts) / 4
    doubts += 1.5 * (across.side != down.side) + 1.5 * (max(across.side, down.side) > 2 * min(across.side, down.side))
    return Grid(
        (across.side, down.side),
        across.margin,
        across.spacing,
        (across.tiles, down.tiles),
        (across.crossed, down.crossed),
        score * _DOUBT**doubts if score > 0 else score,
    )


def _ways(axis: Axis) -> Iterator[_Way]:
    """All ways to cut an axis such that every line between tiles, and the margin, is of one colour."""
    length, drawn = len(axis.joined), np.flatnonzero(axis.joined)
    if not len(drawn):
        return
    ends = [length if axis.plain.all() else int((~plain).argmax()) for plain in (axis.plain, axis.plain[::-1])]
    for pitch in range(_SMALLEST, min(_LARGEST, length + _WIDEST) + 1):
        plain, lined = (_folded(which, pitch) for which in (axis.plain, axis.lined))
        crossed, scores = _crossings(axis.joined[drawn[0] : drawn[-1] + 1], int(drawn[0]), pitch)
        # Tiles that touch are the only ones without a line of one colour, unless there is only one.
        widest = min(_WIDEST, pitch - _SMALLEST) if plain.any() or pitch > length // 2 else 0
        for spacing in range(widest + 1):
            for margin in range(min(_WIDEST, *ends) + 1):
                tiles, rest = divmod(length - 2 * margin + spacing, pitch)
                between = [(margin - 1 - place) % pitch for place in range(spacing)]
                if tiles < 1 or rest > ends[1] - margin or (tiles > 1 and not plain[between].all()):
                    continue
                side, phase = pitch - spacing, margin % pitch
                has_line = tiles > 1 and lined[[(margin + place) % pitch for place in range(side)]].any()
                doubts = _doubts(side, margin, spacing, rest) + 2 * has_line
                score, often = float(scores[phase]), float(crossed[phase])
                if tiles == 1:
                    score, often = _WITHOUT_LINES * (length <= _LONGEST_TILE), 0.0
                elif often < CROSSED and side in _COMMON:
                    score = max(score, _UNCROSSED)
                yield _Way(side, spacing, margin, tiles, score, often, doubts)


def _doubts(side: int, margin: int, spacing: int, rest: int) -> float:
    """How much is odd about tiles of this side if `rest` pixels are left after the last one."""
    size = 0 if side in _COMMON else 0.5 if side % 8 == 0 else 1 if side in _SEEN else 1.5
    gaps = 0.5 * (margin > 0) + 0.5 * (spacing > 0) + 0.5 * (margin not in (0, spacing))
    gaps += 0.5 * (spacing > 4) + (margin > 4)
    return size + gaps + (0 if not rest else 0.5 if rest == spacing else 2.5)


def _folded(which: np.ndarray, pitch: int) -> np.ndarray:
    """For each place within the pitch, whether all columns there are so."""
    padded = np.pad(which, (0, -len(which) % pitch), constant_values=True)
    return np.logical_and.reduce(padded.reshape(-1, pitch))


def _crossings(joined: np.ndarray, first: int, pitch: int) -> tuple[np.ndarray, np.ndarray]:
    """For each place within the pitch: how often drawings continue there, relative to everywhere; how seldom.

    The latter as a standard score, if places were drawn from all of them. `first`: position of the first column.
    """
    places = np.arange(first, first + len(joined)) % pitch
    counts = np.bincount(places, minlength=pitch)
    mean, deviation = joined.mean(), max(joined.std(), 1e-9)
    found = np.bincount(places, joined, pitch) / np.maximum(counts, 1)
    errors = deviation * np.sqrt(np.maximum(1 / np.maximum(counts, 1) - 1 / len(joined), 1e-9))
    known = (counts > 0) & (counts < len(joined))
    return np.where(known, found / mean, 1), np.where(known, (mean - found) / errors, 0)
