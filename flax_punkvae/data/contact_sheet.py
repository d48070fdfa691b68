"""A picture of a set: rows of its sprites under captions, over a checkerboard where they are transparent."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from flax_punkvae import images as im
from flax_punkvae.data import Dataset
from flax_punkvae.data.split import Parts, spread

# In pixels of the picture: its width, and about what the longer side of a sprite becomes.
_WIDTH, _SIDE = 1200, 64
_GAP, _CAPTION, _SQUARE = 6, 18, 8
_LIGHT, _DARK = 232, 204
# How many sprites of each part are shown, at most.
_SHOWN = {"training": 140, "validation": 20, "held out for testing": 40}


class Panel(NamedTuple):
    """A caption and the sprites below it, RGB or RGBA, all panels' of one size."""

    title: str
    sprites: UInt8[np.ndarray, "n h w c"]


def draw(panels: Sequence[Panel]) -> UInt8[np.ndarray, "hs ws 3"]:
    """The panels one below the other; sprites are enlarged by a whole number, in rows from left to right."""
    _, height, width, _ = panels[0].sprites.shape
    scale = max(round(_SIDE / max(height, width)), 1)
    columns = max((_WIDTH - _GAP) // (width * scale + _GAP), 1)
    rows = [_panel(panel, scale, columns) for panel in panels]
    across = max(_WIDTH, *(row.shape[1] for row in rows))
    padded = [np.pad(row, ((0, 0), (0, across - row.shape[1]), (0, 0)), constant_values=255) for row in rows]
    return np.concatenate(padded)


def png(dataset: Dataset, parts: Parts) -> bytes:
    """The picture of a set as a PNG file."""
    return im.to_png(draw(panels(dataset, parts)))


def panels(dataset: Dataset, parts: Parts) -> list[Panel]:
    """The images of a set, spread evenly over each part of the split, and what fewer colours changed most, if so."""
    found = []
    for (name, most), positions in zip(_SHOWN.items(), parts, strict=True):
        if len(positions):
            chosen = spread(positions, most)
            title = f"{name}: {len(chosen):,} of {len(positions):,}"
            found.append(Panel(title, dataset.originals[chosen]))
    if dataset.reduced is not None:
        found.append(Panel("changed most by fewer colours, before", dataset.reduced.before))
        found.append(Panel("and after", dataset.reduced.after))
    return found


def over_checkerboard(sprites: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w 3"]:
    """RGBA images over grey squares; RGB is unchanged."""
    if sprites.shape[-1] == 3:
        return sprites
    _, height, width, _ = sprites.shape
    rows, columns = np.ogrid[:height, :width]
    board = np.where((rows // _SQUARE + columns // _SQUARE) % 2, _DARK, _LIGHT)[..., None]
    alpha = sprites[..., 3:].astype(np.uint16)
    return ((alpha * sprites[..., :3] + (255 - alpha) * board + 127) // 255).astype(np.uint8)


def _panel(panel: Panel, scale: int, columns: int) -> UInt8[np.ndarray, "hp wp 3"]:
    cells = over_checkerboard(im.enlarge(panel.sprites, scale))
    grid = im.grid(cells, columns=min(columns, max(len(cells), 1)), gap=_GAP)
    caption = Image.new("RGB", (max(grid.shape[1], _WIDTH), _CAPTION + _GAP), "white")
    # The newest Pillow has a font of any size; the text is ASCII or what that font shows.
    ImageDraw.Draw(caption).text((_GAP, _GAP), panel.title, fill="black", font=ImageFont.load_default(_CAPTION - 4))
    below = np.pad(grid, ((0, 0), (0, caption.width - grid.shape[1]), (0, 0)), constant_values=255)
    return np.concatenate([np.asarray(caption), below])
