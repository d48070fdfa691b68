"""What the names of files say: their order, the numbers of the images, and labels; and how lines list and count."""

import posixpath
import re
import unicodedata
from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import UInt8

_NAMED_AT_MOST = 10


def ordered(names: Sequence[str]) -> list[str]:
    """File names in natural order, folder by folder.

    Compared in composed form (NFC), since macOS stores decomposed names, so the order is the same everywhere.
    """
    return sorted(names, key=lambda name: (_natural_order(unicodedata.normalize("NFC", name)), name))


def numbers(names: Sequence[str]) -> list[int] | None:
    """The last number in each name, without its suffix; None if some have none, or two the same."""
    stems = [unicodedata.normalize("NFC", PurePosixPath(name).stem) for name in names]
    found = [int((re.findall(r"\d+", stem) or ["-1"])[-1]) for stem in stems]
    # Longer numbers are hashes or timestamps rather than image numbers, and may not fit in an int64.
    return found if all(0 <= number < 10**15 for number in found) and len(set(found)) == len(names) else None


def labels(files: Sequence[str], taken: Sequence[int]) -> tuple[UInt8[np.ndarray, "n a"], tuple[str, ...]]:
    """(0 or 1 for each file that is taken and each label, the labels): the subfolders of a file, by their paths.

    These begin below the innermost folder that holds all of them, which tells nothing.
    """
    folders = [PurePosixPath(files[place]).parent for place in taken]
    shared = posixpath.commonpath([folder.as_posix() for folder in folders]) if folders else ""
    paths = [folder.relative_to(shared) for folder in folders]
    within = [[printable(part.as_posix()) for part in (path, *path.parents) if part.name] for path in paths]
    names = tuple(sorted({name for labels in within for name in labels}, key=_natural_order))
    has = np.array([[name in folders for name in names] for folders in within], np.uint8)
    return has.reshape(len(taken), len(names)), names


def some(names: Sequence[str]) -> str:
    """The first of the names, and how many more there are."""
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more


def counted(count: int, noun: str) -> str:
    """Such as `1 image` or `2,000 images`."""
    return f"{count:,} {noun}{'s' * (count != 1)}"


def printable(name: str) -> str:
    """The name in composed form and in UTF-8, which a file name need not be: our files cannot store lone surrogates."""
    return unicodedata.normalize("NFC", name).encode("utf-8", "backslashreplace").decode("utf-8")


def _natural_order(name: str) -> tuple[list[str], str]:
    # Zero-padded numbers sort numerically; the name itself breaks ties such as a1 and a01.
    return [part.zfill(255) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name
