"""Results that took long, kept in a private directory; a damaged or missing one is computed again.

Servers may share the directory.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

# The oldest of more files are removed: of the reference model, one takes 20 MB.
_MOST_FILES = 30


class Cache:
    """Files in a directory, named after what they hold and the facts it depends on; without one, nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        if directory:
            files = (path for path in directory.iterdir() if not path.is_dir())
            for file in sorted(files, key=_changed)[:-_MOST_FILES]:
                file.unlink(missing_ok=True)

    def array(self, what: str, facts: Sequence[str], make: Callable[[], np.ndarray]) -> np.ndarray:
        """The array that `make` makes."""
        path = self._path(what, facts, ".npy")
        if path is None:
            return make()
        try:
            return np.load(path)
        except (OSError, ValueError, EOFError):
            found = make()
            _keep(path, lambda file: np.save(file, found))
            return found

    def table(self, what: str, facts: Sequence[str], make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The table, of what JSON can hold, that `make` makes."""
        path = self._path(what, facts, ".json")
        if path is None:
            return make()
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            found = make()
            _keep(path, lambda file: file.write(json.dumps(found).encode()))
            return found

    def _path(self, what: str, facts: Sequence[str], suffix: str) -> Path | None:
        digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()
        return self.directory / f"{what}-{digest}{suffix}" if self.directory else None


def _changed(file: Path) -> float:
    """When the file was last changed, in seconds; 0 if another server has just removed it."""
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _keep(path: Path, write: Callable[[IO[bytes]], Any]) -> None:
    """Write the file, all of it or nothing. If that fails, as on a full disk, it is computed again the next time."""
    name = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            name = Path(file.name)
            write(file)
        os.replace(name, path)
    except OSError:
        if name:
            name.unlink(missing_ok=True)
