"""The flags that say what of a run a program opens; the same for all that open one."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Images:
    """Where the run's images are now."""

    source: str | None = None
    """Where the run's images are now, if not where they were: as in training, a sheet, a folder, punks or hub:..."""
    tile: tuple[int, int] | None = None
    """Width and height of a tile, where they are now in a sheet."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """Which checkpoint to open, and where its images are."""

    checkpoint: str | None = None
    """last, best (by validation loss), or the number of a step; best where the run has validation images, else
    last."""
    data: Images = field(default_factory=Images)
