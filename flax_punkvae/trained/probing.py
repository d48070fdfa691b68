"""Readers of a run's own labels: linear probes of sprites, learned from the training images, measured on the others."""

import hashlib
from collections.abc import Mapping, Sequence

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


def reader_of(run: OpenedRun, told: Sequence[str] = ()) -> Reader:
    """The reader of all labels of a run: the shipped one for punks, otherwise that of `fit`."""
    names = run.model.description.label_names
    return traits.shipped(run.model.description)[0] or fit(run, names, told)


def fit(run: OpenedRun, names: Sequence[str], told: Sequence[str] = ()) -> Reader:
    """A reader of these labels: probes fitted to the training images and measured on the held-out ones.

    The note says how well each of the labels `told` is read, by default of a few; of many, the mean.

    Labels that all or none of the training images have, or that are read badly, are unreadable. One of which there are
    too few held-out images to measure how well it is read is readable, and the note says so: whoever has a small set
    can judge by eye. What is measured is the reader, on images whose labels are known, not how clear the samples are.
    Raises UserError if a label is unknown.
    """
    names = tuple(dict.fromkeys(names))
    labels = run.dataset.labels[:, [traits.column(run.model.description, name) for name in names]]
    most = sprite_probes.most_images(run.dataset.originals.shape[1:])
    train, test = (_some(positions, most) for positions in (run.train_indices, run.test_indices))
    probe = sprite_probes.fit(_sprites(run, train), labels[train])
    held_out = sprite_probes.read(probe, _sprites(run, test))
    measured = sprite_probes.accuracies(held_out, labels[test], LEAST_MEASURED)
    found = {names[column]: accuracy for column, accuracy in measured.items()}
    unreadable = _unreadable(names, labels[train], found)
    readable = np.array([name not in unreadable for name in names])

    def read(sprites: UInt8[np.ndarray, "n h w c"]) -> Bool[np.ndarray, "n a"]:
        return sprite_probes.read(probe, sprites) & readable

    positives = dict(zip(names, labels[test].sum(0, dtype=int).tolist(), strict=True))
    parts = (
        f"traits are read by linear probes of pixels and edges, learned from {len(train)} training images",
        *_quality({name: found[name] for name in found if name not in unreadable}, told, len(test)),
        *_unknown({name: positives[name] for name in names if name not in {*found, *unreadable}}, len(test)),
        *_unread(unreadable),
    )
    digest = hashlib.sha256(labels[train].tobytes() + "\n".join(names).encode()).hexdigest()
    return Reader(names, read, "; ".join(parts), f"linear probes {digest}", unreadable)


def _unreadable(names: Sequence[str], train: UInt8[np.ndarray, "n a"], found: Mapping[str, Accuracy]) -> dict[str, str]:
    """The labels that are not to be read, and why."""
    reasons = {}
    for name, varies in zip(names, (train != train[0]).any(0), strict=True):
        accuracy = found.get(name)
        if not varies:
            reasons[name] = "all or none of the training images have it"
        # A precision is nan if the label was not read at all.
        elif accuracy and not (accuracy.balanced >= LEAST_BALANCED and accuracy.precision >= LEAST_PRECISION):
            reasons[name] = f"{_figures(accuracy)} on held-out images"
    return reasons


def _figures(accuracy: Accuracy) -> str:
    precision = "no" if np.isnan(accuracy.precision) else f"{accuracy.precision:.2f}"
    return f"balanced accuracy {accuracy.balanced:.2f}, precision {precision}"


def _quality(good: Mapping[str, Accuracy], told: Sequence[str], held_out: int) -> list[str]:
    """How well labels are read: each of those to tell or, of many, on average."""
    some = {name: good[name] for name in (told or good) if name in good}
    words = [f"{name!r} has {_figures(accuracy)}" for name, accuracy in some.items()]
    if len(some) > _MOST_TOLD:
        mean = Accuracy(*np.mean(list(some.values()), axis=0).tolist())
        words = [f"{len(some)} labels have, on average, {_figures(mean)}"]
    return [f"on {held_out} held-out images, {'; '.join(words)}"] if words else []


def _unknown(positives: Mapping[str, int], held_out: int) -> list[str]:
    """The readable labels of which it is not known how well they are read, and how many held-out images have them."""
    words = [f"{name!r} ({count} of {held_out} held-out images have it)" for name, count in positives.items()]
    return [f"how well is unknown for {_listed(words)}: look at the images"] if words else []


def _unread(unreadable: Mapping[str, str]) -> list[str]:
    return [f"not read: {_listed([repr(name) for name in unreadable])}"] if unreadable else []


def _listed(words: Sequence[str]) -> str:
    more = len(words) - _MOST_TOLD
    return ", ".join(words[:_MOST_TOLD]) + (f" and {more} more" if more > 0 else "")


def _some(positions: Int[np.ndarray, "n"], most: int) -> Int[np.ndarray, "m"]:
    """At most so many of the positions, chosen at random by a fixed seed."""
    return positions if len(positions) <= most else np.sort(np.random.RandomState(0).permutation(positions)[:most])


def _sprites(run: OpenedRun, positions: Int[np.ndarray, "n"]) -> UInt8[np.ndarray, "n h w c"]:
    """The images as samples of the model come: snapped to the training palette, if they are sprites."""
    return run.model.to_sprites(run.dataset.originals[positions])
