"""Data parallelism over a mesh of devices: split each batch, add up the sums, replicate the parameters.

A mesh of None means one device: every function is then its plain single-device version without collectives, which some
backends lack.
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
    """A 1-D mesh of all devices of all processes; None if there is only one device."""
    return Mesh(np.array(jax.devices()), (AXIS,)) if jax.device_count() > 1 else None


def size(mesh: Mesh | None) -> int:
    """Number of devices."""
    return 1 if mesh is None else mesh.size


def replicated(mesh: Mesh | None, tree: Any) -> Any:
    """Replicate the arrays of a tree on every device."""
    if mesh is None:
        return tree
    return owned(jax.device_put(jax.tree.map(np.asarray, tree), NamedSharding(mesh, _ALL)))


def placed(mesh: Mesh | None, shapes: Any) -> Any:
    """The shapes of a tree as those of arrays that are whole on every device."""
    where = SingleDeviceSharding(jax.local_devices()[0]) if mesh is None else NamedSharding(mesh, _ALL)
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where), shapes)


@jax.jit
def owned(tree: Any) -> Any:
    """Copy the arrays of a tree to memory that each device owns, so that they may be donated.

    On a CPU, device_put and Orbax may create arrays that share memory with a NumPy array and with other devices; if one
    is donated to a step that jaxlib 0.5.0 loaded from its compilation cache, it is overwritten or freed twice.
    """
    return jax.tree.map(jnp.copy, tree)


def widened(images: Shaped[np.ndarray, "*n h w c"]) -> Shaped[np.ndarray, "*n h w c"]:
    """Images in a type that every backend supports: uint16 indices as int32, others unchanged.

    NCCL, which sums `rows` over GPUs, has no 16-bit integers, nor has the list of types that we trust METAL with.
    """
    return images.astype(np.int32) if images.dtype == np.uint16 else images


def sharded(mesh: Mesh | None, images: Shaped[np.ndarray, "n h w c"]) -> Shaped[Array, "m h w c"]:
    """Split the images, `widened`, into equal parts, one per device; the last is padded with zeros (so m >= n)."""
    images = widened(images)
    if mesh is None:
        return jax.device_put(images)
    shape = (-(-len(images) // mesh.size) * mesh.size, *images.shape[1:])

    def part(index: Any) -> np.ndarray:
        images_there = images[index]
        missing = len(range(*index[0].indices(shape[0]))) - len(images_there)
        return np.pad(images_there, [(0, missing)] + [(0, 0)] * (images.ndim - 1))

    return jax.make_array_from_callback(shape, NamedSharding(mesh, _PART), part)


def rows(mesh: Mesh | None, images: Shaped[Array, "m h w c"], indices: Int[Array, "b"]) -> Shaped[Array, "b h w c"]:
    """images[indices], for `sharded` images; each device gets its part of the batch."""
    if mesh is None:
        return images[indices]

    def part(images: Array, indices: Array) -> Array:
        # Each device contributes the images it holds. Only one holds an image, so the sum is exact in any dtype.
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
    # Unchecked: the replication check does not support our custom gradients. Its argument was renamed.
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    from jax.experimental.shard_map import shard_map

    return shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_rep=False)
