"""What the names of files say: their order, the numbers of the images, and labels."""

import posixpath
import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import UInt8

_NAMED_AT_MOST = 10


def by_number(names: Sequence[str]) -> tuple[list[str], list[int] | None]:
    """File names in order, and their numbers.

    These are the last numbers in the names, if each has another one; otherwise None, and names are in natural order,
    folder by folder. Names are compared in composed form (NFC), since macOS stores decomposed ones, so the order is the
    same everywhere.
    """
    composed = {name: unicodedata.normalize("NFC", name) for name in names}
    ordered = sorted(names, key=lambda name: (_natural_order(composed[name]), name))
    numbers = [int((re.findall(r"\d+", PurePosixPath(composed[name]).stem) or ["-1"])[-1]) for name in ordered]
    # Longer numbers are hashes or timestamps rather than image numbers, and may not fit in an int64.
    if all(0 <= number < 10**15 for number in numbers) and len(set(numbers)) == len(names):
        places = sorted(range(len(names)), key=numbers.__getitem__)
        return [ordered[place] for place in places], [numbers[place] for place in places]
    return ordered, None


def labels(files: Sequence[str]) -> tuple[UInt8[np.ndarray, "n a"], tuple[str, ...]]:
    """(0 or 1 for each file and label, the labels): the subfolders that a file is in, by their paths.

    These begin below the innermost folder that holds all of the files, which tells nothing.
    """
    folders = [PurePosixPath(file).parent for file in files]
    shared = posixpath.commonpath([folder.as_posix() for folder in folders]) if files else ""
    paths = [folder.relative_to(shared) for folder in folders]
    within = [[printable(part.as_posix()) for part in (path, *path.parents) if part.name] for path in paths]
    names = tuple(sorted({name for labels in within for name in labels}, key=_natural_order))
    has = np.array([[name in folders for name in names] for folders in within], np.uint8)
    return has.reshape(len(files), len(names)), names


def some(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more


def printable(name: str) -> str:
    """The name in composed form and in UTF-8, which a file name need not be: our files cannot store lone surrogates."""
    return unicodedata.normalize("NFC", name).encode("utf-8", "backslashreplace").decode("utf-8")


def _natural_order(name: str) -> tuple[list[str], str]:
    # Zero-padded numbers sort numerically; the name itself breaks ties such as a1 and a01.
    return [part.zfill(255) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name
