"""Flags shared by all programs that open a model: which checkpoint, and where the images are."""

from dataclasses import dataclass, field
from pathlib import Path

# The files of a published model that are read.
PUBLISHED_CONFIG, PUBLISHED_WEIGHTS = "config.json", "model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Images:
    """Where to find the run's images."""

    source: str | None = None
    """Where the run's images are, if they have moved since training; takes the same values as train's
    --data.source."""
    tile: tuple[int, int] | None = None
    """Width and height of one tile, if the images are now in a sheet."""
    margin: int | None = None
    """Pixels around the tiles, if the images are now in a sheet."""
    spacing: int | None = None
    """Pixels between the tiles, if the images are now in a sheet."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Which checkpoint to open, and where to find its images."""

    checkpoint: str | None = None
    """Checkpoint to open: last, best (by validation loss) or a step number. The default is best for runs with
    validation images, last for others."""
    data: Images = field(default_factory=Images)


def is_published(directory: Path) -> bool:
    """Whether the directory looks like a published model rather than a run."""
    return (directory / PUBLISHED_CONFIG).is_file() and (directory / PUBLISHED_WEIGHTS).is_file()


def output_root(where: Path) -> Path:
    """Where programs write about a model: into its run or, if it is published, into the working directory."""
    return Path() if str(where).startswith("hub:") or is_published(where) else where
