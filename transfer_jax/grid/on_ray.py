"""Groups as tasks of a Ray cluster that write into one workdir on a folder all nodes share."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
from tqdm import tqdm

from transfer_jax.grid.cell import Group
from transfer_jax.grid.store import Store
from transfer_jax.training import parallel
from transfer_jax.training.loop import Runtime


@dataclasses.dataclass(frozen=True)
class Ray:
    """Where groups are trained, each as a task on one node, its batch split over the task's GPUs.

    Every node must have this package, and the workdir and the data under the same paths. A task
    whose worker dies is started again, up to three times, wherever there is room, and goes on from
    its checkpoint.

    Attributes:
      address: 'host:port' of a cluster, 'auto' for the one that this machine belongs to, or 'local'
        for one of this machine alone: the way to train groups on several devices at once.
      num_cpus: cores of a task; XLA and NumPy's libraries use so many threads.
      num_gpus: GPUs of a task, 0 to train on CPUs; below 1, tasks share a GPU and its memory.
    """

    address: str = "local"
    num_cpus: float = 1.0
    num_gpus: float = 1.0

    def __post_init__(self):
        for name, low in (("num_cpus", 0.01), ("num_gpus", 0)):
            value = getattr(self, name)
            if not low <= value < math.inf or (value > 1 and value != int(value)):
                raise ValueError(f"ray.{name}={value!r}: expected a whole number, or less than 1")


def train_groups(
    ray: Ray,
    train_group: Callable,
    workdir: Path,
    plan: Sequence[Group],
    runtime: Runtime,
    ended: Callable[[Group, BaseException | None], None],
    bar: tqdm,
) -> None:
    """Trains the groups of a plan by `run.train_group`, each when the cells that it copies from are
    finished; `ended` is called with each group that has ended, and what stopped it or None.
    ConnectionError where no cluster answers, ValueError where no node has what a task needs.
    """
    with _session(ray) as api:
        remote = api.remote(num_cpus=ray.num_cpus, num_gpus=ray.num_gpus)(_work)
        waiting, running, store, lost = list(plan), {}, Store(workdir), set()
        try:
            while waiting or running:
                for group in list(waiting):
                    source = group[0].source
                    if source and source.hash in lost:
                        waiting.remove(group)
                        lost.update(cell.hash for cell in group)
                    elif source is None or store.outcome(source) is not None:
                        waiting.remove(group)
                        task = remote.remote(train_group, workdir, group, runtime, ray, os.getcwd())
                        running[task] = group
                if not running:
                    break
                (task,), _ = api.wait(list(running), num_returns=1)
                group, error = running.pop(task), None
                try:
                    api.get(task)
                except Exception as caught:
                    error = caught
                    lost.update(cell.hash for cell in group)
                bar.update(sum(cell.recipe.steps * cell.recipe.batch_size for cell in group))
                ended(group, error)
        except BaseException:
            for task in running:
                api.cancel(task, force=True)
            raise


def _work(train_group, workdir, group, runtime, ray: Ray, folder: str) -> None:
    """What a task does; a worker process trains one group after the other."""
    threads = str(max(1, int(ray.num_cpus)))
    # XLA sizes its thread pool by NPROC, as if the machine had so many cores.
    for name in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = threads
    if ray.num_gpus == 0 and not jax.config.jax_platforms:
        # GPUs that the node has are not this task's.
        jax.config.update("jax_platforms", "cpu")
    if 0 < ray.num_gpus < 1:
        # Of what JAX would take of a GPU, this task's share.
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.75 * ray.num_gpus:.3f}")
    if os.path.isdir(folder):  # For relative paths of data.
        os.chdir(folder)
    parallel.set_up(num_processes=1)
    logging.getLogger("absl").setLevel(logging.ERROR)
    train_group(workdir, group, runtime)


@contextlib.contextmanager
def _session(options: Ray):
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise ImportError("--config.executor='ray': install transfer_jax[ray]") from error
    quiet = {"logging_level": logging.WARNING}
    if options.address == "local":
        quiet["include_dashboard"] = False
    try:
        ray.init(address=options.address, **quiet)
    except (RuntimeError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ConnectionError(
            f"--config.ray.address={options.address!r}: no Ray cluster answers there ({reason})"
        ) from error
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        has = [(node.get("CPU", 0), node.get("GPU", 0)) for node in nodes]
        # Ray would let tasks wait for ever that fit on no node.
        if not any(c >= options.num_cpus and g >= options.num_gpus for c, g in has):
            raise ValueError(
                f"--config.ray.num_cpus={options.num_cpus:g}, num_gpus={options.num_gpus:g}: the "
                f"cluster's nodes have (CPUs, GPUs) {sorted(set(has))}"
            )
        yield ray
    finally:
        ray.shutdown()
