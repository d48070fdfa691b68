"""Traits of sprites, and who reads them: the feature network (punks) or a probe of the run's own labels (`probing`)."""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, UInt8

from flax_punkvae.config import DataConfig
from flax_punkvae.errors import UserError
from flax_punkvae.measures import features
from flax_punkvae.measures.features import Network
from flax_punkvae.training.description import Description


@dataclass(frozen=True, eq=False)
class Reader:
    """What reads the traits of sprites.

    read: whether each sprite (snapped to the training palette; or image, if the model was not trained on sprites) has
    each of `label_names`. note: a line that says what reads and how well. unreadable: labels that are never found, and
    why. key: the same for readers that read alike.
    """

    label_names: tuple[str, ...]
    read: Callable[[UInt8[np.ndarray, "n h w c"]], Bool[np.ndarray, "n a"]]
    note: str
    key: str
    unreadable: Mapping[str, str] = field(default_factory=dict)

    def check(self, name: str) -> int:
        """The column of a label in what is read. Raises UserError if it cannot be read."""
        if name in self.unreadable:
            raise UserError(f"{name!r} cannot be read from samples ({self.unreadable[name]}): leave it out")
        return self.label_names.index(name)


def shipped(described: Description) -> tuple[Reader | None, str]:
    """The reader by the feature network, or None; and its note or a line that says why not."""
    network, note = load_network(described)
    if network is None:
        return None, note
    return Reader(network.label_names, lambda sprites: read(network, sprites), note, str(network.sha256)), note


def load_network(described: Description) -> tuple[Network | None, str]:
    """The network that predicts the traits of a model's sprites, or None; and a line that names it or says why not."""
    if described.sprite_size is None:
        return None, "traits are not read: the model was not trained on sprites"
    if described.sprite_size != features.SPRITE[:2]:
        return None, "traits are not read: the feature network takes 24x24 sprites only"
    if described.channels != features.SPRITE[2]:
        return None, "traits are not read: the feature network takes sprites without transparency only"
    network = features.load()
    if network.label_names != described.label_names:
        return None, "traits are not read: the training images do not have the labels of punks"
    if described.background != DataConfig().background:
        return None, "traits are not read: the feature network takes punks on the default background only"
    return network, f"traits are read by the feature network, SHA-256 {network.sha256}"


def column(described: Description, name: str) -> int:
    """The column of the label with this name. Raises UserError, naming the most similar one, if there is none."""
    names = described.label_names
    if not names:
        raise UserError(
            f"{described.source} has no labels, so {name!r} is unknown: use a run on punks, or on a folder whose "
            "subfolders are labels"
        )
    if name not in names:
        nearest = max(names, key=lambda other: difflib.SequenceMatcher(None, name.lower(), other.lower()).ratio())
        raise UserError(f"there is no label {name!r} among the {len(names)}: perhaps you meant {nearest!r}")
    return names.index(name)


def read(network: Network, sprites: UInt8[np.ndarray, "n h w c"]) -> Bool[np.ndarray, "n a"]:
    """Whether each sprite has each label according to the network, that is, with a positive logit."""
    return features.label_logits(network, sprites) > 0
