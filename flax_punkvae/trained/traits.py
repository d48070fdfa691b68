"""Traits read off sprites by the network of the sprite features."""

import numpy as np
from jaxtyping import Bool, UInt8

from flax_punkvae.config import DataConfig
from flax_punkvae.measures import features
from flax_punkvae.measures.features import Network
from flax_punkvae.training.description import Description


def load_network(described: Description) -> tuple[Network | None, str]:
    """The network that reads the traits of a model's sprites, or None; and which one it is, or why there is none."""
    if described.sprite_size is None:
        return None, "traits are not read: the model was not trained on sprites"
    if described.sprite_size != features.SPRITE[:2]:
        return None, "traits are not read: the sprite features know sprites of 24x24 only"
    network = features.load()
    if network.label_names != described.label_names:
        return None, "traits are not read: the training images do not have the labels of punks"
    if described.background != DataConfig().background:
        return None, "traits are not read: the sprite features know punks over the default background only"
    return network, f"traits are read by the sprite features, SHA-256 {network.sha256}"


def read(network: Network, sprites: UInt8[np.ndarray, "n h w 3"]) -> Bool[np.ndarray, "n a"]:
    """Whether the network sees each label in each sprite: whether its logit is positive."""
    return features.label_logits(network, sprites) > 0
