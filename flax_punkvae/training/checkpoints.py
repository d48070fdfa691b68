"""Checkpoints of a run, saved by Orbax and verified by digests, since Orbax restores damaged files without an error.

A checkpoint holds the items `state` and `meta`, from which training continues, and `model`, which opens the trained
model without its images. `meta` holds a digest of the saved arrays, so that a restored state is exactly the state that
was saved. `retention` finds checkpoints and decides which are kept.
"""

import hashlib
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from flax_punkvae.devices import parallel, processes
from flax_punkvae.errors import UserError
from flax_punkvae.training import description, retention
from flax_punkvae.training.description import Description
from flax_punkvae.training.retention import Which
from flax_punkvae.training.state import TrainState


class Restored(NamedTuple):
    """An intact checkpoint to continue from; `damaged` lists the steps that were skipped, and why."""

    state: TrainState
    meta: dict[str, Any]
    damaged: list[str]


class Saved(NamedTuple):
    """The model in an intact checkpoint; `description` is None if an older version saved it."""

    step: int
    params: Any
    description: Description | None
    damaged: list[str]


def digest(tree: Any) -> str:
    """SHA-256 over the leaves of a tree of arrays: path, type, shape and bytes of each, ordered by path."""
    hashed = hashlib.sha256()
    for path, leaf in sorted((jax.tree_util.keystr(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)):
        array = np.ascontiguousarray(leaf)
        hashed.update(f"{path} {array.dtype} {array.shape}\n".encode())
        hashed.update(array.data)
    return hashed.hexdigest()


def save(directory: Path, state: TrainState, meta: dict[str, Any], described: Description) -> None:
    """Save the state, unless its step has an intact checkpoint, and remove old checkpoints.

    Keeps the last two intact checkpoints and the one with the lowest `validation_loss` in its meta (JSON), if any has
    one. Raises UserError if the disk cannot be written; earlier checkpoints then remain unchanged.
    """
    step = int(state.step)
    final, part = directory / str(step), directory / f"{step}.saving"
    if processes.of_first(int(processes.is_first() and final.exists() and not retention.damage(final))):
        return
    arrays = _arrays(state)
    content = ocp.args.Composite(
        state=ocp.args.StandardSave(arrays), meta=ocp.args.JsonSave({**meta, "digest": digest(arrays)})
    )

    def finish() -> None:
        description.write(part / "model", described.at(step, digest(state.params)))
        retention.certify(part, final)
        retention.prune(directory, step)

    try:
        processes.on_first(lambda: retention.make_room(directory, step))
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(part.absolute(), args=content)
        processes.on_first(finish)
    except Exception as error:  # Orbax and TensorStore report a full disk in many ways.
        if processes.is_loss(error) or isinstance(error, UserError):
            raise
        others = [other for other in retention.steps(directory) if other != step]
        raise UserError(
            f"{final}: the checkpoint cannot be written ({retention.first_line(error)}): free some space, then "
            + (f"continue with --resume from step {others[-1]}" if others else "start again")
        ) from error


def restore(directory: Path, target: TrainState, which: Which = "last") -> Restored | None:
    """Restore an intact checkpoint to continue from; None if no checkpoint was ever completed.

    `target` gives structure, shapes, types and devices; its leaves may be shapes. See `retention.find` for the choice
    of the checkpoint and the errors.
    """
    found = retention.find(directory, which, partial(_read_state, target=target))
    if found is None:
        return None
    _, (arrays, meta), damaged = found
    return Restored(target.replace(**parallel.owned(arrays)), meta, damaged)


def read(directory: Path, which: Which = "last") -> Saved | None:
    """Read the parameters (NumPy arrays) and description of an intact checkpoint; None if none was ever completed.

    Needs no images, optimiser or device. See `retention.find` for the choice of the checkpoint and the errors.
    """
    found = retention.find(directory, which, _read_model)
    if found is None:
        return None
    step, (params, described), damaged = found
    return Saved(step, params, described, damaged)


def _arrays(state: TrainState) -> dict[str, Any]:
    return {"step": state.step, "params": state.params, "opt_state": state.opt_state}


def _read_state(checkpoint: Path, target: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    # Of an older version's model, this says so; Orbax would say that the trees differ.
    _read_description(checkpoint)
    shapes = jax.tree.map(_shape, _arrays(target))
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        read = checkpointer.restore(
            checkpoint.absolute(),
            args=ocp.args.Composite(state=ocp.args.StandardRestore(shapes), meta=ocp.args.JsonRestore()),
        )
    meta = retention.checked_meta(read["meta"])
    if digest(read["state"]) != meta.get("digest"):
        raise ValueError("the digest of its arrays differs")
    return read["state"], meta


def _shape(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.ShapeDtypeStruct) else ocp.utils.to_shape_dtype_struct(leaf)


def _read_model(checkpoint: Path) -> tuple[Any, Description | None]:
    path = checkpoint.absolute() / "state"
    handler: Any = ocp.PyTreeCheckpointHandler()
    saved = handler.metadata(path)
    # Some versions of Orbax wrap the tree in an object with a field `tree`; both kinds convert to a dict.
    saved = dict(getattr(saved, "tree", saved))["params"]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), saved)
    as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), shapes)
    restoring = ocp.args.PyTreeRestore(item={"params": shapes}, partial_restore=True, restore_args={"params": as_numpy})
    params = handler.restore(path, args=restoring)["params"]
    handler.close()
    described = _read_description(checkpoint)
    if described is not None and digest(params) != described.params_sha256:
        raise ValueError("the digest of its parameters differs")
    return params, described


def _read_description(checkpoint: Path) -> Description | None:
    """None if a version before descriptions made the checkpoint."""
    return description.read(checkpoint / "model") if (checkpoint / "model").exists() else None
