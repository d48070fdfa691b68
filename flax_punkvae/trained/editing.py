"""Edits along label directions, and their effect on the traits of held-out images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from flax_punkvae.errors import UserError
from flax_punkvae.trained import latents
from flax_punkvae.trained.runs import OpenedRun
from flax_punkvae.trained.traits import Reader


def eligible(run: OpenedRun, add: list[int], remove: list[int]) -> Int[np.ndarray, "m"]:
    """Positions of the held-out images that have none of the labels to add and all of the labels to remove."""
    labels = run.dataset.labels[run.test_indices] == 1
    return run.test_indices[~labels[:, add].any(axis=1) & labels[:, remove].all(axis=1)]


def unmeasured(reader: Reader, positions: Int[np.ndarray, "m"], labels: Sequence[str]) -> str:
    """Why the effect of an edit of these labels on these images cannot be measured; empty if it can."""
    if not len(positions):
        return "no held-out image lacks the labels to add and has those to remove"
    return "; ".join(f"{name!r} cannot be read: {why}" for name, why in reader.unreadable.items() if name in labels)


def shift(run: OpenedRun, add: list[int], remove: list[int]) -> Float[np.ndarray, "d"]:
    """The directions of the labels to add minus those of the labels to remove, estimated on the training images.

    Raises UserError if all or none of the training images have one of the labels.
    """
    columns = add + remove
    means, _ = run.encode(run.train_indices)
    directions = latents.directions(means, run.dataset.labels[run.train_indices])[columns]
    for column, direction in zip(columns, directions, strict=True):
        if np.isnan(direction).any():
            name = run.dataset.label_names[column]
            raise UserError(f"edit: all or none of the training images have {name!r}: choose another label")
    return directions[: len(add)].sum(axis=0) - directions[len(add) :].sum(axis=0)


def measure(
    run: OpenedRun,
    reader: Reader,
    positions: Int[np.ndarray, "m"],
    shift: Float[np.ndarray, "d"],
    add: list[int],
    remove: list[int],
    strengths: Sequence[float],
) -> list[dict[str, Any]]:
    """The `latents.Effect` of moving the posterior means of these images by strength * shift, for each strength.

    Traits are read from decoded images, snapped to sprites, by a reader of all labels. Those before the edit are read
    from the reconstructions.
    """
    names = run.dataset.label_names
    means, _ = run.encode(positions)

    def read(strength: float) -> np.ndarray:
        decoded = run.model.decode_sprites(means + np.float32(strength) * shift)
        return reader.read(run.model.to_sprites(decoded))

    before = read(0.0)
    effects = [latents.effect(before, read(strength), add, remove) for strength in strengths]
    return [
        {
            "strength": strength,
            "succeeds": effect.succeeds,
            "others_changed": effect.others_changed,
            "changed_most": {names[label]: share for label, share in effect.changed_most},
        }
        for strength, effect in zip(strengths, effects, strict=True)
    ]
