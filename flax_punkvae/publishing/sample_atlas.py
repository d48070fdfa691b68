"""An atlas of samples for other programs, such as game engines: one PNG of tiles, and a JSON file that lists them."""

import json
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from flax_punkvae import images
from flax_punkvae.training.description import Description


def files(
    sprites: UInt8[np.ndarray, "n h w c"], names: Sequence[str], seed: int, described: Description, picture: str
) -> tuple[bytes, bytes]:
    """(PNG, JSON): tiles of h x w pixels without gaps, in about a square, and their names and places in pixels.

    `names` are those of the tiles; `picture` is the file name of the PNG.
    """
    count, height, width, _ = sprites.shape
    columns = int(np.ceil(np.sqrt(count)))
    frames = [
        {"name": name, "x": index % columns * width, "y": index // columns * height, "w": width, "h": height}
        for index, name in enumerate(names)
    ]
    listed = {
        "image": picture,
        "tile": [width, height],
        "columns": columns,
        "count": count,
        "model": described.params_sha256,
        "seed": seed,
        "frames": frames,
    }
    return images.to_png(images.grid(sprites, columns, gap=0)), (json.dumps(listed, indent=2) + "\n").encode()
