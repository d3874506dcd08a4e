"""Groups as tasks of a Ray cluster, which writes into one workdir on a folder that all share."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path

import jax
from absl import logging as absl_logging

from transfer_jax.grid.job import Job
from transfer_jax.grid.plan import Group
from transfer_jax.grid.schedule import Slots
from transfer_jax.grid.store import Store
from transfer_jax.training import devices
from transfer_jax.training.outcome import Outcome
from transfer_jax.training.progress import Progress

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 30
"""Of a worker's log about one group."""


@dataclasses.dataclass(frozen=True)
class RayExecutor:
    """Trains each group as a task of Ray, each on one node, its batch split over the task's GPUs.

    Every node must have this package, and the workdir and the data under the same paths. A task
    whose worker or node dies is started again, wherever there is room, and goes on from the group's
    last checkpoint. Tasks wait in Ray's queue, so nodes that join later are used.

    Attributes:
      address: 'host:port' of a cluster, 'auto' for the one that this machine belongs to, or 'local'
        to start one of this machine alone, which ends with the session.
      num_cpus: cores of a task; XLA and the libraries below NumPy use so many threads.
      num_gpus: GPUs of a task, 0 to train on CPUs. Below 1, tasks share a GPU and its memory.
      max_retries: how often a task is started again whose worker died; -1 for ever.

    Raises:
      ValueError: for numbers that no task can have.
    """

    address: str = "local"
    num_cpus: float = 1.0
    num_gpus: float = 1.0
    max_retries: int = 3

    def __post_init__(self):
        for name, low, accepted in (
            ("num_cpus", 0, "a positive number"),
            ("num_gpus", -1, "0 or a positive number"),
        ):
            value = getattr(self, name)
            if not low < value < float("inf") or -1 < value < 0:
                raise ValueError(f"ray.{name}={value!r}: expected {accepted}")
        for name in ("num_cpus", "num_gpus"):
            value = getattr(self, name)
            if value > 1 and value != int(value):
                raise ValueError(f"ray.{name}={value!r}: expected a whole number, or less than 1")
        if isinstance(self.max_retries, bool) or not (
            isinstance(self.max_retries, int) and self.max_retries >= -1
        ):
            raise ValueError(f"ray.max_retries={self.max_retries!r}: expected an integer from -1")

    @contextlib.contextmanager
    def session(self) -> Iterator[None]:
        """Connects to the cluster, unless this process is connected already.

        Raises:
          ImportError: Ray is not installed.
          ConnectionError: no cluster answers at the address.
          ValueError: no node has what a task needs.
        """
        ray = _import_ray()
        connected_before = ray.is_initialized()
        if not connected_before:
            options = {"logging_level": logging.WARNING}
            if self.address == "local":
                options |= {"include_dashboard": False}
            try:
                ray.init(address=self.address, **options)
            except (RuntimeError, ValueError, OSError) as error:
                reason = " ".join(str(error).split())
                raise ConnectionError(
                    f"config.ray.address={self.address!r}: no Ray cluster answers there ({reason})"
                ) from error
        try:
            self._require(ray.nodes())
            yield
        finally:
            if not connected_before:
                ray.shutdown()

    def _require(self, nodes: Sequence[dict]) -> None:
        # Ray would let tasks wait for ever that fit on no node.
        alive = [node["Resources"] for node in nodes if node["Alive"]]
        has = [(node.get("CPU", 0), node.get("GPU", 0)) for node in alive]
        if not any(cpus >= self.num_cpus and gpus >= self.num_gpus for cpus, gpus in has):
            listed = "; ".join(f"{cpus:g} CPUs, {gpus:g} GPUs" for cpus, gpus in sorted(set(has)))
            raise ValueError(
                f"config.ray.num_cpus={self.num_cpus:g}, config.ray.num_gpus={self.num_gpus:g}: "
                f"expected what one node has; those of the cluster have {listed or 'nothing'}"
            )

    @contextlib.contextmanager
    def slots(self, job: Job, whole: Sequence[Group], progress: Progress) -> Iterator[Slots]:
        """A slot for every group: Ray decides how many tasks run at a time."""
        ray = _import_ray()
        train = ray.remote(
            num_cpus=self.num_cpus, num_gpus=self.num_gpus, max_retries=self.max_retries
        )(train_on_worker)
        shared, here = ray.put((job, self)), str(Path.cwd())
        references = []

        def submit(group: Group) -> Future:
            reference = train.remote(shared, group, here)
            references.append(reference)
            future = reference.future()
            images = sum(cell.recipe.steps * cell.recipe.batch_size for cell in group.cells)
            future.add_done_callback(lambda ended: ended.exception() or progress.skip(images))
            return future

        cells = sum(len(group.cells) for group in whole)
        try:
            yield Slots(max(cells, 1), submit)
        except BaseException:
            for reference in references:
                ray.cancel(reference, force=True)
            raise
        Store(job.workdir).remove_group_locks()


def train_on_worker(shared: tuple[Job, RayExecutor], group: Group, folder: str) -> list[Outcome]:
    """What a task does, in a worker process of Ray; returns what `Job.train` does.

    Args:
      shared: the job, and the executor that runs it.
      group: to be trained.
      folder: working directory of the driver, for relative paths of data.
    """
    job, executor = shared
    _set_up_worker(job.runtime.cpu_devices, executor.num_cpus, executor.num_gpus)
    if os.path.isdir(folder):
        os.chdir(folder)
    store = Store(job.workdir)
    with store.group_lock(group):
        # A predecessor that was given up for dead may have got through.
        if all(store.outcome(cell) is not None for cell in group.cells):
            return []
        return job.train(group, _LoggedProgress())


@functools.cache
def _set_up_worker(cpu_devices: int, num_cpus: float, num_gpus: float) -> None:
    """Before JAX is used for the first time: a worker process trains one group after the other."""
    threads = str(max(1, int(num_cpus)))
    # XLA sizes its thread pool by NPROC, as if the machine had so many cores.
    for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = threads
    if num_gpus == 0 and not jax.config.jax_platforms:
        # GPUs that the node has are not this task's.
        jax.config.update("jax_platforms", "cpu")
    if 0 < num_gpus < 1:
        # Of what JAX would take of a GPU, this task's share.
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.75 * num_gpus:.3f}")
    devices.set_up_host(cpu_devices)
    absl_logging.set_verbosity(absl_logging.ERROR)
    logger = logging.getLogger("transfer_jax")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.StreamHandler(sys.stderr))


class _LoggedProgress:
    """A `Progress` for processes without a terminal, whose log lines Ray brings to the driver."""

    def group(self, names: Sequence[str], steps: int, first: int, batch_size: int) -> _LoggedBar:
        label = names[0] if len(names) == 1 else f"{names[0]}..{names[-1]}"
        log.info("%s: from step %d of %d", label, first, steps)
        return _LoggedBar(label, steps)


class _LoggedBar:
    """See `progress.GroupBar`."""

    def __init__(self, label: str, steps: int):
        self._label, self._steps, self._told = label, steps, time.monotonic()

    def update_to(self, step: int, *, loss: float) -> None:
        if time.monotonic() - self._told > SECONDS_BETWEEN_LINES:
            log.info("%s: step %d of %d, loss %.3f", self._label, step, self._steps, loss)
            self._told = time.monotonic()

    def close(self) -> None:
        pass


def _import_ray():
    # Ray would fold lines of different workers that look alike into one.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            "config.executor='ray' needs the package ray: install transfer_jax[ray]"
        ) from error
    return ray
