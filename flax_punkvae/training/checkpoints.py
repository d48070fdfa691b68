"""Checkpoints of a run, written by Orbax and certified by digests, since a damaged file restores without an error.

A checkpoint is a directory `<step>` with the items `state` and `meta` and a SHA256SUMS of all their files, so that no
damaged byte is ever parsed; `meta` holds the digest of the leaves that were to be saved, so that what is restored is
what was in memory. It is built as `<step>.saving` and renamed once it is whole.

`steps`, `damage` and `restore` only read, and may run beside a training. `save` and `tidy` are for the one process that
holds the run's lock.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from flax_punkvae.devices import parallel, processes
from flax_punkvae.errors import UserError
from flax_punkvae.training import sums
from flax_punkvae.training.state import TrainState

_ITEMS = ("state", "meta")
_STEP = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)
# What a save or a deletion that was cut off leaves behind: ours, and Orbax's own temporary directories.
_LEFTOVER = re.compile(r"[0-9]+(\..*)?\.deleting|[0-9]+\.(saving(\..*)?|orbax-checkpoint-tmp.*)", re.ASCII)
_SET_ASIDE = re.compile(r"([0-9]+)\.damaged", re.ASCII)

Which = Literal["last", "best"] | int


class Restored(NamedTuple):
    """A checkpoint that matches its digests; `damaged` lists the steps tried before it and what is wrong with them."""

    state: TrainState
    meta: dict[str, Any]
    damaged: list[str]


def digest(tree: Any) -> str:
    """SHA-256 over the leaves of a tree of arrays: each one's path, type, shape and bytes, in the order of paths."""
    hashed = hashlib.sha256()
    for path, leaf in sorted((jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)):
        array = np.ascontiguousarray(leaf)
        hashed.update(f"{path} {array.dtype} {array.shape}\n".encode())
        hashed.update(array.data)
    return hashed.hexdigest()


def steps(directory: Path) -> list[int]:
    """The steps that have a checkpoint, whole or not, ascending."""
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if _STEP.fullmatch(path.name) and path.is_dir())


def damage(checkpoint: Path) -> str:
    """What is wrong with a checkpoint (wrong sums, missing files); empty if it is intact."""
    return sums.damage(checkpoint, _ITEMS)


def save(directory: Path, state: TrainState, meta: dict[str, Any]) -> None:
    """Save the state under its step, unless an intact checkpoint exists; then remove old checkpoints.

    The last two intact checkpoints are kept and, of those whose meta (JSON) has a `validation_loss`, the one with the
    lowest. Raises UserError if the disk cannot be written; earlier checkpoints then stay as they are.
    """
    step = int(state.step)
    final, part = directory / str(step), directory / f"{step}.saving"
    if processes.of_first(int(processes.is_first() and final.exists() and not damage(final))):
        return
    arrays = _arrays(state)
    content = ocp.args.Composite(
        state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave({**meta, "digest": digest(arrays)})
    )
    try:
        processes.by_first(lambda: _make_room(directory, step))
        with _checkpointer() as checkpointer:
            checkpointer.save(part.absolute(), args=content)
        processes.by_first(lambda: _certify(part, final))
        processes.by_first(lambda: _prune(directory, step))
    except Exception as error:  # A full disk comes as whatever Orbax or TensorStore makes of it.
        if processes.is_loss(error) or isinstance(error, UserError):
            raise
        others = [other for other in steps(directory) if other != step]
        raise UserError(
            f"{final}: the checkpoint cannot be written ({_first_line(error)}): free some space, then continue "
            + (f"with --resume from step {others[-1]}" if others else "by starting again")
        ) from error


def restore(directory: Path, target: TrainState, which: Which = "last") -> Restored | None:
    """Restore a checkpoint that matches its digests; None if none was ever finished.

    `last` is the newest intact one; `best` is the one with the lowest validation loss, or the newest if none has one; a
    number is that step. `target` gives structure, shapes, types and devices. Changes nothing on disk. Raises UserError
    if there are checkpoints but none of them is intact and fits.
    """
    there = steps(directory)
    if isinstance(which, int) and which not in there:
        raise UserError(f"{directory} has no checkpoint of step {which}: choose one of {', '.join(map(str, there))}")
    damaged: dict[int, str] = {}
    while (step := _choose(directory, which, damaged)) is not None:
        found = _read_whole(directory / str(step), lambda checkpoint: _read(checkpoint, target), damaged)
        if found is None:
            continue
        arrays, meta = found
        if digest(arrays) == meta.get("digest"):
            skipped = [f"{step} ({text})" for step, text in sorted(damaged.items(), reverse=True)]
            return Restored(target.replace(**parallel.owned(arrays)), meta, skipped)
        damaged[step] = "damaged: the digest of its leaves differs"
    if not damaged or _is_first_cut_off(directory):
        return None
    skipped = [f"{step} ({text})" for step, text in sorted(damaged.items(), reverse=True)]
    raise UserError(
        f"{directory} has no intact checkpoint, only {', '.join(skipped)}: restore one from a backup, or start a new "
        "run in another --run-dir"
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


def _choose(directory: Path, which: Which, damaged: dict[int, str]) -> int | None:
    """The step to try next; adds to `damaged` those of `best` that cannot be compared."""
    left = [step for step in steps(directory) if step not in damaged]
    if isinstance(which, int):
        return which if which in left else None
    if which == "last":
        return left[-1] if left else None
    metas = {step: _read_whole(directory / str(step), _read_meta, damaged) for step in left}
    losses = {step: meta.get("validation_loss") for step, meta in metas.items() if meta is not None}
    measured = [step for step, loss in losses.items() if loss is not None]
    return min(measured, key=lambda step: (losses[step], step)) if measured else max(losses, default=None)


def _read_whole(checkpoint: Path, read: Callable[[Path], Any], damaged: dict[int, str]) -> Any | None:
    """What `read` makes of a checkpoint that agrees with its sums; None, and a word in `damaged`, where it does not."""
    found = damage(checkpoint)
    if not found:
        try:
            return read(checkpoint)
        except Exception as error:  # Orbax and TensorStore raise almost anything for files that do not fit.
            if processes.is_loss(error):
                raise
            found = f"damaged: {_first_line(error)}"
    # Where it is gone, the training that it belongs to has removed it meanwhile.
    if checkpoint.exists():
        damaged[int(checkpoint.name)] = found
    return None


def _is_first_cut_off(directory: Path) -> bool:
    """Whether all there is is one save that was cut off: then nothing was saved before it, and step 0 is exact."""
    there = steps(directory)
    return len(there) == 1 and not (directory / str(there[0]) / sums.NAME).exists()


def _make_room(directory: Path, step: int) -> None:
    directory.mkdir(exist_ok=True)
    for path in list(directory.glob(f"{step}.*")):
        if _LEFTOVER.fullmatch(path.name) and os.path.lexists(path):
            _delete(path)
    if (directory / str(step)).exists():
        _set_aside(directory / str(step))


def _certify(part: Path, final: Path) -> None:
    sums.write(part, _ITEMS)
    part.rename(final)


def _prune(directory: Path, saved: int) -> None:
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


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _checkpointer() -> ocp.Checkpointer:
    return ocp.Checkpointer(ocp.CompositeCheckpointHandler())


def _arrays(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}


def _read(checkpoint: Path, target: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(target))
    with _checkpointer() as checkpointer:
        read = checkpointer.restore(
            checkpoint.absolute(),
            args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes), meta=ocp.args.JsonRestore()),
        )
    return read["state"], _checked(read["meta"])


def _read_meta(checkpoint: Path) -> dict[str, Any]:
    # Not by Orbax, whose restoring waits for all processes: only the first one chooses what goes.
    return _checked(json.loads((checkpoint / "meta" / "metadata").read_text(encoding="utf-8")))


def _checked(meta: Any) -> dict[str, Any]:
    if not (isinstance(meta, dict) and isinstance(meta.get("totals"), dict)):
        raise ValueError("meta is not that of a run")
    return meta
