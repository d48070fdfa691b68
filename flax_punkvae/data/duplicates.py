"""Exact copies of images: found, counted, and left out or kept on one side of the split."""

import hashlib
from dataclasses import replace

import numpy as np
from jaxtyping import Int, UInt8

from flax_punkvae import images as im
from flax_punkvae import transparency
from flax_punkvae.config import DataConfig
from flax_punkvae.data import alpha
from flax_punkvae.data.raw import Raw

_AT_ONCE = 4096
_NAMED_AT_MOST = 3


def copies(pixels: UInt8[np.ndarray, "n h w _"], config: DataConfig) -> Int[np.ndarray, "n"]:
    """For each image, the position of the first one that has the same pixels after alpha is applied."""
    background = im.parse_colour(config.background)
    known: dict[bytes, int] = {}
    found = np.arange(len(pixels))
    for start in range(0, len(pixels), _AT_ONCE):
        part = alpha.applied(pixels[start : start + _AT_ONCE], config)
        if part.shape[-1] == 3:
            # All in four channels, since only some parts may have transparent pixels.
            part = transparency.to_channels(part, 4, background)
        for place, image in enumerate(np.ascontiguousarray(part), start):
            found[place] = known.setdefault(hashlib.sha256(image.data).digest(), place)
    return found


def settled(raw: Raw, config: DataConfig) -> Raw:
    """The images as `config.duplicates` wants them, with a note if there are copies.

    once: without copies of earlier images; an image has the labels of all of its copies. keep: all of them, each with
    its copies in one group. Either way the groups of copies become one, since a pose that two animations share makes
    them one character; but a blank image, which may be in any of them, joins none if it is used once.
    """
    firsts = copies(raw.pixels, config)
    is_first = firsts == np.arange(len(firsts))
    if is_first.all():
        return raw
    again = np.flatnonzero(~is_first)
    pairs = zip(again[:_NAMED_AT_MOST].tolist(), firsts[again].tolist(), strict=False)
    such = ", ".join(f"{_name(raw, copy)} (of {_name(raw, original)})" for copy, original in pairs)
    count = f"{len(again)} exact cop{'y' if len(again) == 1 else 'ies'} of other images, such as {such}"
    if config.duplicates == "keep":
        groups = firsts if raw.groups is None else joined(raw.groups, firsts)
        notes = (f"there are {count}: each is on the same side of the split as its original (--data.duplicates once)",)
        return replace(raw, groups=groups, notes=raw.notes + notes)
    labels = raw.labels.copy()
    np.bitwise_or.at(labels, firsts, raw.labels)
    united = "; originals have the labels of their copies" if raw.label_names else ""
    groups = raw.groups
    if groups is not None:
        blank = (raw.pixels == raw.pixels[:, :1, :1]).all((1, 2, 3))
        groups = joined(groups, np.where(blank, np.arange(len(firsts)), firsts))
    notes = (f"left out {count}{united} (--data.duplicates keep uses them too)",)
    return replace(raw, labels=labels, groups=groups, notes=raw.notes + notes).at(np.flatnonzero(is_first))


def joined(groups: Int[np.ndarray, "n"], others: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """The smallest groups such that images of one group in either are of one group."""
    kinds = [np.unique(numbers, return_inverse=True)[1] for numbers in (groups, others)]
    found = np.arange(len(groups))
    while True:
        before = found
        # Each group takes the least number in it, until none changes.
        for kind in kinds:
            least = np.full(len(found), len(found))
            np.minimum.at(least, kind, found)
            found = least[kind]
        if (found == before).all():
            return found


def _name(raw: Raw, place: int) -> str:
    return raw.files[place] if raw.files else str(raw.ids[place])
