"""Load images from disk: a folder or ZIP archive with its subfolders as labels, an animation, or a sheet of tiles."""

import difflib
import os
import zipfile
from collections import Counter
from collections.abc import Container, Iterator, Mapping
from pathlib import Path, PurePosixPath

import numpy as np
from jaxtyping import UInt8

from flax_punkvae.config import DataConfig
from flax_punkvae.data import atlases, decode, fitting, naming, pictures, scaling, sheets, trees
from flax_punkvae.data.layouts import Region
from flax_punkvae.data.raw import Raw
from flax_punkvae.data.rendering import gather
from flax_punkvae.data.trees import Tree
from flax_punkvae.errors import UserError

_NAMED = ("auto", "punks", "synthetic")
_ASEPRITE = (".ase", ".aseprite")
_EXPORT = "export a sheet and its JSON with Aseprite (aseprite -b FILE --sheet FILE.png --data FILE.json)"
_NAMED_AT_MOST = 10


def load(path: Path, tile: tuple[int, int] | None = None, config: DataConfig | None = None) -> Raw:
    """Load the images of a folder, an archive or an animation, or the tiles (width, height) of a sheet.

    A sheet's sprites are where a file beside it says, unless a tile is given, or else in a grid, whose tile is guessed
    if it is None. With a config, images are reduced to what it needs as they are read. Raises UserError.
    """
    path = Path(os.path.expanduser(path))
    try:
        if path.is_dir():
            return _load(trees.of_folder(path), config)
        if path.is_file():
            return _file(path, tile, config)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name a readable sheet or folder") from error
    nearest = difflib.get_close_matches(str(path), _NAMED, n=1)
    hint = f" (perhaps you meant {nearest[0]})" if nearest else ""
    raise UserError(
        f"data.source: there is no file {str(path)!r}{hint}: name auto, punks, synthetic, hub:OWNER/NAME, or the path "
        "of a sheet or a folder"
    )


def _file(path: Path, tile: tuple[int, int] | None, config: DataConfig | None) -> Raw:
    suffix = path.suffix.lower()
    if suffix in _ASEPRITE:
        raise UserError(f"{path}: files of Aseprite itself are not read: {_EXPORT}")
    if suffix in atlases.SUFFIXES:
        try:
            names = atlases.mentioned(path.parent, path.name)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
        return _load(trees.of_files(f"sheet {path}", path.parent, names), config)
    found = decode.head(path)
    if found is None and zipfile.is_zipfile(path):
        with trees.of_archive(path) as tree:
            return _load(tree, config)
    beside = [name for suffix in atlases.SUFFIXES if (path.parent / (name := path.stem + suffix)).is_file()]
    tree = trees.of_files(f"sheet {path}", path.parent, [path.name, *beside])
    if tile is None and path.name in atlases.find(tree).sheets:
        return _load(tree, config)
    if found and found.frames > 1:
        return _load(trees.of_files(f"animation {path}", path.parent, [path.name]), config)
    return sheets.load(path, tile, config)


def _load(tree: Tree, config: DataConfig | None) -> Raw:
    """All images of a tree. Raises UserError."""
    frames, fit = (config.frames, config.fit) if config else ("all", "refuse")
    described = atlases.find(tree)
    listed = _images(tree, described.files)
    found, numbers, plan = _chosen(tree, listed, described.sheets, config)
    by = pictures.enlargement(tree, found, config)
    canvas = plan.canvas and (-(-plan.canvas[0] // by), -(-plan.canvas[1] // by))
    names = pictures.names(found)
    bad: dict[str, str] = {}
    taken: list[int] = []
    skipped = Counter[str]()

    def ready() -> Iterator[tuple[str, UInt8[np.ndarray, "h w 4"]]]:
        for place, pixels in pictures.read(tree, found, frames, bad, skipped):
            taken.append(place)
            image = scaling.undone(pixels, by)
            yield names[place], image if canvas is None else fitting.fitted(image, canvas, fit)

    pixels, shape = gather(ready(), len(names), tree.source, config)
    _check(tree, len(listed), len(names), bad, len(taken))
    has, labels = naming.labels([picture.file for picture in found for _ in picture.parts], taken)
    notes = (
        *_left_out(tree, {*listed, *described.files}),
        *plan.notes,
        *pictures.notes(found, skipped),
        *scaling.note(by),
        *(() if numbers else (_positions(len(found), len(names)),)),
        *(
            (f"{naming.counted(len(labels), 'label')} from the names of subfolders: {naming.some(labels)}",)
            * bool(labels)
        ),
    )
    taken = taken[: len(pixels)]
    ids = np.array(numbers or range(len(names)))[taken]
    files = () if numbers else tuple(names[place] for place in taken)
    groups = pictures.groups(found, taken)
    return Raw(pixels, ids, has[: len(pixels)], labels, tree.source, notes, files, shape, groups)


def _chosen(
    tree: Tree, listed: list[str], sheets: Mapping[str, list[Region]], config: DataConfig | None
) -> tuple[list[pictures.Picture], list[int] | None, fitting.Plan]:
    """(the pictures that are used, their numbers, how they fit); without distinct numbers, None and in name order."""
    found = [pictures.look(tree, name, config.frames if config else "all", sheets) for name in naming.ordered(listed)]
    sizes = [size for picture in found for size in picture.sizes]
    plan = fitting.plan(sizes, pictures.names(found), config.fit if config else "refuse", tree.source)
    found = pictures.without(found, plan.left_out)
    numbers = naming.numbers([picture.file for picture in found])
    if numbers is None or any(picture.parts != ("",) for picture in found):
        return found, None, plan
    order = sorted(range(len(found)), key=numbers.__getitem__)
    return [found[place] for place in order], sorted(numbers), plan


def _images(tree: Tree, descriptions: frozenset[str]) -> list[str]:
    """The names of a tree's image files. Raises UserError if it holds no image."""
    names = [name for name in tree.names if PurePosixPath(name).suffix.lower() in decode.SUFFIXES]
    if not names:
        also = "".join(f", only {note.removeprefix('left out ')}" for note in _left_out(tree, descriptions))
        raise UserError(
            f"{tree.source}: no images ({', '.join(decode.SUFFIXES)}) in it{also}: name the folder that holds them"
        )
    return names


def _check(tree: Tree, files: int, images: int, bad: dict[str, str], taken: int) -> None:
    """Raise UserError if files could not be read, or if no image is left."""
    if bad:
        problems = [f"{naming.printable(name)} ({problem})" for name, problem in bad.items()]
        more = f" and {len(bad) - _NAMED_AT_MOST} more" if len(bad) > _NAMED_AT_MOST else ""
        raise UserError(
            f"{tree.source}: {len(bad)} of {files} images cannot be read: "
            f"{'; '.join(problems[:_NAMED_AT_MOST])}{more}: repair or remove them"
        )
    if not taken:
        raise UserError(f"{tree.source}: none of {images} images has more than one colour: name another folder")


def _positions(files: int, images: int) -> str:
    what = (
        f"the {files} file names do not each contain a distinct number"
        if files == images
        else f"{images} images in {naming.counted(files, 'file')} have no numbers of their own"
    )
    return f"{what}: ids are positions in name order, and run.json lists the names"


def _left_out(tree: Tree, used: Container[str]) -> tuple[str, ...]:
    """A line about what else is in a tree, if there is anything."""
    others = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in tree.names if name not in used)
    named = ", ".join(
        naming.printable(suffix) for suffix, _ in sorted(others.items(), key=lambda item: (-item[1], item[0]))
    )
    counts = (
        (tree.links, "link", " to folders"),
        (others.total(), "file", f" of other formats ({named})"),
        (tree.hidden, "hidden file", ""),
    )
    parts = [f"{count} {noun}{'s' * (count > 1)}{what}" for count, noun, what in counts if count]
    listing = " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
    advice = f"; {_EXPORT}" if any(suffix in others for suffix in _ASEPRITE) else ""
    return (f"left out {listing}{advice}",) if parts else ()
