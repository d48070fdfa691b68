"""The files below a folder or in a ZIP archive, which is read without unpacking it."""

import contextlib
import io
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flax_punkvae.data.decode import File
from flax_punkvae.errors import UserError

# A small archive may claim to hold terabytes: limits for one file and for all files.
_LARGEST_FILE, _LARGEST_ARCHIVE = 2**28, 2**34
# What file managers and archivers add to the files of a folder.
_ADDED = ("__macosx", "thumbs.db", "desktop.ini")


@dataclass(frozen=True)
class Tree:
    """Files of a source.

    source: what it is, such as `folder sprites`. names: of the files, relative and with slashes. links: number of links
    to folders, which are not followed, since they may lead back. hidden: number of hidden files and folders, which are
    not among the names. open: turns a name into what can be read; raises UserError if it cannot.
    """

    source: str
    names: list[str]
    links: int
    hidden: int
    open: Callable[[str], File]


def of_folder(path: Path) -> Tree:
    """The files below a folder. Raises OSError."""
    names: list[str] = []
    links, hidden = 0, 0
    for folder, folders, files in os.walk(path, onerror=_raised):
        hidden += sum(map(_is_hidden, (*folders, *files)))
        folders[:] = sorted(name for name in folders if not _is_hidden(name))
        links += sum(os.path.islink(os.path.join(folder, name)) for name in folders)
        names += [Path(folder, name).relative_to(path).as_posix() for name in files if not _is_hidden(name)]
    return Tree(f"folder {path}", names, links, hidden, lambda name: _file(path / name))


def of_files(source: str, folder: Path, names: list[str]) -> Tree:
    """Some files of a folder."""
    return Tree(source, names, 0, 0, lambda name: _file(folder / name))


@contextlib.contextmanager
def of_archive(path: Path) -> Iterator[Tree]:
    """The files in a ZIP archive, which stays open as long as they are read. Raises UserError."""
    try:
        with zipfile.ZipFile(path) as archive:
            files = {info.filename: info for info in archive.infolist() if not info.is_dir()}
            total = sum(info.file_size for info in files.values())
            if total > _LARGEST_ARCHIVE or any(info.file_size > _LARGEST_FILE for info in files.values()):
                raise UserError(
                    f"{path}: too large: an archive may hold {_LARGEST_FILE >> 20} MiB in a file and "
                    f"{_LARGEST_ARCHIVE >> 30} GiB in all: unzip it first, and name the folder"
                )
            names = [name for name in files if not any(map(_is_hidden, name.split("/")))]
            yield Tree(
                f"archive {path}", names, 0, len(files) - len(names), lambda name: _unzipped(archive, files[name])
            )
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: damaged: {error}: unzip it, and name the folder") from error


def _unzipped(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> io.BytesIO:
    if info.flag_bits & 1:
        raise UserError("encrypted: unzip it first, and name the folder")
    try:
        content = io.BytesIO(archive.read(info))
    except Exception as error:
        # zipfile raises almost any exception for a damaged archive.
        raise UserError(f"damaged: {' '.join(str(error).split())}") from error
    content.name = info.filename
    return content


def _file(path: Path) -> Path:
    if not path.is_file():
        raise UserError("a broken link or a device, not a file")
    return path


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _ADDED


def _raised(error: OSError) -> None:
    raise error
