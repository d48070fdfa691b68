"""Load images from disk: a sheet of tiles, or a folder of images of one size, with subfolders as labels."""

import difflib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from flax_punkvae.config import DataConfig
from flax_punkvae.data import fitting, sheets
from flax_punkvae.data.decode import read_rgba, size
from flax_punkvae.data.raw import Raw
from flax_punkvae.data.rendering import gather
from flax_punkvae.errors import UserError
from flax_punkvae.images import SPRITE_SIZE

_NAMED = ("auto", "punks", "synthetic")
_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp")
_NAMED_AT_MOST = 10


def load(path: Path, tile: tuple[int, int] = (SPRITE_SIZE, SPRITE_SIZE), config: DataConfig | None = None) -> Raw:
    """Load the images of a folder or, if `path` is a file, the tiles (width, height) of a sheet.

    With a config, a folder's images are reduced to what it needs as they are read. Raises UserError.
    """
    path = Path(os.path.expanduser(path))
    try:
        if path.is_dir():
            return _folder(path, config)
        if path.is_file():
            return sheets.load(path, tile, *((config.margin, config.spacing) if config else ()))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): name a readable sheet or folder") from error
    nearest = difflib.get_close_matches(str(path), _NAMED, n=1)
    hint = f" (perhaps you meant {nearest[0]})" if nearest else ""
    raise UserError(
        f"data.source: there is no file {str(path)!r}{hint}: name auto, punks, synthetic, hub:OWNER/NAME, or the path "
        "of a sheet or a folder"
    )


def _folder(path: Path, config: DataConfig | None) -> Raw:
    found, left_out = _listed(path)
    if not found:
        also = f", only {left_out}" if left_out else ""
        raise UserError(
            f"{path}: no images ({', '.join(_SUFFIXES)}) in this folder{also}: name the folder that holds them"
        )
    ordered, ids, numbered = _by_number(path, found)
    names = [_printable(file.relative_to(path).as_posix()) for file in ordered]
    fit = config.fit if config else "refuse"
    sizes = [None if fit == "refuse" else size(file) for file in ordered]
    canvas, strays, notes = fitting.plan(sizes, names, fit, f"folder {path}")
    kept = [place for place in range(len(ordered)) if place not in strays]
    ordered, ids, names = [ordered[x] for x in kept], [ids[x] for x in kept], [names[x] for x in kept]
    bad: list[str] = []

    def readable() -> Iterator[tuple[str, UInt8[np.ndarray, "h w 4"]]]:
        for file, name in zip(ordered, names, strict=True):
            try:
                if not file.is_file():
                    raise UserError("a broken link or a device, not a file")
                image = read_rgba(file)
            except UserError as error:
                bad.append(f"{name} ({error})")
            else:
                yield name, image if canvas is None else fitting.fitted(image, canvas, fit)

    pixels, shape = gather(readable(), len(ordered), f"folder {path}", config)
    if bad:
        more = f" and {len(bad) - _NAMED_AT_MOST} more" if len(bad) > _NAMED_AT_MOST else ""
        raise UserError(
            f"{path}: {len(bad)} of {len(found)} images cannot be read: "
            f"{'; '.join(bad[:_NAMED_AT_MOST])}{more}: repair or remove them"
        )
    count = len(pixels)
    notes = ((f"left out {left_out}",) if left_out else ()) + notes
    if not numbered:
        notes += (
            f"the {len(ordered)} file names do not each contain a distinct number: ids are positions in name order, "
            "and run.json lists the names",
        )
    labels, label_names = _labels(path, ordered)
    if label_names:
        notes += (f"{len(label_names)} labels from the names of subfolders: {_some(label_names)}",)
    files = () if numbered else tuple(names[:count])
    return Raw(pixels, np.array(ids[:count]), labels[:count], label_names, f"folder {path}", notes, files, shape)


def _labels(path: Path, files: list[Path]) -> tuple[UInt8[np.ndarray, "n a"], tuple[str, ...]]:
    """(0 or 1 for each file and label, the labels): the subfolders that a file is in, by their paths.

    A subfolder that holds all of the files tells nothing, and is no label.
    """
    within = [
        [_printable(folder.as_posix()) for folder in file.relative_to(path).parents if folder.name] for file in files
    ]
    counts = Counter(name for folders in within for name in folders)
    names = tuple(sorted((name for name, count in counts.items() if count < len(files)), key=_natural_order))
    has = np.array([[name in folders for name in names] for folders in within], np.uint8)
    return has.reshape(len(files), len(names)), names


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more


def _listed(path: Path) -> tuple[list[Path], str]:
    """The image files in a folder and its subfolders, and a summary of what else is there, empty if there is nothing.

    Links to folders are not followed: they may lead back. Raises OSError.
    """
    found: list[Path] = []
    others, links, hidden = Counter[str](), 0, 0
    for folder, folders, names in os.walk(path, onerror=_raised):
        hidden += sum(map(_is_hidden, (*folders, *names)))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        links += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
        for file in (Path(folder, name) for name in names if not _is_hidden(name)):
            suffix = file.suffix.lower()
            if suffix in _SUFFIXES:
                found.append(file)
            else:
                others[suffix or "no suffix"] += 1
    named = ", ".join(_printable(suffix) for suffix, _ in sorted(others.items(), key=lambda item: (-item[1], item[0])))
    counts = (
        (links, "link", " to folders"),
        (others.total(), "file", f" of other formats ({named})"),
        (hidden, "hidden file", ""),
    )
    return found, _listing([f"{count} {noun}{'s' * (count > 1)}{what}" for count, noun, what in counts if count])


def _is_hidden(name: str) -> bool:
    # macOS puts a folder of this name beside what it archives.
    return name.startswith(".") or name == "__MACOSX"


def _raised(error: OSError) -> None:
    raise error


def _listing(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _by_number(path: Path, files: list[Path]) -> tuple[list[Path], list[int], bool]:
    """Files in order, their ids, and whether the ids come from the names.

    They do if the last number in each name is distinct; otherwise ids are positions in natural order, folder by folder.
    Names are compared in composed form (NFC), since macOS stores decomposed ones, so the order is the same everywhere.
    """
    names = {file: unicodedata.normalize("NFC", file.relative_to(path).as_posix()) for file in files}
    ordered = sorted(files, key=lambda file: (_natural_order(names[file]), str(file)))
    numbers = [int((re.findall(r"\d+", Path(names[file]).stem) or ["-1"])[-1]) for file in ordered]
    # Longer numbers are hashes or timestamps rather than image numbers, and may not fit in an int64.
    if all(0 <= number < 10**15 for number in numbers) and len(set(numbers)) == len(files):
        places = sorted(range(len(files)), key=numbers.__getitem__)
        return [ordered[place] for place in places], [numbers[place] for place in places], True
    return ordered, list(range(len(files))), False


def _natural_order(name: str) -> tuple[list[str], str]:
    # Zero-padded numbers sort numerically; the name itself breaks ties such as a1 and a01.
    return [part.zfill(255) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def _printable(name: str) -> str:
    # A name that is not UTF-8 contains lone surrogates, which our UTF-8 files cannot store.
    return unicodedata.normalize("NFC", name).encode("utf-8", "backslashreplace").decode("utf-8")
