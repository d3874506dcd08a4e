"""Several processes that train together: who is who, waiting for each other, telling each other.

Each process runs the same program on its own devices and on its own part of every batch; a step's
sums run over the devices of all. The first process alone writes. `start` joins them; in a program
that never calls it, or is the only one, every function here is that of a single process.
"""

from __future__ import annotations

import collections
import contextlib
import contextvars
import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from jax._src import distributed

DEAD_AFTER = 60
"""Seconds without a sign of life after which a process counts as dead, and all others end."""

_A_WEEK = 7 * 24 * 3600 * 1000
_ALONE: contextvars.ContextVar[bool] = contextvars.ContextVar("alone", default=False)
_calls: collections.Counter = collections.Counter()


def start(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    *,
    dead_after: int = DEAD_AFTER,
) -> None:
    """Joins the processes of a run; every one of them calls it once, before JAX is first used.

    Without arguments the launcher is asked: `srun` of Slurm, `mpirun` of Open MPI, TPU pods. Where
    none has started several processes, nothing happens. Under Slurm and Open MPI a process that is
    the only one of its machine takes all devices there; of several each takes one
    (JAX_LOCAL_DEVICE_IDS, such as '0,1', says otherwise).

    When a process dies, the others end with an error, within about `dead_after` seconds: the
    launcher can start all of them again, and they go on from the last checkpoint.

    Args:
      coordinator: 'host:port' of the first process, the same for all; the port must be free there.
      num_processes: how many there are; 1 does nothing.
      process_id: which this one is, 0 to num_processes - 1.
      dead_after: seconds after which a silent process counts as dead.

    Raises:
      ValueError: when an argument is missing that no launcher tells, or does not fit, or when the
        processes have different numbers of devices.

    Example:
      # python program.py 0 & python program.py 1
      processes.start("localhost:9911", 2, int(sys.argv[1]))
    """
    told = (coordinator, num_processes, process_id)
    by_launcher = told == (None,) * 3
    if num_processes == 1 or (by_launcher and not (_many_tasks() or _on_a_tpu())):
        return
    for name, value, least in (("num_processes", num_processes, 1), ("process_id", process_id, 0)):
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}: expected at least {least}")
    if None not in told and process_id >= num_processes:
        raise ValueError(
            f"process_id is {process_id}: expected less than num_processes={num_processes}"
        )
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise ValueError(f"coordinator is {coordinator!r}: expected 'host:port'")
    try:
        jax.distributed.initialize(
            *told,
            # Where everything is told, a launcher's view of who owns which device does not count.
            cluster_detection_method=None if None in told else "deactivate",
            heartbeat_timeout_seconds=dead_after,
            shutdown_timeout_seconds=dead_after,
        )
    except ValueError as error:
        if by_launcher and not _many_tasks():
            return  # A machine with TPUs that belongs to no pod.
        raise ValueError(
            f"coordinator={coordinator!r}, num_processes={num_processes}, process_id={process_id}: "
            f"expected all three where no launcher tells the rest ({error})"
        ) from None
    if "JAX_LOCAL_DEVICE_IDS" not in os.environ and _one_on_each_machine():
        jax.config.update("jax_cuda_visible_devices", "all")
    counts = [len(jax.local_devices(process)) for process in range(jax.process_count())]
    if len(set(counts)) > 1:
        raise ValueError(f"the processes have {counts} devices: expected the same number in each")


def index() -> int:
    """Which process this is; 0 is the first."""
    return jax.process_index() if _together() else 0


def count() -> int:
    """How many processes train together."""
    return jax.process_count() if _together() else 1


def is_first() -> bool:
    """Whether this is the process that writes files and speaks to the user."""
    return index() == 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, in this thread, the process counts as the only one: what it does concerns it alone.

    For work that the others have no part in, such as an analysis in the first process.
    """
    token = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(token)


def barrier(name: str) -> None:
    """Waits until every process has come to the barrier of this name, however long that takes.

    Raises:
      RuntimeError: when a process has died.
    """
    if _together():
        distributed.global_state.client.wait_at_barrier(_key("barrier", name), _A_WEEK)


def broadcast(name: str, value: Any = None) -> Any:
    """The first process's value, in every process.

    Args:
      name: what it is, the same in all.
      value: anything that JSON can hold; only the first process's counts.

    Raises:
      RuntimeError: when a process has died.

    Example:
      >>> step = processes.broadcast("step", latest_step() if processes.is_first() else None)
    """
    if not _together():
        return value
    client, key = distributed.global_state.client, _key("value", name)
    if is_first():
        client.key_value_set(key, json.dumps(value))
        return value
    return json.loads(client.blocking_key_value_get(key, _A_WEEK))


def _together() -> bool:
    return not _ALONE.get() and jax.distributed.is_initialized()


def _key(kind: str, name: str) -> str:
    # Names come again, with every group for one; a key must not.
    _calls[kind, name] += 1
    return f"transfer_jax/{kind}/{name}/{_calls[kind, name]}"


def _many_tasks() -> bool:
    """Whether `srun` or `mpirun` has started several processes."""
    # Slurm's other variables are there in a shell of one task, too.
    tasks = (os.environ.get(name, "1") for name in ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"))
    return any(int(number) > 1 for number in tasks)


def _on_a_tpu() -> bool:
    if os.environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu":
        return False
    chips = (*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("[0-9]*"))
    return bool(chips) and importlib.util.find_spec("libtpu") is not None


def _one_on_each_machine() -> bool:
    by_slurm = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    return by_slurm.split("(")[0] == "1" or os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == "1"
