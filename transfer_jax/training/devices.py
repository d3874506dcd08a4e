"""How one pure step is mapped over devices: `jax.pmap`, and nothing else knows of it.

A step is written for one device with a named batch axis, which spans the devices of all processes
that train together. State is replicated: every leaf has a leading axis of this process's devices.
Batches are split along their first axis, in order: over the processes first, then over the devices
of each. `only` narrows all of this to some devices of this process, for the thread that asks.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from transfer_jax.networks import cpu_layers
from transfer_jax.training import processes

BATCH_AXIS = "batch"

_CHOSEN: contextvars.ContextVar[tuple[jax.Device, ...] | None] = contextvars.ContextVar(
    "chosen devices", default=None
)


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


@contextlib.contextmanager
def only(devices: Sequence[jax.Device]) -> Iterator[None]:
    """Inside, this thread uses these devices and no others.

    Everything that is built on this module follows: the trainer, the feed, evaluations. Threads
    with different devices train different groups at once; each set of devices has its own compiled
    steps and its own resident data. Among several processes, this one then works alone.

    Args:
      devices: of this process; at least one, none twice.

    Raises:
      ValueError: devices of another process, none, or one twice.

    Example:
      >>> with devices.only(jax.local_devices()[2:4]):
      ...     outcomes = train_group(...)
    """
    devices = tuple(devices)
    if not devices or len(set(devices)) < len(devices):
        raise ValueError(f"devices={devices}: expected at least one, and none twice")
    if not set(devices) <= set(jax.local_devices()):
        raise ValueError(f"devices={devices}: expected some of {jax.local_devices()}")
    token = _CHOSEN.set(devices)
    try:
        with processes.alone(), jax.default_device(devices[0]):
            yield
    finally:
        _CHOSEN.reset(token)


def local() -> tuple[jax.Device, ...]:
    """The devices of this process that are in use: all, or those of `only`."""
    return _CHOSEN.get() or tuple(jax.local_devices())


def num_devices() -> int:
    """Number of devices of this process that are in use."""
    return len(local())


def axis_devices() -> tuple[jax.Device, ...]:
    """The devices that a step is mapped over, in order: those of all processes that train
    together, or those of `only`."""
    if processes.count() == 1:
        return local()
    return tuple(d for p in range(processes.count()) for d in jax.local_devices(p))


def axis_size() -> int:
    """Number of devices that a batch is split over."""
    return processes.count() * num_devices()


def map_over_devices(
    function: Callable, *, donate: tuple[int, ...] = (), num_broadcast: int = 0
) -> Callable:
    """Compiles a per-device function and maps it over the devices in use.

    Args:
      function: takes trees of arrays; may use collectives over `BATCH_AXIS`.
      donate: positions of arguments whose buffers the result may reuse.
      num_broadcast: how many of the last arguments are the same host values on every device; the
        others carry a leading axis of this process's devices, and so do the results.
    """

    @functools.cache
    def mapped(count: int, devices: tuple[jax.Device, ...]) -> Callable:
        return jax.pmap(
            function,
            axis_name=BATCH_AXIS,
            in_axes=(0,) * (count - num_broadcast) + (None,) * num_broadcast,
            devices=devices,
            donate_argnums=donate,
        )

    return lambda *arguments: mapped(len(arguments), axis_devices())(*arguments)


def cached(maxsize: int) -> Callable[[Callable], Callable]:
    """Like `functools.lru_cache`, with `maxsize` results for each set of devices.

    A result is made once, whichever threads ask for it at the same time.
    """

    def decorate(make: Callable) -> Callable:
        caches: dict[tuple, tuple[threading.RLock, Callable]] = {}

        @functools.wraps(make)
        def find(*arguments):
            fresh = (threading.RLock(), functools.lru_cache(maxsize)(make))
            lock, cache = caches.setdefault(axis_devices(), fresh)
            with lock:
                return cache(*arguments)

        find.cache_clear = caches.clear
        return find

    return decorate


def replicate(tree: Any) -> Any:
    """Copies a tree of arrays to every device in use, with a leading axis of this process's."""
    devices = local()
    sharding = _split_over(devices)

    def copy(leaf):
        leaf = leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)
        pieces = [jax.device_put(leaf[None], device) for device in devices]
        shape = (len(devices), *leaf.shape)
        return jax.make_array_from_single_device_arrays(shape, sharding, pieces)

    return jax.tree.map(copy, tree)


def unreplicate(tree: Any) -> Any:
    """The first device's copy of a replicated tree, without the device axis."""
    return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], tree)


def put(tree: Any) -> Any:
    """Starts moving host arrays with a leading device axis, such as `split_batch` gives, to the
    devices in use; returns while that goes on."""
    return jax.device_put(tree, _split_over(local()))


def split_batch(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Reshapes a host array so that a leading device axis splits `axis` into equal, ordered parts.

    Args:
      array: what belongs to this process's devices, see `own_part`.
      axis: which axis counts the examples.

    Raises:
      ValueError: when the axis cannot be divided by the number of devices.
    """
    axis %= array.ndim
    devices, size = num_devices(), array.shape[axis]
    if size % devices:
        raise ValueError(f"a batch of {size} cannot be split over {devices} devices evenly")
    shape = (*array.shape[:axis], devices, size // devices, *array.shape[axis + 1 :])
    return np.moveaxis(array.reshape(shape), axis, 0)


def own_part(batch_size: int) -> tuple[int, int]:
    """(start, stop): which examples of a batch over all processes this process's devices take.

    Raises:
      ValueError: when the processes cannot share the batch evenly.
    """
    share, rest = divmod(batch_size, processes.count())
    if rest:
        raise ValueError(
            f"a batch of {batch_size} cannot be split over {processes.count()} processes evenly"
        )
    return processes.index() * share, (processes.index() + 1) * share


def _split_over(devices: tuple[jax.Device, ...]) -> jax.sharding.NamedSharding:
    mesh = jax.sharding.Mesh(np.array(devices), (BATCH_AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(BATCH_AXIS))
