"""Checkpoints of a group in training, and stored parameters and snapshots of cells, by Orbax.

Of several processes the first writes, from its own copy of a replicated state, and all read: none
waits for another inside Orbax. Of several threads that train side by side, one at a time is written
for: Orbax mixes up saves that overlap.
"""

from __future__ import annotations

import errno
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from transfer_jax.training import processes

# One thread for the whole process: what it is given is written in this order, one by one.
_WRITER = ThreadPoolExecutor(1, "checkpoints")


class Checkpoints:
    """The checkpoints of one group in training. A checkpoint counts only once it is complete; a
    kill while one is written leaves the last one."""

    def __init__(self, directory: Path, keep: int, read_only: bool):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            enable_async_checkpointing=False,
            create=False,
            read_only=read_only,
            multiprocessing_options=_by_itself(),
        )
        names = ("state", "position")
        self.directory = directory
        self.manager = ocp.CheckpointManager(directory, options=options, item_names=names)
        self._saving: Future | None = None

    def save(self, step: int, items: ocp.args.CheckpointArgs) -> None:
        """Starts saving; waits first for the last one, whose error it may raise."""
        self.wait_until_finished()
        self._saving = _WRITER.submit(self.manager.save, step, args=items)

    def wait_until_finished(self) -> None:
        """Waits for what is being saved; raises what stopped it."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def all_steps(self) -> list[int]:
        """Numbers of updates after which there are checkpoints, ascending."""
        return sorted(self.manager.all_steps())

    def close(self) -> None:
        """Waits, and lets go of the folder."""
        self.wait_until_finished()
        self.manager.close()


def manager(directory: Path, keep: int) -> Checkpoints:
    """Opens a group's checkpoints, of which the last `keep` are kept.

    All processes that train together call this; the first alone can save.
    """
    directory = directory.absolute()
    if processes.is_first():
        directory.mkdir(parents=True, exist_ok=True)
    processes.barrier("checkpoint directory")
    return Checkpoints(directory, keep, read_only=not processes.is_first())


def save(checkpoints: Checkpoints, step: int, state: Any, position: dict) -> None:
    """Starts saving, and returns while it goes on.

    Args:
      checkpoints: the group's.
      step: number of updates made.
      state: tree of arrays, without a device axis.
      position: JSON-able place in the data and in time, such as the loader's state.

    Raises:
      OSError: when the disk is full.
    """
    state = jax.tree.map(np.asarray, state)
    _require_room(checkpoints.directory, state)
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        position=ocp.args.JsonSave(position),
    )
    checkpoints.save(step, items)


def restore(checkpoints: Checkpoints, like: Any) -> tuple[Any, dict] | None:
    """The latest complete checkpoint as (state, position), or None where there is none.

    Which is the latest, the first process decides for all that train together.

    Args:
      checkpoints: the group's.
      like: a tree of arrays of the same structure, shapes and types as the state saved.
    """
    step = processes.broadcast("checkpoint", checkpoints.manager.latest_step())
    if step is None:
        return None
    items = ocp.args.Composite(
        state=ocp.args.StandardRestore(jax.tree.map(np.asarray, like)),
        position=ocp.args.JsonRestore(),
    )
    restored = checkpoints.manager.restore(step, args=items)
    return restored["state"], restored["position"]


def save_params(path: Path, params: Any) -> None:
    """Writes a tree of parameters and waits until it is complete; replaces what was there.

    Raises:
      OSError: when the disk is full.
    """
    params = jax.tree.map(np.asarray, params)
    _require_room(path, params)
    _WRITER.submit(_write_params, path.absolute(), params).result()


def _write_params(path: Path, params: Any) -> None:
    with ocp.StandardCheckpointer(multiprocessing_options=_by_itself()) as checkpointer:
        checkpointer.save(path, params, force=True)


def load_params(path: Path) -> dict:
    """Reads parameters that `save_params` wrote, as NumPy arrays.

    Raises:
      FileNotFoundError: when there are none.
    """
    if not path.exists():
        raise FileNotFoundError(f"no stored parameters at {path}")
    with ocp.StandardCheckpointer(multiprocessing_options=_by_itself()) as checkpointer:
        metadata = checkpointer.metadata(path.absolute()).item_metadata
        like = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), metadata.tree)
        return checkpointer.restore(path.absolute(), like)


def save_snapshot(directory: Path, step: int, params: Any) -> None:
    """Keeps params as those after `step` updates, under `directory`/snapshots/`step`.

    A snapshot has its name only once it is complete. One that is there already stays: a run that is
    made again makes the same one.

    Raises:
      OSError: when the disk is full.
    """
    path = snapshot_path(directory, step)
    if not path.exists():
        save_params(path, params)


def snapshot_path(directory: Path, step: int) -> Path:
    """Where the snapshot of a step lies; `load_params` reads it."""
    return directory / "snapshots" / str(step)


def snapshot_steps(directory: Path) -> tuple[int, ...]:
    """Steps of the complete snapshots under a directory, ascending."""
    names = (path.name for path in (directory / "snapshots").glob("*"))
    return tuple(sorted(int(name) for name in names if name.isdecimal()))


def _by_itself() -> ocp.options.MultiprocessingOptions:
    """Orbax's word for a process that neither waits for others nor writes for them."""
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
    )


def _require_room(path: Path, tree: Any) -> None:
    # Found out by Orbax, a full disk comes as hundreds of lines from several threads.
    wanted = sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + 2**20
    free = shutil.disk_usage(next(p for p in path.absolute().parents if p.exists())).free
    if free < wanted:
        raise OSError(
            errno.ENOSPC,
            f"the disk is full: {path} takes up to {wanted / 2**20:.2f} MiB, "
            f"{free / 2**20:.2f} MiB are free. Make room and start the same command again",
        )
