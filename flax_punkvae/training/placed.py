"""The images of a run on its devices: as they are, or as sprites that are rendered within each step.

So a million sprites take 1.7 GB on the devices, not the 49 GB of their renderings at 128x128.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.sharding import Mesh
from jaxtyping import Array, Int, Int32, Integer

from flax_punkvae import resampling
from flax_punkvae.data import LazyImages
from flax_punkvae.devices import parallel
from flax_punkvae.images import Render, enlarges


class Placed(struct.PyTreeNode):
    """Images that are `parallel.sharded` over devices; `pixels` and the static `render` are as in `data.LazyImages`."""

    pixels: Any
    render: Render = struct.field(pytree_node=False)


def placed(mesh: Mesh | None, images: LazyImages) -> Placed:
    """Place the images of a dataset on the devices."""
    return Placed(parallel.sharded(mesh, images.pixels), images.render)


def rows(
    mesh: Mesh | None, images: Placed | Integer[Array, "m h w c"], indices: Int[Array, "b"]
) -> Integer[Array, "b h w c"]:
    """images[indices], rendered, with the same bytes as the host's; an array of images is taken as it is."""
    if not isinstance(images, Placed):
        return parallel.rows(mesh, images, indices)
    found = parallel.rows(mesh, images.pixels, indices)
    if not enlarges(images.render):
        return found
    taps = resampling.taps(images.render)
    # Like Pillow, across, then down, rounded to 8 bits in between.
    return _resampled(_resampled(found, 2, taps), 1, taps)


def _resampled(images: Integer[Array, "b h w c"], axis: int, taps: resampling.Taps) -> Integer[Array, "b hr wr c"]:
    """Resample one axis in 32-bit integers, which hold a pixel times a weight."""

    def taken(positions: Int32[np.ndarray, "m"]) -> Int32[Array, "b hr wr c"]:
        return jnp.take(images, positions, axis, mode="clip").astype(jnp.int32)

    shares = np.expand_dims(taps.shares, tuple(range(1, images.ndim - axis)))
    mixed = resampling.mixed(taken(taps.left), taken(taps.left + 1), shares)
    return mixed.astype(images.dtype)
