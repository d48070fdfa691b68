"""Results that took long, kept in a private directory; a damaged or missing one is computed again."""

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# The oldest of more files are removed: of the reference model, one takes 20 MB.
_MOST_FILES = 30


class Cache:
    """Files in a directory, named after what they hold and the facts it depends on; without one, nothing is kept."""

    def __init__(self, directory: Path | None) -> None:
        self.directory = directory
        if directory:
            by_age = sorted(directory.iterdir(), key=lambda file: file.stat().st_mtime)
            for file in by_age[:-_MOST_FILES]:
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
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
                np.save(file, found)
            os.replace(file.name, path)
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
            with tempfile.NamedTemporaryFile(dir=path.parent, delete=False, mode="w", encoding="utf-8") as file:
                json.dump(found, file)
            os.replace(file.name, path)
            return found

    def _path(self, what: str, facts: Sequence[str], suffix: str) -> Path | None:
        digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()
        return self.directory / f"{what}-{digest}{suffix}" if self.directory else None
