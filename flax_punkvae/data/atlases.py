"""Files that say where the sprites of a sheet are: JSON of Aseprite and TexturePacker, XML, Tiled's tilesets."""

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from flax_punkvae.data import layouts
from flax_punkvae.data.decode import File, head
from flax_punkvae.data.layouts import Region
from flax_punkvae.data.trees import Tree
from flax_punkvae.errors import UserError

SUFFIXES = (".json", ".xml", ".tsx", ".tmx", ".tsj")
# Larger files are no descriptions.
_LARGEST_TEXT = 2**24


class Described(NamedTuple):
    """The sprites of each sheet that a file beside it describes, by the sheet's name, and the names of these files."""

    sheets: dict[str, list[Region]]
    files: frozenset[str]


def find(tree: Tree) -> Described:
    """The sheets of a tree that its other files describe; the first description of a sheet counts.

    Raises UserError, naming the file, for a description that cannot be used.
    """
    sheets: dict[str, list[Region]] = {}
    files: set[str] = set()
    known = set(tree.names)
    for name in sorted(name for name in tree.names if name.lower().endswith(SUFFIXES)):
        try:
            for sheet, regions in _described(name, tree.open, known.__contains__):
                sheets.setdefault(sheet, regions)
                files.add(name)
        except UserError as error:
            raise UserError(f"{tree.source}: {name}: {error}") from error
    return Described(sheets, frozenset(files))


def mentioned(folder: Path, name: str) -> list[str]:
    """The names of the files in a folder that a description needs, beginning with its own.

    Raises UserError if it is no description, or if none of the sheets that it names is in the folder.
    """
    names = [name]

    def exists(other: str) -> bool:
        names.append(other)
        return (folder / other).is_file()

    if any(_described(name, lambda other: folder / other, exists)):
        return [other for other in dict.fromkeys(names) if (folder / other).is_file()]
    asked = ", ".join(dict.fromkeys(names[1:]))
    raise UserError(
        f"the sheet that it describes ({asked}) is not in its folder: put it there"
        if asked
        else "it describes no sheet in its folder: name a sheet or a folder of images"
    )


def sprites(sheet: Image.Image, regions: list[Region]) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    """The sprites of a sheet, upright and on their canvas. Raises UserError for one that is outside of the sheet."""
    for region in regions:
        left, top, width, height = region.box
        if left < 0 or top < 0 or left + width > sheet.width or top + height > sheet.height:
            raise UserError(f"{region.name} is outside of the sheet: export the sheet and its description together")
        pixels = np.asarray(sheet.crop((left, top, left + width, top + height)))
        pixels = np.rot90(pixels) if region.turned else pixels
        if region.canvas == pixels.shape[1::-1] and region.place == (0, 0):
            yield pixels
            continue
        canvas = np.zeros((region.canvas[1], region.canvas[0], 4), np.uint8)
        column, row = region.place
        part = canvas[row : row + pixels.shape[0], column : column + pixels.shape[1]]
        part[:] = pixels[: part.shape[0], : part.shape[1]]
        yield canvas


def _described(
    name: str, open_file: Callable[[str], File], exists: Callable[[str], bool]
) -> Iterator[tuple[str, list[Region]]]:
    """(name of a sheet, its sprites) for each sheet that this file describes; nothing for a file of another kind."""
    text = _text(name, open_file)
    if name.lower().endswith((".json", ".tsj")):
        content = _json(text)
        if isinstance(content.get("frames"), list | Mapping):
            if sheet := _sheet(name, layouts.mapping(content.get("meta")).get("image"), exists):
                yield sheet, layouts.frames(content)
        elif "tilewidth" in content and "image" in content:
            yield from _tileset(name, content, open_file, exists)
        return
    root = _xml(text)
    if root is None:
        return
    if root.tag == "TextureAtlas" and (sheet := _sheet(name, root.get("imagePath"), exists)):
        yield sheet, [layouts.subtexture(element.attrib) for element in root.iter("SubTexture")]
    for element in root.iter("tileset"):
        if (image := element.find("image")) is not None:
            yield from _tileset(name, {**element.attrib, "image": image.get("source")}, open_file, exists)
        elif root.tag == "map" and (other := _inside(name, element.get("source"))) and exists(other):
            # A map names tilesets, and these name sheets.
            yield from _described(other, open_file, exists) if other.lower().endswith((".tsx", ".tsj")) else ()


def _tileset(
    name: str, attributes: Mapping[str, Any], open_file: Callable[[str], File], exists: Callable[[str], bool]
) -> Iterator[tuple[str, list[Region]]]:
    sheet = _inside(name, attributes.get("image"))
    if sheet and exists(sheet):
        # The size that the tileset states may be that of an older sheet. A sheet that cannot be read is reported later.
        found = head(open_file(sheet))
        yield sheet, layouts.tiles(attributes, (found.size[1], found.size[0])) if found else []


def _text(name: str, open_file: Callable[[str], File]) -> str:
    """The text of a small file in UTF-8 that may be a description; empty for any other."""
    try:
        file = open_file(name)
        if isinstance(file, Path) and file.stat().st_size > _LARGEST_TEXT:
            return ""
        content = file.read_bytes() if isinstance(file, Path) else file.read(_LARGEST_TEXT + 1)
        return content.decode("utf-8-sig") if len(content) <= _LARGEST_TEXT else ""
    except (OSError, UnicodeDecodeError, UserError):
        return ""


def _json(text: str) -> Mapping[str, Any]:
    # A set may have thousands of JSON files that describe its images in other ways.
    if '"frames"' not in text and '"tilewidth"' not in text:
        return {}
    try:
        return layouts.mapping(json.loads(text))
    except (ValueError, RecursionError):
        return {}


def _xml(text: str) -> ElementTree.Element | None:
    if "<TextureAtlas" not in text and "<tileset" not in text:
        return None
    # Entities can make a small file huge, or read others.
    if "<!DOCTYPE" in text:
        raise UserError("a description with a document type (<!DOCTYPE>) is not read: remove it")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError):
        return None


def _sheet(name: str, image: object, exists: Callable[[str], bool]) -> str | None:
    """The sheet that a description is of: the one that it names, in its own folder, or else the one of its name."""
    folder, file = posixpath.split(name)
    named = re.split(r"[/\\]", image)[-1] if isinstance(image, str) else ""
    for candidate in (named, f"{posixpath.splitext(file)[0]}.png"):
        if candidate and exists(posixpath.join(folder, candidate)):
            return posixpath.join(folder, candidate)
    return None


def _inside(name: str, path: object) -> str | None:
    """What a path in a description names; None if that is outside of the source."""
    if not isinstance(path, str):
        return None
    found = posixpath.normpath(posixpath.join(posixpath.dirname(name), path.replace("\\", "/")))
    is_outside = found.split("/")[0] == ".." or posixpath.isabs(found) or re.match("[A-Za-z]:", found)
    return None if is_outside else found
