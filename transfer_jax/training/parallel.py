"""Devices and processes: `jax.pmap` over all of them, and nothing else knows of it.

A step is written for one device with the batch axis `AXIS`, which spans the devices of all
processes that train together. State is replicated: every leaf has a leading axis of this process's
devices. Batches are split in order, over the processes first, then over the devices of each. The
first process alone writes files.
"""

from __future__ import annotations

import json
import os
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from transfer_jax.networks.cpu import keep_freed_memory

AXIS = "batch"
DEAD_AFTER = 60
"""Seconds without a sign of life after which a process counts as dead, and all others end."""


def set_up(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Prepares this process for training; programs call it once, before JAX is first used.

    On GPUs it asks XLA for deterministic operations, without which a resumed run differs in its
    last bits. Told 'host:port' of the first of several processes, how many there are and which this
    one is, or under Slurm, Open MPI and on TPU pods, it joins the others, which all call it. When
    one dies the others end within about DEAD_AFTER seconds; all started again go on from the last
    checkpoint.
    """
    keep_freed_memory()
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_gpu_deterministic_ops=true".strip()
    # A shell of one Slurm task has Slurm's other variables, too.
    tasks = (os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    launched = any(int(number) > 1 for number in tasks) or "TPU_WORKER_HOSTNAMES" in os.environ
    told = (coordinator, num_processes, process_id)
    if num_processes == 1 or (told == (None,) * 3 and not launched):
        return
    jax.distributed.initialize(
        *told,
        # Where everything is told, a launcher's view of who owns which device does not count.
        cluster_detection_method=None if None in told else "deactivate",
        heartbeat_timeout_seconds=DEAD_AFTER,
        shutdown_timeout_seconds=DEAD_AFTER,
    )


def is_first() -> bool:
    """Whether this is the process that writes files and speaks to the user."""
    return jax.process_index() == 0


def barrier(name: str) -> None:
    """Waits until every process has come to the barrier of this name."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def broadcast(value: Any) -> Any:
    """The first process's value, JSON-able, in every process; all must call it."""
    if jax.process_count() == 1:
        return value
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    size = int(multihost_utils.broadcast_one_to_all(np.int32(text.size)))
    padded = np.resize(text, size) if is_first() else np.zeros(size, np.uint8)
    return json.loads(multihost_utils.broadcast_one_to_all(padded).astype(np.uint8).tobytes())


def own_part(batch_size: int) -> tuple[int, int]:
    """(start, stop): which examples of a batch this process's devices take; ValueError where it
    cannot be split evenly over the devices of all processes."""
    if batch_size % jax.device_count():
        raise ValueError(
            f"recipe.batch_size={batch_size}: expected a multiple of the number of devices, "
            f"{jax.device_count()}"
        )
    share = batch_size // jax.process_count()
    return jax.process_index() * share, (jax.process_index() + 1) * share


def split_batch(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Reshapes this process's part of a batch so that a leading device axis splits `axis`."""
    devices = jax.local_device_count()
    axis %= array.ndim
    shape = (*array.shape[:axis], devices, array.shape[axis] // devices, *array.shape[axis + 1 :])
    return np.moveaxis(array.reshape(shape), axis, 0)


def put(tree: Any) -> Any:
    """Starts moving host arrays with a leading device axis to this process's devices."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS)))


def replicate(tree: Any) -> Any:
    """Copies arrays to every device of this process, with a leading axis of devices."""
    devices = jax.local_device_count()
    return put(jax.tree.map(lambda a: np.broadcast_to(a, (devices, *np.shape(a))), tree))


def unreplicate(tree: Any) -> Any:
    """The first device's copy, without the device axis."""
    return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], tree)
