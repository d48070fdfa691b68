"""Which checkpoints a run has on disk, which one is opened, and which are kept.

A checkpoint is a directory `<step>` with a SHA256SUMS of all its files, so that damaged files are never parsed. It is
written to `<step>.saving` and renamed when complete.

`steps`, `damage` and `find` only read, and are safe while the run is training. All other functions require the run's
lock.
"""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

from flax_punkvae.devices import processes
from flax_punkvae.errors import UserError
from flax_punkvae.training import sums

# Older versions saved no item `model`; their checkpoints can still be continued and opened.
_NEEDED = ("state", "meta")
_WRITTEN = (*_NEEDED, "model")
_STEP = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
# Directories that an interrupted save or deletion leaves behind: ours, and Orbax's temporary ones.
_LEFTOVER = re.compile(r"[0-9]+(\..*)?\.deleting|[0-9]+\.(saving(\..*)?|orbax-checkpoint-tmp.*)", re.ASCII)
_SET_ASIDE = re.compile(r"([0-9]+)\.damaged", re.ASCII)

Which = Literal["last", "best"] | int
T = TypeVar("T")


def steps(directory: Path) -> list[int]:
    """The steps that have a checkpoint, complete or not, in ascending order."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if _STEP.fullmatch(path.name) and path.is_dir())


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint (checksum mismatch, missing files); empty if it is intact."""
    return sums.damage(checkpoint, _NEEDED)


def find(directory: Path, which: Which, read: Callable[[Path], T]) -> tuple[int, T, list[str]] | None:
    """Choose an intact checkpoint and read it with `read`; None if no checkpoint was ever completed.

    Returns (step, result of `read`, damaged), where `damaged` lists the steps that were skipped, and why.

    `last` is the newest intact checkpoint; `best` is the one with the lowest validation loss, or the newest if none has
    one; a number is that step. A checkpoint counts as damaged if `read` raises. Changes nothing on disk. Raises
    UserError if there are checkpoints, but none that is intact and matches `which`.
    """
    present = steps(directory)
    if isinstance(which, int) and which not in present:
        raise UserError(f"{directory} has no checkpoint of step {which}: choose one of {', '.join(map(str, present))}")
    damaged: dict[int, str] = {}
    while (step := _choose(directory, which, damaged)) is not None:
        content = _read_intact(directory / str(step), read, damaged)
        if content is not None:
            return step, content, _listed(damaged)
    if not damaged or _is_interrupted_first_save(directory):
        return None
    raise UserError(
        f"{directory} has no intact checkpoint, only {', '.join(_listed(damaged))}: restore one from a backup, or "
        "start a new run in another --run-dir"
    )


def tidy(directory: Path, step: int) -> None:
    """Prepare to continue from `step`: remove leftovers of interrupted saves and set later checkpoints aside.

    Later checkpoints are damaged. They become `<step>.damaged` and are removed once the run has an intact checkpoint at
    or after that step.
    """
    if not directory.is_dir():
        return
    for path in list(directory.iterdir()):
        if _LEFTOVER.fullmatch(path.name) and os.path.lexists(path):
            _delete(path)
    for other in steps(directory):
        if other > step:
            _set_aside(directory / str(other))


def make_room(directory: Path, step: int) -> None:
    """Prepare to save `step`: remove leftovers of earlier saves and set aside a damaged checkpoint of that step."""
    directory.mkdir(exist_ok=True)
    for path in list(directory.glob(f"{step}.*")):
        if _LEFTOVER.fullmatch(path.name) and os.path.lexists(path):
            _delete(path)
    if (directory / str(step)).exists():
        _set_aside(directory / str(step))


def certify(part: Path, final: Path) -> None:
    """Write the checksums of a complete checkpoint and give it its final name. Raises OSError."""
    sums.write(part, _WRITTEN)
    part.rename(final)


def prune(directory: Path, saved: int) -> None:
    """Remove checkpoints older than the last two intact ones, except the best, and those set aside up to `saved`."""
    damaged: dict[int, str] = {}
    best = _choose(directory, "best", damaged)
    intact = [step for step in steps(directory) if step not in damaged]
    # With fewer than two, remove nothing: seeming damage may be a temporary disk error.
    oldest = intact[-2] if len(intact) > 1 else 0
    for step in steps(directory):
        if step < oldest and step != best:
            _delete(directory / str(step))
    for path in list(directory.iterdir()):
        if (match := _SET_ASIDE.fullmatch(path.name)) and int(match[1]) <= saved:
            _delete(path)


def _set_aside(checkpoint: Path) -> None:
    aside = checkpoint.with_name(f"{checkpoint.name}.damaged")
    if aside.exists():
        _delete(aside)
    checkpoint.rename(aside)


def _delete(path: Path) -> None:
    doomed = path
    if not path.name.endswith(".deleting"):
        # Renamed first, so that no reader finds a half-deleted directory under its original name.
        doomed = path.with_name(f"{path.name}.deleting")
        if os.path.lexists(doomed):
            _delete(doomed)
        path.rename(doomed)
    if doomed.is_symlink() or not doomed.is_dir():
        doomed.unlink()
    else:
        shutil.rmtree(doomed)


def checked_meta(meta: Any) -> dict[str, Any]:
    """`meta`, if it is a valid meta of a checkpoint. Raises ValueError otherwise."""
    if not (isinstance(meta, dict) and isinstance(meta.get("totals"), dict)):
        raise ValueError("its meta is not valid")
    return meta


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _choose(directory: Path, which: Which, damaged: dict[int, str]) -> int | None:
    """The step to try next. For `best`, adds the steps whose meta cannot be read to `damaged`."""
    candidates = [step for step in steps(directory) if step not in damaged]
    if isinstance(which, int):
        return which if which in candidates else None
    if which == "last":
        return candidates[-1] if candidates else None
    metas = {step: _read_intact(directory / str(step), _read_meta, damaged) for step in candidates}
    losses = {step: meta.get("validation_loss") for step, meta in metas.items() if meta is not None}
    measured = [step for step, loss in losses.items() if loss is not None]
    return min(measured, key=lambda step: (losses[step], step)) if measured else max(losses, default=None)


def _read_intact(checkpoint: Path, read: Callable[[Path], Any], damaged: dict[int, str]) -> Any | None:
    """The result of `read` for an intact checkpoint; None, with the reason in `damaged`, for a damaged one."""
    found = damage(checkpoint)
    if not found:
        try:
            return read(checkpoint)
        except Exception as error:  # Orbax and TensorStore raise almost anything for invalid files.
            if processes.is_loss(error):
                raise
            found = f"damaged: {first_line(error)}"
    # If it no longer exists, a running training has pruned it in the meantime.
    if checkpoint.exists():
        damaged[int(checkpoint.name)] = found
    return None


def _is_interrupted_first_save(directory: Path) -> bool:
    """Whether the only checkpoint is an interrupted first save, so that restarting from step 0 loses nothing."""
    present = steps(directory)
    return len(present) == 1 and not (directory / str(present[0]) / sums.NAME).exists()


def _listed(damaged: dict[int, str]) -> list[str]:
    return [f"{step} ({text})" for step, text in sorted(damaged.items(), reverse=True)]


def _read_meta(checkpoint: Path) -> dict[str, Any]:
    # Not with Orbax, which waits for all processes to restore: only the first one prunes.
    return checked_meta(json.loads((checkpoint / "meta" / "metadata").read_text(encoding="utf-8")))
