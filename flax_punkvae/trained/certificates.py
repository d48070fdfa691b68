"""What is known of a sample: whether it is new, what is nearest to it, and its traits."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from flax_punkvae import images
from flax_punkvae.measures import fidelity
from flax_punkvae.measures.features import Network
from flax_punkvae.trained import traits
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import TrainingSprites

# Training images compared at once.
_AT_ONCE = 128


def certify(
    model: Model,
    known: TrainingSprites | None,
    network: Network | None,
    decoded: UInt8[np.ndarray, "n h w 3"],
    sprites: UInt8[np.ndarray, "n hs ws 3"],
) -> list[dict[str, Any]]:
    """For each decoded image and its sprite, as `Model.to_sprites` gives it, what samples.json says.

    Without the training sprites, the nearest one is left out; without a network, the traits are.
    """
    described = model.description
    parts: list[list[dict[str, Any]]] = [[{"new": bool(new)} for new in model.is_new(sprites)]]
    if known is not None:
        parts.append((_nearest_images if described.palette is None else _nearest_sprites)(known, sprites))
    if described.palette is not None:
        # Euclidean in RGB, pixel by pixel of the image.
        pairs = zip(decoded, images.render(sprites, described.render), strict=True)
        off = [np.linalg.norm(image.astype(np.float32) - own, axis=-1) for image, own in pairs]
        parts.append([{"rgb_distance_to_sprite": {"mean": float(x.mean()), "max": float(x.max())}} for x in off])
    if network is not None:
        present = traits.read(network, sprites)
        parts.append([{"traits": [network.label_names[at] for at in np.flatnonzero(row)]} for row in present])
    return [{name: value for part in row for name, value in part.items()} for row in zip(*parts, strict=True)]


def _nearest_sprites(known: TrainingSprites, sprites: UInt8[np.ndarray, "n h w 3"]) -> list[dict[str, Any]]:
    """The training sprite with the fewest differing pixels."""
    nearest, differing = fidelity.nearest_sprites(sprites, known.sprites)
    of = sprites.shape[1] * sprites.shape[2]
    return [
        {"nearest": int(known.ids[index]), "pixels_differ": int(count), "of_pixels": of}
        for index, count in zip(nearest, differing, strict=True)
    ]


def _nearest_images(known: TrainingSprites, decoded: UInt8[np.ndarray, "n h w 3"]) -> list[dict[str, Any]]:
    """The training image at the smallest root-mean-square distance, in levels of 0..255."""
    flat = decoded.reshape(len(decoded), -1).astype(np.float64)
    own = np.einsum("ij,ij->i", flat, flat)[:, None]
    squares = []
    for start in range(0, len(known.sprites), _AT_ONCE):
        some = known.sprites[start : start + _AT_ONCE]
        some = some.reshape(len(some), -1).astype(np.float64)
        # Sums of whole numbers below 2^53: exact.
        squares.append(own - 2 * (flat @ some.T) + np.einsum("ij,ij->i", some, some))
    distances = np.sqrt(np.concatenate(squares, axis=1) / flat.shape[1])
    return [{"nearest": int(known.ids[row.argmin()]), "rms_distance": float(row.min())} for row in distances]
