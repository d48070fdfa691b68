"""Facts about samples: whether each is new, which training image is nearest to it, and its traits."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from flax_punkvae import images
from flax_punkvae.measures import neighbours
from flax_punkvae.trained.model import Model
from flax_punkvae.trained.runs import TrainingSprites
from flax_punkvae.trained.traits import Reader

# Training images compared at a time.
_CHUNK = 128


def certify(
    model: Model,
    known: TrainingSprites | None,
    reader: Reader | None,
    decoded: UInt8[np.ndarray, "n h w c"],
    sprites: UInt8[np.ndarray, "n hs ws c"],
) -> list[dict[str, Any]]:
    """The facts in samples.json about each decoded image and its sprite (from `Model.to_sprites`).

    Without `known` they omit the nearest training image; without `reader`, the traits.
    """
    described = model.description
    parts: list[list[dict[str, Any]]] = [[{"new": bool(new)} for new in model.is_new(sprites)]]
    if known is not None:
        parts.append((_nearest_images if described.palette is None else _nearest_sprites)(known, sprites))
    if described.palette is not None:
        # Euclidean distance in RGB of each pixel of the image.
        pairs = zip(decoded, images.render(sprites, described.render), strict=True)
        distances = [np.linalg.norm(image.astype(np.float32) - own, axis=-1) for image, own in pairs]
        parts.append([{"rgb_distance_to_sprite": {"mean": float(x.mean()), "max": float(x.max())}} for x in distances])
    if reader is not None:
        present = reader.read(sprites)
        parts.append([{"traits": [reader.label_names[label] for label in np.flatnonzero(row)]} for row in present])
    return [{name: value for part in row for name, value in part.items()} for row in zip(*parts, strict=True)]


def _nearest_sprites(known: TrainingSprites, sprites: UInt8[np.ndarray, "n h w c"]) -> list[dict[str, Any]]:
    """The training sprite with the fewest differing pixels."""
    nearest, differing = neighbours.nearest_sprites(sprites, known.sprites)
    pixels = sprites.shape[1] * sprites.shape[2]
    return [
        {"nearest": int(known.ids[index]), "pixels_differ": int(count), "of_pixels": pixels}
        for index, count in zip(nearest, differing, strict=True)
    ]


def _nearest_images(known: TrainingSprites, decoded: UInt8[np.ndarray, "n h w c"]) -> list[dict[str, Any]]:
    """The training image with the smallest root-mean-square distance, on the scale 0..255."""
    flat = decoded.reshape(len(decoded), -1).astype(np.float64)
    norms = np.einsum("ij,ij->i", flat, flat)[:, None]
    squares = []
    for start in range(0, len(known.sprites), _CHUNK):
        chunk = known.sprites[start : start + _CHUNK]
        chunk = chunk.reshape(len(chunk), -1).astype(np.float64)
        # Exact, since all sums are integers below 2^53.
        squares.append(norms - 2 * (flat @ chunk.T) + np.einsum("ij,ij->i", chunk, chunk))
    distances = np.sqrt(np.concatenate(squares, axis=1) / flat.shape[1])
    return [{"nearest": int(known.ids[row.argmin()]), "rms_distance": float(row.min())} for row in distances]
