"""Sheets of sprites, in the forms in which people have them: each function writes one and returns it as a source."""

import json
from pathlib import Path

import numpy as np

from helpers.characters import SIDE, columns, enlarged, opaque, sprites
from helpers.sources import tiled, write


def _sheet(path: Path, count: int, margin: int = 0, spacing: int = 0) -> Path:
    path.mkdir()
    return write(path / "sheet.png", tiled(sprites(count), columns(count), margin, spacing))


def sheet(path: Path, count: int) -> Path:
    return _sheet(path, count)


def sheet_spacing(path: Path, count: int) -> Path:
    return _sheet(path, count, spacing=1)


def sheet_gaps(path: Path, count: int) -> Path:
    return _sheet(path, count, margin=3, spacing=2)


def sheet_enlarged(path: Path, count: int) -> Path:
    path.mkdir()
    return write(path / "sheet.png", enlarged(tiled(sprites(count), columns(count), 1, 1), 10))


def sheet_opaque(path: Path, count: int) -> Path:
    """Over one colour, with every seventh cell empty."""
    pixels = opaque(count)
    pixels[::7] = (48, 96, 130)
    path.mkdir()
    cells = tiled(pixels, columns(count))
    cells[(cells == 0).all(-1)] = (48, 96, 130)
    return write(path / "sheet.png", cells)


def sheet_lines(path: Path, count: int) -> Path:
    """A grid of black lines between and around the tiles."""
    path.mkdir()
    whole = tiled(opaque(count), columns(count), 1, 1)
    whole[(whole == 0).all(-1)] = (0, 0, 0)
    return write(path / "sheet.png", whole)


def aseprite(path: Path, count: int) -> Path:
    """A packed sheet of trimmed frames, a tag for every four, and the JSON that Aseprite writes with it."""
    path.mkdir()
    images, entries, left = [], [], 0
    for number, pixels in enumerate(sprites(count)):
        rows, across = (np.flatnonzero(pixels[..., 3].any(axis)) for axis in (1, 0))
        part = pixels[rows[0] : rows[-1] + 1, across[0] : across[-1] + 1]
        height, width = part.shape[:2]
        entries.append(
            {
                "filename": f"hero {number}.aseprite",
                "frame": {"x": left, "y": 0, "w": width, "h": height},
                "rotated": False,
                "trimmed": True,
                "spriteSourceSize": {"x": int(across[0]), "y": int(rows[0]), "w": width, "h": height},
                "sourceSize": {"w": SIDE, "h": SIDE},
                "duration": 100,
            }
        )
        images.append(np.pad(part, ((0, SIDE - height), (0, 0), (0, 0))))
        left += width
    tags = [
        {"name": f"walk {first}", "from": first, "to": first + 3, "direction": "forward"}
        for first in range(0, count, 4)
    ]
    content = {"frames": entries, "meta": {"app": "https://www.aseprite.org/", "image": "hero.png", "frameTags": tags}}
    (path / "hero.json").write_text(json.dumps(content))
    return write(path / "hero.png", np.concatenate(images, axis=1))


def tileset(path: Path, count: int) -> Path:
    """A tileset of Tiled, whose sheet has a margin and a spacing."""
    _sheet(path, count, 2, 1)
    (path / "tiles.tsx").write_text(
        '<?xml version="1.0" encoding="UTF-8"?>\n<tileset version="1.10" name="tiles" tilewidth="16" tileheight="16" '
        f'spacing="1" margin="2" tilecount="{count}" columns="{columns(count)}">\n'
        ' <image source="sheet.png" width="1" height="1"/>\n</tileset>\n'
    )
    return path / "tiles.tsx"
