"""Checkpoints of a group in training, and stored parameters and snapshots of cells, by Orbax."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


def manager(directory: Path, keep: int) -> ocp.CheckpointManager:
    """An asynchronous checkpoint manager that keeps the last `keep` checkpoints.

    A checkpoint counts only once it is complete; a kill while one is written leaves the last one.
    """
    options = ocp.CheckpointManagerOptions(
        max_to_keep=keep, enable_async_checkpointing=True, create=True
    )
    return ocp.CheckpointManager(
        directory.absolute(), options=options, item_names=("state", "position")
    )


def save(checkpoints: ocp.CheckpointManager, step: int, state: Any, position: dict) -> None:
    """Starts saving, and returns while it goes on.

    Args:
      checkpoints: the group's manager.
      step: number of updates made.
      state: tree of arrays, without a device axis.
      position: JSON-able place in the data and in time, such as the loader's state.

    Raises:
      OSError: when the disk is full.
    """
    state = jax.tree.map(np.asarray, state)
    _require_room(Path(checkpoints.directory), state)
    items = ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        position=ocp.args.JsonSave(position),
    )
    checkpoints.save(step, args=items)


def restore(checkpoints: ocp.CheckpointManager, like: Any) -> tuple[Any, dict] | None:
    """The latest complete checkpoint as (state, position), or None where there is none.

    Args:
      checkpoints: the group's manager.
      like: a tree of arrays of the same structure, shapes and types as the state saved.
    """
    step = checkpoints.latest_step()
    if step is None:
        return None
    items = ocp.args.Composite(
        state=ocp.args.StandardRestore(jax.tree.map(np.asarray, like)),
        position=ocp.args.JsonRestore(),
    )
    restored = checkpoints.restore(step, args=items)
    return restored["state"], restored["position"]


def save_params(path: Path, params: Any) -> None:
    """Writes a tree of parameters and waits until it is complete; replaces what was there.

    Raises:
      OSError: when the disk is full.
    """
    params = jax.tree.map(np.asarray, params)
    _require_room(path, params)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute(), params, force=True)


def load_params(path: Path) -> dict:
    """Reads parameters that `save_params` wrote, as NumPy arrays.

    Raises:
      FileNotFoundError: when there are none.
    """
    if not path.exists():
        raise FileNotFoundError(f"no stored parameters at {path}")
    with ocp.StandardCheckpointer() as checkpointer:
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
