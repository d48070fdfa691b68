"""Checkpoints of a run: Orbax, with a digest of the leaves, since a damaged file restores without an error."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import preservation_policy

from flax_punkvae.errors import UserError
from flax_punkvae.training import TrainState


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
    """Save the state under its step, unless it is there already; meta is JSON, a test loss lets it be the best.

    Raises OSError where it cannot be written; earlier checkpoints then stay as they are.
    """
    step = int(state.step)
    if step in manager.all_steps():
        return
    arrays = _arrays(state)
    manager.save(
        step,
        args=ocp.args.Composite(
            state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave({**meta, "digest": digest(arrays)})
        ),
        metrics=None if test_loss is None else {"test/loss": test_loss},
    )


def restore(manager: ocp.CheckpointManager, target: TrainState) -> Restored | None:
    """The newest checkpoint whose leaves agree with their digest; None where there is no checkpoint at all.

    `target` gives structure, shapes and types. Raises UserError where there are checkpoints and none is good.
    """
    damaged = []
    for step in sorted(manager.all_steps(), reverse=True):
        try:
            arrays, meta = _read(manager, step, target)
        except Exception as error:  # Damage comes as whatever Orbax, TensorStore, zstd or JSON raises.
            damaged.append(f"{step} ({type(error).__name__})")
            continue
        if digest(arrays) == meta.get("digest"):
            return Restored(target.replace(**arrays), meta, damaged)
        damaged.append(f"{step} (its digest differs)")
    if damaged:
        raise UserError(
            f"{manager.directory}: expected a whole checkpoint, got only damaged ones: {', '.join(damaged)}: "
            "restore one from a backup, or start anew in another --run-dir"
        )
    return None


def _arrays(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}


def _read(manager: ocp.CheckpointManager, step: int, target: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(target))
    read = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes), meta=ocp.args.JsonRestore())
    )
    return read["state"], read["meta"]
