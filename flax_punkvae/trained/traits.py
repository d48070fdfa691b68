"""Traits of sprites, predicted by the feature network."""

import difflib

import numpy as np
from jaxtyping import Bool, UInt8

from flax_punkvae.config import DataConfig
from flax_punkvae.errors import UserError
from flax_punkvae.measures import features
from flax_punkvae.measures.features import Network
from flax_punkvae.training.description import Description


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
