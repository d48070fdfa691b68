"""Features of sprites: a small convolutional network that predicts a punk's 92 labels (weights shipped), and the same
network with random weights.

They replace Inception's features, which were learned from photographs and do not suit sprites of 24x24.
"""

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax import linen as nn
from flax import traverse_util
from jaxtyping import Array, Float, UInt8

from flax_punkvae import transparency
from flax_punkvae.errors import UserError

SHIPPED = Path(__file__).with_name("features.safetensors")
MAKE = "python -m flax_punkvae.experiments.train_features"

# Shape of the sprites that the shipped network was trained on.
SPRITE = (24, 24, 3)
# `sprites_sha256` of the sprites that the shipped network did not learn from: the held-out punks of the default split.
# Where it saw the held-out sprites, it tells them from samples too well.
HELD_OUT_SHA256 = "cf2d80ef8d8e453e01585faab80e1a182a061451e9863c076ad09854d255e278"
# The three poolings reduce this to one pixel.
LEAST_SIDE = 8
_BATCH = 256
# All metadata is one JSON object under this key: safetensors writes several keys in random order, so that equal
# networks would have files with different SHA-256.
_ABOUT = "flax_punkvae.features"


class SpriteFeatures(nn.Module):
    """Three 3x3 convolutions, each with ReLU and 2x2 max pooling, a dense layer with ReLU, whose output is the
    features, and a dense layer to the logits of the labels. Sprites are float32 in [0, 1], of any number of
    channels."""

    labels: int
    widths: tuple[int, ...] = (32, 64, 64)
    features: int = 128

    @nn.compact
    def __call__(self, sprites: Float[Array, "b h w c"]) -> tuple[Float[Array, "b f"], Float[Array, "b a"]]:
        init = nn.initializers.he_normal()
        # Scale to [-2, 2]: some labels show as a single pixel of low contrast.
        x = 4.0 * sprites - 2.0
        for index, width in enumerate(self.widths):
            x = nn.relu(nn.Conv(width, (3, 3), kernel_init=init, name=f"conv_{index}")(x))
            x = nn.max_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Dense(self.features, kernel_init=init, name="dense")(x.reshape(x.shape[0], -1)))
        if not self.labels:
            return x, x[:, :0]
        # Labels are rare: from a bias of 0, the first steps would push down every logit, and with them half of the
        # features, whose ReLU would then stay at 0.
        rare = nn.initializers.constant(-4.0)
        return x, nn.Dense(self.labels, bias_init=rare, name="logits")(x)


class Network(NamedTuple):
    """Parameters of SpriteFeatures, the labels of its logits, and the SHA-256 of its file (None if it has none)."""

    params: Any
    label_names: tuple[str, ...]
    sha256: str | None


def random(seed: int, label_names: tuple[str, ...] = (), shape: tuple[int, int, int] = SPRITE) -> Network:
    """A randomly initialised network for sprites of this shape (h and w at least 8); without names, it has no logits.

    Its features depend on no dataset, so they favour no model trained on one. Naeem et al. 2020 recommend them for
    images unlike the trained network's training images.
    """
    params = _init(SpriteFeatures(len(label_names)), jax.random.key(seed), shape)
    return Network(params, label_names, None)


@partial(jax.jit, static_argnames=("module", "shape"))
def _init(module: SpriteFeatures, key: Array, shape: tuple[int, int, int] = SPRITE) -> Any:
    return module.init(key, jnp.zeros((1, *shape), jnp.float32))["params"]


def load(path: Path = SHIPPED) -> Network:
    """Load a trained network, by default the shipped one. Raises UserError if the file is missing or malformed."""
    try:
        content = path.read_bytes()
        with safetensors.safe_open(path, "numpy") as opened:
            about = json.loads((opened.metadata() or {})[_ABOUT])
        label_names = tuple(map(str, about["label_names"]))
        tensors = safetensors.numpy.load(content)
        expected = jax.eval_shape(partial(_init, SpriteFeatures(len(label_names))), jax.random.key(0))
        wanted = _shapes(traverse_util.flatten_dict(expected, sep="."))
        # Checked before unflattening, which conflicting names would break.
        if (got := _shapes(tensors)) != wanted:
            wrong = sorted(name for name, _ in got.items() ^ wanted.items())
            raise ValueError(f"{wrong[0]} of shape {got.get(wrong[0])} instead of {wanted.get(wrong[0])}")
    except OSError as error:
        raise UserError(f"{path}: cannot read the sprite-feature weights ({error.strerror}): {_ADVICE}") from error
    except (safetensors.SafetensorError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: not a file of sprite-feature weights ({type(error).__name__}: "
            f"{' '.join(str(error).split())}): {_ADVICE}"
        ) from error
    params = traverse_util.unflatten_dict(tensors, sep=".")
    return Network(params, label_names, hashlib.sha256(content).hexdigest())


_ADVICE = f"reinstall flax_punkvae, or train them again with `{MAKE} --output FILE`"


def _shapes(tensors: dict[str, Any]) -> dict[str, str]:
    return {name: f"{leaf.dtype}{list(leaf.shape)}" for name, leaf in tensors.items()}


def save(network: Network, about: dict[str, Any], path: Path) -> str:
    """Write the file that `load` reads, with `about` as its metadata; return its SHA-256."""
    flat: dict[str, Any] = traverse_util.flatten_dict(network.params, sep=".")
    tensors = {name: np.ascontiguousarray(leaf) for name, leaf in flat.items()}
    metadata = {_ABOUT: json.dumps({**about, "label_names": network.label_names})}
    content = safetensors.numpy.save(tensors, metadata)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def sprites_sha256(sprites: UInt8[np.ndarray, "n h w c"]) -> str:
    """SHA-256 of sprites in their order."""
    return hashlib.sha256(np.ascontiguousarray(sprites).data).hexdigest()


def extract(network: Network, sprites: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n f"]:
    """The features of any number of sprites; all are at least 0."""
    return _outputs(network, sprites)[0]


def label_logits(network: Network, sprites: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n a"]:
    """The logits of the labels, in the order of `label_names`; above 0, the label is more likely present than not."""
    return _outputs(network, sprites)[1]


def _outputs(
    network: Network, sprites: UInt8[np.ndarray, "n h w c"]
) -> tuple[Float[np.ndarray, "n f"], Float[np.ndarray, "n a"]]:
    if not len(sprites):
        raise ValueError("expected at least 1 sprite, got 0")
    module = SpriteFeatures(len(network.label_names))
    parts = []
    for start in range(0, len(sprites), _BATCH):
        batch = sprites[start : start + _BATCH]
        # Padded to one shape, which compiles once.
        full = batch[np.resize(np.arange(len(batch)), _BATCH)]
        parts.append([np.asarray(x)[: len(batch)] for x in _apply(module, network.params, full)])
    features, logits = zip(*parts, strict=True)
    return np.concatenate(features), np.concatenate(logits)


@partial(jax.jit, static_argnames="module")
def _apply(module: SpriteFeatures, params: Any, sprites: UInt8[Array, "b h w c"]) -> Any:
    return module.apply({"params": params}, to_float(sprites))


def to_float(sprites: UInt8[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """Scale 0..255 to [0, 1], the network's input range; RGBA sprites are premultiplied."""
    return transparency.premultiplied(sprites.astype(jnp.float32) / 255.0)
