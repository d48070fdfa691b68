"""Checkpoints of a run: Orbax, with digests, since a damaged file restores without an error.

Each checkpoint holds a SHA256SUMS of all its files, as `sha256sum` writes it, so that no damaged byte is ever parsed,
and the digest of the leaves that were to be saved, so that what is restored is what was in memory.
"""

import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from flax_punkvae import parallel, processes
from flax_punkvae.errors import UserError
from flax_punkvae.train_state import TrainState

_SUMS = "SHA256SUMS"


class Restored(NamedTuple):
    """A checkpoint that agrees with its digest, and what is said of newer ones that did not."""

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


def open_manager(directory: Path) -> ocp.CheckpointManager:
    """The checkpoints under a directory, made where it is missing; the last two are kept, and the best by test loss."""
    keep = preservation_policy.AnyPreservationPolicy(
        [
            preservation_policy.LatestN(2),
            preservation_policy.BestN(
                n=1,
                get_metric_fn=lambda metrics: metrics["test/loss"],
                reverse=True,
                keep_checkpoints_without_metrics=False,
            ),
        ]
    )
    options = ocp.CheckpointManagerOptions(
        preservation_policy=keep, cleanup_tmp_directories=True, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(directory.absolute(), options=options)


def save(manager: ocp.CheckpointManager, state: TrainState, meta: dict[str, Any], test_loss: float | None) -> None:
    """Save the state under its step, unless it is there whole; meta is JSON, a test loss lets it be the best.

    Raises UserError where it cannot be written; earlier checkpoints then stay as they are.
    """
    step = int(state.step)
    directory = Path(manager.directory) / str(step)
    if step in manager.all_steps():
        if not damage(directory):
            return
        manager.delete(step)
    arrays = _arrays(state)
    try:
        manager.save(
            step,
            args=ocp.args.Composite(
                state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave({**meta, "digest": digest(arrays)})
            ),
            metrics=None if test_loss is None else {"test/loss": test_loss},
        )
        if processes.is_first():
            _write_sums(directory)
    except Exception as error:  # A full disk comes as whatever Orbax or TensorStore makes of it.
        if processes.is_loss(error):
            raise
        others = sorted(set(manager.all_steps()) - {step})
        raise UserError(
            f"{directory}: expected a place for a checkpoint, got: {_first_line(error)}: make room, then continue "
            + (f"with --resume from step {others[-1]}" if others else "by starting again")
        ) from error


def restore(manager: ocp.CheckpointManager, target: TrainState) -> Restored | None:
    """The newest checkpoint that agrees with its digests; None where there is no checkpoint at all.

    `target` gives structure, shapes, types and devices. Raises UserError where there are checkpoints and none is good.
    """
    damaged = []
    for step in sorted(manager.all_steps(), reverse=True):
        found = damage(Path(manager.directory) / str(step))
        if not found:
            arrays, meta = _read(manager, step, target)
            if digest(arrays) == meta["digest"]:
                return Restored(target.replace(**parallel.owned(arrays)), meta, damaged)
            found = "the digest of its leaves differs"
        damaged.append(f"{step} ({found})")
    if damaged:
        raise UserError(
            f"{manager.directory}: expected a whole checkpoint, got only damaged ones: {', '.join(damaged)}: "
            "restore one from a backup, or start anew in another --run-dir"
        )
    return None


def _sums(directory: Path) -> str:
    files = sorted(path for path in directory.rglob("*") if path.is_file() and path != directory / _SUMS)
    lines = []
    for path in files:
        with path.open("rb") as file:
            lines.append(
                f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.relative_to(directory).as_posix()}\n"
            )
    return "".join(lines)


def _write_sums(directory: Path) -> None:
    new = directory / f".{_SUMS}"
    text = _sums(directory)
    with new.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(directory / _SUMS)


def damage(directory: Path) -> str:
    """In what the files of a checkpoint differ from their sums; empty where in nothing."""
    try:
        expected = (directory / _SUMS).read_bytes()
        found = _sums(directory).encode()
    except FileNotFoundError:
        return f"no {_SUMS}: its saving was cut off"
    except OSError as error:
        return str(error.strerror)
    differing = {line.split("  ", 1)[-1] for line in _lines(expected) ^ _lines(found)}
    return f"damaged: {', '.join(sorted(differing))}" if differing or expected != found else ""


def _lines(text: bytes) -> set[str]:
    return set(text.decode(errors="backslashreplace").splitlines())


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _arrays(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}


def _read(manager: ocp.CheckpointManager, step: int, target: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(target))
    read = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes), meta=ocp.args.JsonRestore())
    )
    return read["state"], read["meta"]
