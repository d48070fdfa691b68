"""Readers of a run's own labels: linear probes of sprites, learned from the training images, measured on the others."""

import hashlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8

from flax_punkvae.measures import sprite_probes
from flax_punkvae.measures.sprite_probes import Accuracy
from flax_punkvae.trained import traits
from flax_punkvae.trained.runs import OpenedRun
from flax_punkvae.trained.traits import Reader

# Halfway between guessing, 0.5, and certainty.
LEAST_BALANCED = 0.75
# So that at most a quarter of the sprites that are kept for a label lack it. Of a rare label, that can be many more
# even if the balanced accuracy is high.
LEAST_PRECISION = 0.75
# With fewer held-out sprites that have a label, or that lack it, its accuracy says little.
LEAST_MEASURED = 10
# Labels whose accuracy is told one by one.
_MOST_TOLD = 4


def reader_of(run: OpenedRun) -> Reader:
    """The reader of all labels of a run: the shipped one for punks, otherwise that of `fit`."""
    names = run.model.description.label_names
    return traits.shipped(run.model.description)[0] or fit(run, names)


def fit(run: OpenedRun, names: Sequence[str]) -> Reader:
    """A reader of these labels: probes fitted to the training images and measured on the held-out ones.

    Labels that all or none of the training images have, or that are read badly, are unreadable. One of which there are
    too few held-out images to measure how well it is read is readable, and the note says so: whoever has a small set
    can judge by eye. What is measured is the reader, on images whose labels are known, not how clear the samples are.
    Raises UserError if a label is unknown.
    """
    names = tuple(dict.fromkeys(names))
    columns = [traits.column(run.model.description, name) for name in names]
    labels = run.dataset.labels[:, columns]
    most = sprite_probes.most_images(run.dataset.originals.shape[1:])
    train, test = (_some(positions, most) for positions in (run.train_indices, run.test_indices))
    varies = np.flatnonzero((labels[train] != labels[train[0]]).any(0))
    unreadable = {names[i]: "all or none of the training images have it" for i in set(range(len(names))) - {*varies}}
    found: dict[int, Accuracy] = {}
    read = np.zeros(len(names), bool)
    probe = None
    if len(varies):
        probe = sprite_probes.fit(_sprites(run, train), labels[train][:, varies])
        measured = sprite_probes.accuracies(
            sprite_probes.read(probe, _sprites(run, test)), labels[test][:, varies], LEAST_MEASURED
        )
        found = {int(varies[i]): accuracy for i, accuracy in measured.items()}
        bad = {i: accuracy for i, accuracy in found.items() if not _is_good(accuracy)}
        unreadable |= {names[i]: f"{_figures(accuracy)} on held-out images" for i, accuracy in bad.items()}
        read[[i for i in varies if i not in bad]] = True

    def present(sprites: UInt8[np.ndarray, "n h w c"]) -> Bool[np.ndarray, "n a"]:
        has = np.zeros((len(sprites), len(names)), bool)
        if probe is not None:
            has[:, varies] = sprite_probes.read(probe, sprites)
        return has & read

    facts = hashlib.sha256(labels[train].tobytes() + "\n".join(names).encode()).hexdigest()
    told = _note(names, found, unreadable, labels[test], len(train))
    return Reader(names, present, told, f"linear probes {facts}", unreadable)


def _is_good(accuracy: Accuracy) -> bool:
    # Not so if no sprite was read as having the label: nan.
    return accuracy.balanced >= LEAST_BALANCED and accuracy.precision >= LEAST_PRECISION


def _figures(accuracy: Accuracy) -> str:
    return f"balanced accuracy {accuracy.balanced:.2f}, precision {accuracy.precision:.2f}"


def _note(
    names: tuple[str, ...],
    found: dict[int, Accuracy],
    unreadable: dict[str, str],
    held_out: UInt8[np.ndarray, "n a"],
    trained_on: int,
) -> str:
    """The line that says what reads these labels, and how well."""
    parts = [f"traits are read by linear probes of pixels and edges, learned from {trained_on} training images"]
    readable = [i for i, name in enumerate(names) if name not in unreadable]
    good, unknown = [i for i in readable if i in found], [i for i in readable if i not in found]
    where = f"on {len(held_out)} held-out images"
    if good and len(good) <= _MOST_TOLD:
        parts += [f"{where}, " + "; ".join(f"{names[i]!r} has {_figures(found[i])}" for i in good)]
    elif good:
        mean = Accuracy(*np.mean([found[i] for i in good], axis=0).tolist())
        parts += [f"{where}, {len(good)} labels have, on average, {_figures(mean)}"]
    if unknown:
        few = ", ".join(f"{names[i]!r} ({_with(held_out[:, i])})" for i in unknown[:_MOST_TOLD])
        more = f" and {len(unknown) - _MOST_TOLD} more" if len(unknown) > _MOST_TOLD else ""
        parts += [f"how well is unknown for {few}{more}: look at the images"]
    if unreadable:
        few = ", ".join(map(repr, list(unreadable)[:_MOST_TOLD]))
        more = f" and {len(unreadable) - _MOST_TOLD} more" if len(unreadable) > _MOST_TOLD else ""
        parts += [f"not read: {few}{more}"]
    return "; ".join(parts)


def _with(labels: UInt8[np.ndarray, "n"]) -> str:
    return f"{int(labels.sum(dtype=int))} of {len(labels)} held-out images have it"


def _some(positions: Int[np.ndarray, "n"], most: int) -> Int[np.ndarray, "m"]:
    """At most so many of the positions, chosen at random by a fixed seed."""
    return positions if len(positions) <= most else np.sort(np.random.RandomState(0).permutation(positions)[:most])


def _sprites(run: OpenedRun, positions: Int[np.ndarray, "n"]) -> UInt8[np.ndarray, "n h w c"]:
    """The images as samples of the model come: snapped to the training palette, if they are sprites."""
    return run.model.to_sprites(run.dataset.originals[positions])
