"""Edits along the directions of labels, and what they do to the traits of held-out images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from flax_punkvae.errors import UserError
from flax_punkvae.measures.features import Network
from flax_punkvae.trained import latents, traits
from flax_punkvae.trained.runs import OpenedRun


def eligible(run: OpenedRun, add: list[int], remove: list[int]) -> Int[np.ndarray, "m"]:
    """Positions of the held-out images that lack every label to add and have every one to remove.

    Raises UserError where there is none.
    """
    labels = run.dataset.labels[run.test_indices] == 1
    fitting = run.test_indices[~labels[:, add].any(axis=1) & labels[:, remove].all(axis=1)]
    if not len(fitting):
        raise UserError("edit: no held-out image lacks what is added and has what is removed: choose other labels")
    return fitting


def shift(run: OpenedRun, add: list[int], remove: list[int]) -> Float[np.ndarray, "d"]:
    """The sum of the directions of labels to add less those of labels to remove, from the training images alone.

    Raises UserError where all or none of these have one of the labels.
    """
    columns = add + remove
    means, _ = run.encode(run.train_indices)
    directions = latents.directions(means, run.dataset.labels[run.train_indices][:, columns])
    for column, direction in zip(columns, directions, strict=True):
        if np.isnan(direction).any():
            name = run.dataset.label_names[column]
            raise UserError(f"edit: all or none of the training images have {name!r}: choose another label")
    return directions[: len(add)].sum(axis=0) - directions[len(add) :].sum(axis=0)


def measure(
    run: OpenedRun,
    network: Network,
    positions: Int[np.ndarray, "m"],
    shift: Float[np.ndarray, "d"],
    add: list[int],
    remove: list[int],
    strengths: Sequence[float],
) -> list[dict[str, Any]]:
    """For each strength, what `latents.effect` says of these images moved by strength * shift, snapped to sprites.

    Traits are read by the network of `traits.load_network`, before an edit off the reconstructions.
    """
    names = run.dataset.label_names
    means, _ = run.encode(positions)

    def read(strength: float) -> np.ndarray:
        decoded = run.model.decode_sprites(means + np.float32(strength) * shift)
        return traits.read(network, run.model.to_sprites(decoded))

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
