"""Data parallelism over a mesh of devices: each takes its part of a batch, sums are added, parameters are replicated.

A mesh of None is one device: every function here then does what its one-device meaning says and adds no op of its own,
so that backends without collectives see none.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from jaxtyping import Array, Int, Shaped

AXIS = "data"
_ALL = PartitionSpec()
_PART = PartitionSpec(AXIS)


def make_mesh() -> Mesh | None:
    """All devices of all processes in a row; None where there is one."""
    return Mesh(np.array(jax.devices()), (AXIS,)) if jax.device_count() > 1 else None


def size(mesh: Mesh | None) -> int:
    """How many devices."""
    return 1 if mesh is None else mesh.size


def replicated(mesh: Mesh | None, tree: Any) -> Any:
    """The arrays of a tree, whole on every device."""
    if mesh is None:
        return tree
    return owned(jax.device_put(jax.tree.map(np.asarray, tree), NamedSharding(mesh, _ALL)))


def placed(mesh: Mesh | None, shapes: Any) -> Any:
    """The shapes of a tree as those of arrays that are whole on every device."""
    where = SingleDeviceSharding(jax.local_devices()[0]) if mesh is None else NamedSharding(mesh, _ALL)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), shapes)


@jax.jit
def owned(tree: Any) -> Any:
    """The arrays in memory that is each device's own, so that they may be donated.

    On a CPU an array made from NumPy's, as device_put and Orbax make them, may share its memory, and devices may share
    it among them; donated to a step that jaxlib 0.5.0 read from its compilation cache it is overwritten or freed twice.
    """
    return jax.tree.map(jnp.copy, tree)


def sharded(mesh: Mesh | None, images: Shaped[np.ndarray, "n h w c"]) -> Shaped[Array, "m h w c"]:
    """The images, each on one device, in equal parts; the last part is filled up with zeros (so m >= n)."""
    if mesh is None:
        return jax.device_put(images)
    shape = (-(-len(images) // mesh.size) * mesh.size, *images.shape[1:])

    def part(index: Any) -> np.ndarray:
        images_there = images[index]
        missing = len(range(*index[0].indices(shape[0]))) - len(images_there)
        return np.pad(images_there, [(0, missing)] + [(0, 0)] * (images.ndim - 1))

    return jax.make_array_from_callback(shape, NamedSharding(mesh, _PART), part)


def rows(mesh: Mesh | None, images: Shaped[Array, "m h w c"], indices: Int[Array, "b"]) -> Shaped[Array, "b h w c"]:
    """images[indices], of images that are `sharded`; each device gets its part of the batch."""
    if mesh is None:
        return images[indices]

    def part(images: Array, indices: Array) -> Array:
        # Every device adds what it holds of the batch; an image is held by one, so the sum is exact in any type.
        here = indices - jax.lax.axis_index(AXIS) * len(images)
        held = (here >= 0) & (here < len(images))
        found = jnp.where(held[:, None, None, None], images[jnp.clip(here, 0, len(images) - 1)], 0)
        return jax.lax.psum_scatter(found.astype(images.dtype), AXIS, tiled=True)

    return _shard_map(part, mesh, (_PART, _ALL), _PART)(images, indices)


def summed(mesh: Mesh | None, function: Callable[..., Any], params: Any, *batch: Array) -> Any:
    """function(params, *batch), where every output is a sum over the examples of the batch."""
    if mesh is None:
        return function(params, *batch)

    def part(params: Any, *batch: Array) -> Any:
        return jax.lax.psum(function(params, *batch), AXIS)

    return _shard_map(part, mesh, (_ALL, *[_PART] * len(batch)), _ALL)(params, *batch)


def mapped(mesh: Mesh | None, function: Callable[..., Any], params: Any, *batch: Array) -> Any:
    """function(params, *batch), where every output has a row for each example of the batch."""
    if mesh is None:
        return function(params, *batch)

    def part(params: Any, *batch: Array) -> Any:
        # Gathered, since a process can read only what its own devices hold.
        return jax.tree.map(lambda x: jax.lax.all_gather(x, AXIS, tiled=True), function(params, *batch))

    return _shard_map(part, mesh, (_ALL, *[_PART] * len(batch)), _ALL)(params, *batch)


def _shard_map(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    # Unchecked: the checker of replication does not know our custom gradients, and its name has changed since.
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    from jax.experimental.shard_map import shard_map

    return shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_rep=False)
