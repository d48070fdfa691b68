"""SHA256SUMS of a directory, in the format of `sha256sum`: written last, checked before anything is read."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

NAME = "SHA256SUMS"


def write(directory: Path, items: Sequence[str]) -> None:
    """Write the sums of all files in a directory. Raises OSError, also if one of `items` (subdirectories) is empty."""
    files = sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())
    files = [name for name in files if name != NAME]
    if missing := _missing(files, items):
        raise OSError(f"{directory}: {missing}")
    with (directory / NAME).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{_sha256(directory / name)}  {name}\n" for name in files)
        file.flush()
        os.fsync(file.fileno())


def damage(directory: Path, items: Sequence[str]) -> str:
    """A description of the files that differ from their sums or the `items` that are missing; empty if intact.

    Only listed files count, so files added by a file manager or a sync tool do no harm.
    """
    try:
        expected = _parse((directory / NAME).read_bytes())
    except FileNotFoundError:
        return f"no {NAME}: its saving was cut off"
    except (OSError, ValueError) as error:
        return f"damaged: {NAME}: {error}"
    differing = []
    for name, sha256 in expected.items():
        try:
            if _sha256(directory / name) != sha256:
                differing.append(name)
        except OSError as error:
            differing.append(f"{name} ({error.strerror})")
    return f"damaged: {', '.join(sorted(differing))}" if differing else _missing(list(expected), items)


def _missing(files: list[str], items: Sequence[str]) -> str:
    missing = [item for item in items if not any(name.startswith(f"{item}/") for name in files)]
    return f"damaged: missing {' and '.join(missing)}" if missing else ""


def _parse(content: bytes) -> dict[str, str]:
    """Map paths to SHA-256; accepts Windows line ends. Raises ValueError for anything else `write` does not write."""
    sums = {}
    *lines, last = content.decode("utf-8").replace("\r\n", "\n").split("\n")
    for line in lines:
        match = re.fullmatch(r"([0-9a-f]{64})  (.+)", line)
        if match is None or Path(match[2]).is_absolute() or ".." in Path(match[2]).parts:
            raise ValueError("not a list of sums")
        sums[match[2]] = match[1]
    if last:
        raise ValueError("the last line is cut off")
    return sums


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
