"""How one pure step is mapped over the local devices: `jax.pmap`, and nothing else knows of it.

A step is written for one device with a named batch axis. State is replicated: every leaf has a
leading device axis. Batches are split along their first axis, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from transfer_jax.networks import cpu_layers

BATCH_AXIS = "batch"


def set_up_host(cpu_devices: int = 0) -> None:
    """Prepares this process's CPU for training; programs call it before JAX is first used.

    Args:
      cpu_devices: how many devices the CPU is shown as; 0 leaves it to XLA_FLAGS, which is one
        unless they say otherwise. Several devices that share cores wait for each other in every
        step: right for trying out what several accelerators would do, not for speed.
    """
    cpu_layers.keep_freed_memory()
    if cpu_devices:
        jax.config.update("jax_num_cpu_devices", cpu_devices)


def map_over_devices(
    function: Callable, *, donate: tuple[int, ...] = (), num_broadcast: int = 0
) -> Callable:
    """Compiles a per-device function and maps it over all local devices.

    Args:
      function: takes trees of arrays; may use collectives over `BATCH_AXIS`.
      donate: positions of arguments whose buffers the result may reuse.
      num_broadcast: how many of the last arguments are the same host values on every device; the
        others carry a leading device axis.
    """

    def in_axes(count: int):
        return (0,) * (count - num_broadcast) + (None,) * num_broadcast

    mapped: dict[int, Callable] = {}

    def call(*arguments):
        count = len(arguments)
        if count not in mapped:
            mapped[count] = jax.pmap(
                function, axis_name=BATCH_AXIS, in_axes=in_axes(count), donate_argnums=donate
            )
        return mapped[count](*arguments)

    return call


def num_devices() -> int:
    """Number of devices of this process."""
    return jax.local_device_count()


def replicate(tree: Any) -> Any:
    """Copies a tree of arrays to every local device, with a leading device axis."""
    devices = jax.local_devices()
    mesh = jax.sharding.Mesh(np.array(devices), (BATCH_AXIS,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(BATCH_AXIS))

    def copy(leaf):
        leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        pieces = [jax.device_put(leaf[None], device) for device in devices]
        shape = (len(devices), *leaf.shape)
        return jax.make_array_from_single_device_arrays(shape, sharding, pieces)

    return jax.tree.map(copy, tree)


def unreplicate(tree: Any) -> Any:
    """The first device's copy of a replicated tree, without the device axis."""
    return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], tree)


def split_batch(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Reshapes a host array so that a leading device axis splits `axis` into equal, ordered parts.

    Raises:
      ValueError: when the axis cannot be divided by the number of devices.
    """
    axis %= array.ndim
    devices, size = num_devices(), array.shape[axis]
    if size % devices:
        raise ValueError(f"a batch of {size} cannot be split over {devices} devices evenly")
    shape = (*array.shape[:axis], devices, size // devices, *array.shape[axis + 1 :])
    return np.moveaxis(array.reshape(shape), axis, 0)
