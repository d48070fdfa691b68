"""The images of a source's files: stills, frames of animations, sprites of sheets that a file beside them describes."""

import hashlib
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae.config import DataConfig
from flax_punkvae.data import animations, atlases, naming, scaling
from flax_punkvae.data.animations import Frames
from flax_punkvae.data.decode import head, open_rgba
from flax_punkvae.data.fitting import Size
from flax_punkvae.data.layouts import Region
from flax_punkvae.data.naming import counted
from flax_punkvae.data.trees import Tree
from flax_punkvae.errors import UserError
from flax_punkvae.images import enlarges


@dataclass(frozen=True)
class Picture:
    """A file with an image, or with several.

    parts: what the name of each image adds to the file's name; empty for the image of a still. sizes: their (height,
    width) if known. groups: for each, what it has in common with other images of this file, such as its animation; None
    if nothing. deep: it has 16 bits per sample. regions: where its sprites are, if it is a sheet.
    """

    file: str
    parts: tuple[str, ...]
    sizes: tuple[Size | None, ...]
    groups: tuple[str | None, ...]
    deep: bool = False
    regions: tuple[Region, ...] = ()


def look(tree: Tree, file: str, frames: Frames, sheets: Mapping[str, list[Region]]) -> Picture:
    """What a file of the tree holds, by its head; a file that cannot be read is a still of unknown size."""
    try:
        found = head(tree.open(file))
    except UserError:
        found = None
    if regions := sheets.get(file):
        regions = list(_firsts(regions)) if frames == "first" else regions
        return Picture(
            file,
            tuple(f"#{region.name}" for region in regions),
            tuple((region.canvas[1], region.canvas[0]) for region in regions),
            tuple(region.group for region in regions),
            found is not None and found.deep,
            tuple(regions),
        )
    if found is None:
        return Picture(file, ("",), (None,), (None,))
    count = 1 if frames == "first" else found.frames
    if count == 1:
        return Picture(file, ("",), (found.size,), (None,), found.deep)
    parts = tuple(f"#{number}" for number in range(count))
    return Picture(file, parts, (found.size,) * count, ("",) * count, found.deep)


def names(found: list[Picture]) -> list[str]:
    """The names of all images of the pictures, such as `walk.gif#2`."""
    return [naming.printable(picture.file + part) for picture in found for part in picture.parts]


def without(found: list[Picture], left_out: Container[int]) -> list[Picture]:
    """The pictures without the images at these positions among all of them, and without pictures that lose all."""
    kept, start = [], 0
    for picture in found:
        places = range(start, start + len(picture.parts))
        start = places.stop
        rest = [part for part, place in enumerate(places) if place not in left_out]
        if len(rest) == len(places):
            kept.append(picture)
        elif rest:
            of = {name: tuple(getattr(picture, name)[part] for part in rest) for name in ("parts", "sizes", "groups")}
            # Frames of an animation are of one size, so that this is a sheet.
            kept.append(replace(picture, **of, regions=tuple(picture.regions[part] for part in rest)))
    return kept


def read(
    tree: Tree, found: list[Picture], frames: Frames, bad: dict[str, str], skipped: Counter[str]
) -> Iterator[tuple[int, UInt8[np.ndarray, "h w 4"]]]:
    """(position among the images of all pictures, pixels) of the images that are to be used, in their order.

    Leaves out, and counts in `skipped`, images of a single colour ("plain") and exact repeats within an animation
    ("repeats"). What is wrong with a file that cannot be read goes to `bad`.
    """
    start = 0
    for picture in found:
        seen: set[tuple[str, bytes]] = set()
        places = range(start, start + len(picture.parts))
        start = places.stop
        try:
            for place, group, pixels in zip(places, picture.groups, _images(tree, picture, frames), strict=False):
                key = None if group is None else (group, hashlib.sha256(pixels.tobytes()).digest())
                if scaling.is_plain(pixels):
                    skipped["plain"] += 1
                elif key in seen:
                    skipped["repeats"] += 1
                else:
                    seen.update([key] if key else [])
                    yield place, pixels
        except UserError as error:
            bad[picture.file] = str(error)


def enlargement(tree: Tree, found: list[Picture], config: DataConfig | None) -> int:
    """The factor by which all images are enlarged, if the config renders sprites as they are, else 1.

    All images decide, whatever data.limit is: those before the first that is not enlarged are read twice.
    """
    if config is None or enlarges(config.render):
        return 1
    images = read(tree, found, config.frames, {}, Counter())
    return scaling.common(pixels[None] for _, pixels in images)


def groups(found: list[Picture], taken: list[int]) -> Int[np.ndarray, "n"] | None:
    """A number for each image that is used, the same for those of one animation; None if that says nothing.

    That is, if each image is on its own, or all of them are of one animation.
    """
    keys = [
        (number, place if group is None else group)
        for number, picture in enumerate(found)
        for place, group in enumerate(picture.groups)
    ]
    keys = [keys[place] for place in taken]
    distinct = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    if len(distinct) in (1, len(keys)):
        return None
    return np.array([distinct[key] for key in keys])


def notes(found: list[Picture], skipped: Counter[str]) -> tuple[str, ...]:
    """Lines for the user about what was found in files, and what of it is left out."""
    animated = [picture for picture in found if len(picture.parts) > 1 and not picture.regions]
    sheets = [picture for picture in found if picture.regions]
    frames, sprites = (sum(len(picture.parts) for picture in of) for of in (animated, sheets))
    repeats, plain, deep = skipped["repeats"], skipped["plain"], sum(picture.deep for picture in found)
    lines = (
        (frames, f"{counted(frames, 'frame')} of {counted(len(animated), 'animation')} (--data.frames)"),
        (
            sprites,
            f"{counted(sprites, 'sprite')} of {counted(len(sheets), 'sheet')}, where a file beside it says",
        ),
        (repeats, f"left out {counted(repeats, 'frame')}, each the repeat of an earlier one of its animation"),
        (plain, f"left out {counted(plain, 'image')} of a single colour or transparent everywhere"),
        (deep, f"{counted(deep, 'image')} of 16 bits per sample, brought to 8"),
    )
    return tuple(line for count, line in lines if count)


def _images(tree: Tree, picture: Picture, frames: Frames) -> Iterator[UInt8[np.ndarray, "h w 4"]]:
    file = tree.open(picture.file)
    if picture.regions:
        return atlases.sprites(open_rgba(file), list(picture.regions))
    return animations.read(file, frames)


def _firsts(regions: list[Region]) -> Iterator[Region]:
    """The first sprite of each animation, and sprites of none."""
    seen: set[str] = set()
    for region in regions:
        if region.group is None or region.group not in seen:
            yield region
        seen.add(region.group or "")
