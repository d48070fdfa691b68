"""The sprites that a description lists: frames of Aseprite and TexturePacker, parts of XML atlases, tiles of Tiled."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from flax_punkvae.errors import UserError

# Larger sprites would take gigabytes, and more of them are no set of sprites.
_LARGEST_SIDE, _MOST = 4096, 10**6


class Region(NamedTuple):
    """Where a sprite is. box: (left, top, width, height) in the sheet. turned: it lies there on its right side.

    canvas: its (width, height) before it was trimmed. place: (left, top) of what is left on that canvas. group: what
    the frames of one animation have in common; None if it is not one of several frames.
    """

    name: str
    box: tuple[int, int, int, int]
    turned: bool
    canvas: tuple[int, int]
    place: tuple[int, int]
    group: str | None


def frames(content: Mapping[str, Any]) -> list[Region]:
    """The frames of Aseprite's or TexturePacker's JSON: a list, or by their names."""
    listed = content["frames"]
    if isinstance(listed, Mapping):
        named = list(listed.items())
    else:
        named = [(str(mapping(frame).get("filename", place)), frame) for place, frame in enumerate(listed)]
    tags = mapping(content.get("meta")).get("frameTags")
    ranges = [
        (str(tag.get("name")), *_numbers("a tag", tag, "from", "to"))
        for tag in map(mapping, tags if isinstance(tags, list) else [])
    ]
    found = []
    for place, (name, frame) in enumerate(named[:_MOST]):
        tag = next((name for name, first, last in ranges if first <= place <= last), None)
        found.append(_frame(name, mapping(frame), _stem(name) if tag is None else f"tag {tag}"))
    return found


def _frame(name: str, frame: Mapping[str, Any], group: str) -> Region:
    left, top, width, height = _numbers(name, frame.get("frame"), "x", "y", "w", "h")
    turned = bool(frame.get("rotated"))
    # Its width and height are those of the sprite that is not turned.
    box = (left, top, height, width) if turned else (left, top, width, height)
    canvas, place = (width, height), (0, 0)
    if frame.get("trimmed"):
        across, down = _numbers(name, frame.get("sourceSize"), "w", "h")
        column, row = _numbers(name, frame.get("spriteSourceSize"), "x", "y")
        canvas, place = (across, down), (column, row)
    return _checked(Region(name, box, turned, canvas, place, group))


def subtexture(attributes: Mapping[str, Any]) -> Region:
    """A sprite of an XML atlas (Starling, Sparrow), such as Kenney's. Its frame begins at (-frameX, -frameY)."""
    name = str(attributes.get("name"))
    left, top, width, height = _numbers(name, attributes, "x", "y", "width", "height")
    turned = attributes.get("rotated") == "true"
    whole = (height, width) if turned else (width, height)
    canvas, place = whole, (0, 0)
    if "frameWidth" in attributes:
        column, row, across, down = _numbers(name, attributes, "frameX", "frameY", "frameWidth", "frameHeight")
        canvas, place = (across, down), (-column, -row)
    return _checked(Region(name, (left, top, width, height), turned, canvas, place, _stem(name)))


def tiles(attributes: Mapping[str, Any], size: tuple[int, int]) -> list[Region]:
    """The tiles of a tileset of Tiled, whose sheet has this (width, height): those that are whole."""
    width, height = _numbers("the tileset", attributes, "tilewidth", "tileheight")
    margin, spacing, count = (_number(attributes.get(name, 0)) or 0 for name in ("margin", "spacing", "tilecount"))
    if min(width, height) < 1 or min(margin, spacing) < 0:
        raise UserError(f"tiles of {width}x{height} pixels are not possible: export the tileset again")
    across, down = (
        max(0, size[0] - margin + spacing) // (width + spacing),
        (size[1] - margin + spacing) // (height + spacing),
    )
    found = []
    for place in range(min(across * max(down, 0), count or _MOST, _MOST)):
        corner = margin + place % across * (width + spacing), margin + place // across * (height + spacing)
        found.append(_checked(Region(str(place), (*corner, width, height), False, (width, height), (0, 0), None)))
    return found


def mapping(value: object) -> Mapping[str, Any]:
    """The value, if it is a mapping, or an empty one."""
    return value if isinstance(value, Mapping) else {}


def _stem(name: str) -> str:
    """What the names of an animation's frames have in common: all before the number at their end."""
    return re.sub(r"[\s_.#()-]*\d*[\s)]*$", "", re.sub(r"\.[A-Za-z]\w*$", "", name))


def _checked(region: Region) -> Region:
    sides = (*region.box[2:], *region.canvas)
    if min(sides) < 1 or max(sides) > _LARGEST_SIDE or min(region.place) < 0:
        raise UserError(f"{region.name} has an impossible size or place: export the sheet and its description again")
    return region


def _numbers(name: str, values: object, *keys: str) -> list[int]:
    found = [_number(mapping(values).get(key)) for key in keys]
    if None in found:
        raise UserError(f"{name} has no whole numbers {', '.join(keys)}: export the sheet and its description again")
    return [number for number in found if number is not None]


def _number(value: object) -> int | None:
    """A whole number, or text of one, as XML has it."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(value)
    except (ValueError, OverflowError):
        return None
