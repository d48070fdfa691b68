"""Which checkpoints a run has on disk, which of them is opened, and which are kept.

A checkpoint is a directory `<step>` with a SHA256SUMS of all its files, so that no damaged byte is ever parsed. It is
built as `<step>.saving` and renamed once it is whole.

`steps`, `damage` and `find` only read, and may run beside a training. Everything else is for the one process that holds
the run's lock.
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

# A run saved before there was an item `model` is continued and opened without it.
_NEEDED = ("state", "meta")
_WRITTEN = (*_NEEDED, "model")
_STEP = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
# What a save or a deletion that was cut off leaves behind: ours, and Orbax's own temporary directories.
_LEFTOVER = re.compile(r"[0-9]+(\..*)?\.deleting|[0-9]+\.(saving(\..*)?|orbax-checkpoint-tmp.*)", re.ASCII)
_SET_ASIDE = re.compile(r"([0-9]+)\.damaged", re.ASCII)

Which = Literal["last", "best"] | int
T = TypeVar("T")


def steps(directory: Path) -> list[int]:
    """The steps that have a checkpoint, whole or not, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if _STEP.fullmatch(path.name) and path.is_dir())


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint (wrong sums, missing files); empty if it is intact."""
    return sums.damage(checkpoint, _NEEDED)


def find(directory: Path, which: Which, read: Callable[[Path], T]) -> tuple[int, T, list[str]] | None:
    """Read the chosen one of the intact checkpoints with `read`: (step, what was read, damaged).

    `damaged` lists the steps tried before it and what is wrong with them. None if no checkpoint was ever finished.

    `last` is the newest intact one; `best` is the one with the lowest validation loss, or the newest if none has one; a
    number is that step. A checkpoint that `read` raises for is damaged. Changes nothing on disk. Raises UserError if
    there are checkpoints but none of them is intact and fits.
    """
    there = steps(directory)
    if isinstance(which, int) and which not in there:
        raise UserError(f"{directory} has no checkpoint of step {which}: choose one of {', '.join(map(str, there))}")
    damaged: dict[int, str] = {}
    while (step := _choose(directory, which, damaged)) is not None:
        content = _read_intact(directory / str(step), read, damaged)
        if content is not None:
            return step, content, _listed(damaged)
    if not damaged or _is_first_cut_off(directory):
        return None
    raise UserError(
        f"{directory} has no intact checkpoint, only {', '.join(_listed(damaged))}: restore one from a backup, or "
        "start a new run in another --run-dir"
    )


def tidy(directory: Path, step: int) -> None:
    """Before training continues from `step`: remove leftovers of interrupted saves and set later checkpoints aside.

    These are damaged. They become `<step>.damaged` and are removed once the run has an intact checkpoint at or after
    that step.
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
    """Before a save of `step`: remove leftovers of earlier ones and set a damaged checkpoint of that step aside."""
    directory.mkdir(exist_ok=True)
    for path in list(directory.glob(f"{step}.*")):
        if _LEFTOVER.fullmatch(path.name) and os.path.lexists(path):
            _delete(path)
    if (directory / str(step)).exists():
        _set_aside(directory / str(step))


def certify(part: Path, final: Path) -> None:
    """Write the sums of a checkpoint that is complete and give it its name. Raises OSError."""
    sums.write(part, _WRITTEN)
    part.rename(final)


def prune(directory: Path, saved: int) -> None:
    """Remove what is older than the last two whole checkpoints, but for the best, and what was set aside."""
    damaged: dict[int, str] = {}
    best = _choose(directory, "best", damaged)
    whole = [step for step in steps(directory) if step not in damaged]
    # With fewer than two nothing goes: what seems damaged may be a disk that answers again later.
    oldest = whole[-2] if len(whole) > 1 else 0
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
    gone = path
    if not path.name.endswith(".deleting"):
        # Renamed first, so that no reader finds half of it under its own name.
        gone = path.with_name(f"{path.name}.deleting")
        if os.path.lexists(gone):
            _delete(gone)
        path.rename(gone)
    if gone.is_symlink() or not gone.is_dir():
        gone.unlink()
    else:
        shutil.rmtree(gone)


def checked_meta(meta: Any) -> dict[str, Any]:
    """The meta of a checkpoint. Raises ValueError if it is not that of a run."""
    if not (isinstance(meta, dict) and isinstance(meta.get("totals"), dict)):
        raise ValueError("meta is not that of a run")
    return meta


def first_line(error: Exception) -> str:
    """The first line of an error, or its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _choose(directory: Path, which: Which, damaged: dict[int, str]) -> int | None:
    """The step to try next; adds to `damaged` those of `best` that cannot be compared."""
    left = [step for step in steps(directory) if step not in damaged]
    if isinstance(which, int):
        return which if which in left else None
    if which == "last":
        return left[-1] if left else None
    metas = {step: _read_intact(directory / str(step), _read_meta, damaged) for step in left}
    losses = {step: meta.get("validation_loss") for step, meta in metas.items() if meta is not None}
    measured = [step for step, loss in losses.items() if loss is not None]
    return min(measured, key=lambda step: (losses[step], step)) if measured else max(losses, default=None)


def _read_intact(checkpoint: Path, read: Callable[[Path], Any], damaged: dict[int, str]) -> Any | None:
    """What `read` makes of a checkpoint that agrees with its sums; None, and a word in `damaged`, where it does not."""
    found = damage(checkpoint)
    if not found:
        try:
            return read(checkpoint)
        except Exception as error:  # Orbax and TensorStore raise almost anything for files that do not fit.
            if processes.is_loss(error):
                raise
            found = f"damaged: {first_line(error)}"
    # Where it is gone, the training that it belongs to has removed it meanwhile.
    if checkpoint.exists():
        damaged[int(checkpoint.name)] = found
    return None


def _is_first_cut_off(directory: Path) -> bool:
    """Whether all there is is one save that was cut off: then nothing was saved before it, and step 0 is exact."""
    there = steps(directory)
    return len(there) == 1 and not (directory / str(there[0]) / sums.NAME).exists()


def _listed(damaged: dict[int, str]) -> list[str]:
    return [f"{step} ({text})" for step, text in sorted(damaged.items(), reverse=True)]


def _read_meta(checkpoint: Path) -> dict[str, Any]:
    # Not by Orbax, whose restoring waits for all processes: only the first one chooses what goes.
    return checked_meta(json.loads((checkpoint / "meta" / "metadata").read_text(encoding="utf-8")))
