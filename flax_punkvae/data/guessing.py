"""Decide on a sheet's grid: whether one is plain enough to be used, or to contradict the one that was given."""

from collections.abc import Sequence

from flax_punkvae.data.grids import Axis
from flax_punkvae.data.tiling import CROSSED, Grid

# So often crossed, relative to all columns or rows, lines cannot be told from others.
_LIKE_OTHERS = 0.85
# A guess needs this value, and a rival of at most this part of it. To be of tiles that are not square, or to contradict
# the user, it needs more. Lines that are crossed less than the last of these are not said to cut through sprites.
_LEAST, _RIVAL, _SURE, _CUT = 2.0, 0.9, 3.0, 0.3
_LEAST_TILES = 3
_NAMED_AT_MOST = 4


def settled(grids: Sequence[Grid]) -> Grid | None:
    """The first grid, if enough speaks for it and nothing for another one."""
    if not grids:
        return None
    best = grids[0]
    needed = _LEAST if best.tile[0] == best.tile[1] else _SURE
    if best.value < needed or max(best.crossed) > _LIKE_OTHERS or best.counts[0] * best.counts[1] < _LEAST_TILES:
        return None
    rival = next((grid for grid in grids[1:] if _is_rival(grid, best)), None)
    return best if rival is None or rival.value <= _RIVAL * best.value else None


def contradiction(grids: Sequence[Grid], same: Grid | None, given: Grid, by: int = 1) -> Grid | None:
    """The sheet's own grid, if it is plain that the given one cuts through what is drawn; otherwise None.

    `grids` are those of the sheet before it was enlarged by a factor; `same` is the one among them that was given.
    """
    best = settled(grids)
    if best is None or best.value < _SURE or (same and max(same.crossed) <= _CUT):
        return None
    # Sides may be multiples: several tiles as one, or parts of tiles. But the size before the enlargement is a mistake.
    own = best.enlarged(by)
    fits = all(
        (ours % theirs == 0 or theirs % ours == 0) and (given.margin - own.margin) % min(ours, theirs) == 0
        for ours, theirs in zip(given.pitch, own.pitch, strict=True)
    )
    return best if not fits or (by > 1 and given.tile == best.tile) else None


def margin(columns: Axis, rows: Axis, same: Grid | None, given: Grid, by: int = 1) -> int:
    """The margin that a sheet has if the given grid has none; 0 unless tiles of that size fill what is inside.

    Lines of one colour show it, as many at each of the four sides; `same` and `by` are as in `contradiction`.
    """
    found = {int(lines.argmin()) for axis in (columns, rows) for lines in (axis.plain, axis.plain[::-1])}
    if len(found) > 1 or given.margin or given.spacing or (same and max(same.crossed) <= _CUT):
        return 0
    around = found.pop() * by
    inner = (len(columns.plain) * by - 2 * around, len(rows.plain) * by - 2 * around)
    cut = any(around % side for side in given.tile)
    filled = all(length % side == 0 and length > side for length, side in zip(inner, given.tile, strict=True))
    return around if cut and filled else 0


def evidence(grid: Grid, by: int = 1) -> str:
    """What speaks for a grid, in a few words; `by` is the factor by which its sheet is enlarged."""
    if grid.spacing:
        pitch = " and ".join(dict.fromkeys(_ordinal(by * pitch) for pitch in grid.pitch))
        return f"every {pitch} line is of one colour"
    if max(grid.crossed) < CROSSED:
        return "nothing drawn crosses the lines between them"
    return f"drawings cross the lines between them {max(grid.crossed):.0%} as often as other lines"


def listed(grids: Sequence[Grid]) -> str:
    """The likeliest grids, with the number of their tiles."""
    return ", ".join(f"{grid.text} ({grid.counts[0] * grid.counts[1]})" for grid in grids[:_NAMED_AT_MOST])


def _is_rival(grid: Grid, best: Grid) -> bool:
    """Whether it is another grid. Not if it joins or parts tiles of a grid, and nothing crosses the lines of either."""
    pitches = list(zip(grid.pitch, best.pitch, strict=True))
    if all(ours == theirs for ours, theirs in pitches):
        return False
    joins = all(ours % theirs == 0 for ours, theirs in pitches) or 1 in grid.counts
    parts = all(theirs % ours == 0 for ours, theirs in pitches) and max(grid.crossed) < CROSSED
    return not ((joins or parts) and max(best.crossed) < CROSSED)


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number // 10 % 10 != 1 else "th"
    return f"{number}{ending}"
