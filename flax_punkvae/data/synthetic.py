"""Procedural pixel-art characters with known factors: a source that needs no network and copies nobody's art.

A character is a bust facing left, painted part over part from the drawings in `drawings`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from flax_punkvae.data.drawings import INKS, SHEETS, SWATCHES

# Number of characters painted at once, which bounds the memory.
_AT_ONCE = 4096


class Factor(NamedTuple):
    """One choice: `percent[j]` % of the characters have `labels[j]`; the rest have none, encoded as len(labels).

    masks: uint8 [values + 1, 24, 24], the letters that each value paints, as indices into `LETTERS`; 0 is nothing.
    letters: int [l], indices of the letters whose colour this factor sets; empty unless it is in `SWATCHES`.
    swatches: uint8 [values + 1, l, 4], those colours, RGBA.
    """

    labels: tuple[str, ...]
    percent: tuple[float, ...]
    masks: np.ndarray
    letters: np.ndarray
    swatches: np.ndarray


def _columns(table: str) -> list[tuple[str, ...]]:
    return list(zip(*(line.split() for line in table.strip().splitlines()), strict=True))


def _rgba(code: str) -> list[int]:
    return list(bytes.fromhex(code.ljust(8, "f")))


_INKS: dict[str, str] = dict(zip(INKS.split()[::2], INKS.split()[1::2], strict=True))
LETTERS = "." + "".join(_INKS) + "".join(SWATCHES)
PALETTE = np.array([_rgba(_INKS.get(x, "000000")) for x in LETTERS], np.uint8)  # placeholders for SWATCHES
PALETTE[0] = 0


def _factor(columns: list[tuple[str, ...]], letters: str = "") -> Factor:
    """The factor whose values are these columns of a sheet or, with `letters`, of the swatches of these letters."""
    masks = np.zeros((len(columns) + 1, 24, 24), np.uint8)
    swatches = np.zeros((len(columns) + 1, len(letters), 4), np.uint8)
    for j, (_, _, *cells) in enumerate(columns):
        if letters:
            swatches[j] = [_rgba(code) for code in cells]
            continue
        row, column = (int(x) for x in cells[0].split(","))
        drawing = np.array([[LETTERS.index(letter) for letter in line] for line in cells[1:]])
        masks[j, row : row + drawing.shape[0], column : column + drawing.shape[1]] = drawing
    labels = tuple(name.replace("_", " ") for name, *_ in columns)
    percent = tuple(float(share) for _, share, *_ in columns)
    return Factor(labels, percent, masks, np.array([LETTERS.index(x) for x in letters], int), swatches)


def _factors() -> tuple[Factor, ...]:
    parts: dict[str, list[tuple[str, ...]]] = {}
    for sheet in SHEETS.split("\n\n"):
        for column in _columns(sheet):
            parts.setdefault(column[0].split("_")[0], []).append(column)
    colours = [_factor(_columns(table), letters) for letters, table in SWATCHES.items()]
    return (*colours, *(_factor(columns) for columns in parts.values()))


FACTORS = _factors()


def choose(count: int, seed: int) -> np.ndarray:
    """Draw the factors: int [count, factors], indices into `Factor.labels`, or their number for none.

    Row i depends only on (seed, i). Uses raw PCG64 words, whose stream NumPy guarantees.
    """
    words = np.asarray(np.random.PCG64(seed).random_raw(count * len(FACTORS))).reshape(count, len(FACTORS))
    percentiles = (words >> 11) * (100 / 2**53)
    bounds = [np.cumsum(factor.percent) for factor in FACTORS]
    return np.stack([np.searchsorted(b, u, side="right") for b, u in zip(bounds, percentiles.T, strict=True)], axis=1)


def paint(choices: np.ndarray) -> np.ndarray:
    """Paint characters from their factors (int [n, factors], as returned by `choose`): uint8 [n, 24, 24, 4] RGBA.

    Opaque parts get a black outline against the background. A translucent pixel replaces the pixel below it, so the
    background shows through.
    """
    count = len(choices)
    palettes = np.tile(PALETTE, (count, 1, 1))
    canvas = np.zeros((count, 24, 24), np.uint8)
    for factor, choice in zip(FACTORS, choices.T, strict=True):
        palettes[:, factor.letters] = factor.swatches[choice]
        # Most characters have nothing of most factors.
        drawn = np.flatnonzero(np.any(factor.masks, axis=(1, 2))[choice])
        part = factor.masks[choice[drawn]]
        canvas[drawn] = np.where(part > 0, part, canvas[drawn])
    solid = (PALETTE[:, 3] == 255)[canvas]
    edge = np.zeros_like(solid)
    edge[:, 1:] |= solid[:, :-1]
    edge[:, :-1] |= solid[:, 1:]
    edge[:, :, 1:] |= solid[:, :, :-1]
    edge[:, :, :-1] |= solid[:, :, 1:]
    canvas[edge & (canvas == 0)] = LETTERS.index("k")
    # Four bytes at once.
    colours = palettes.view(np.uint32).ravel()
    first = np.arange(count, dtype=np.int32) * len(PALETTE)
    return colours[canvas + first[:, None, None]][..., None].view(np.uint8)


def draw(
    count: int, seed: int, finished: Callable[[np.ndarray], np.ndarray] = lambda sprites: sprites
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Draw characters: sprites uint8 [count, 24, 24, 4] RGBA, labels uint8 [count, a] of 0 and 1, label names [a].

    `finished` turns some of the sprites into those that are returned, which bounds the memory. Character i depends only
    on (seed, i), so a longer draw begins with the shorter one. The labels determine the sprite. Alpha is 0
    (background), 128 (tinted glass, smoke, bubble gum, halo) or 255.
    """
    choices = choose(count, seed)
    one = finished(paint(choices[:1]))
    sprites = np.empty((count, *one.shape[1:]), np.uint8)
    for start in range(0, count, _AT_ONCE):
        sprites[start : start + _AT_ONCE] = finished(paint(choices[start : start + _AT_ONCE]))
    one_hot = [c[:, None] == np.arange(len(f.labels)) for f, c in zip(FACTORS, choices.T, strict=True)]
    labels = np.concatenate(one_hot, axis=1).view(np.uint8)
    return sprites, labels, tuple(label for factor in FACTORS for label in factor.labels)


def resize(sprites: np.ndarray, size: int) -> np.ndarray:
    """Resize sprites [n, 24, 24, c] to size x size: nearest neighbour, sampled at pixel centres."""
    if sprites.shape[1:3] == (size, size):
        return sprites
    nearest = (2 * np.arange(size) + 1) * 24 // (2 * size)
    return sprites[:, nearest[:, None], nearest]
