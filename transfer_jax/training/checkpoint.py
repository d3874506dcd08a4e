"""Checkpoints of a group in training (Orbax), params of finished cells (safetensors), logs (JSON
lines). What is written counts only once it is complete: a kill leaves what was there before."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy

from transfer_jax.data.records import replacing
from transfer_jax.training import parallel


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def save_params(path: Path, params: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes params to a safetensors file, whole or not at all."""
    flat = {f"{n}.{e}": np.asarray(a) for n, layer in params.items() for e, a in layer.items()}
    with replacing(path) as partial:
        safetensors.numpy.save_file(flat, partial)


def load_params(path: Path, layer_names: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Params that `save_params` wrote, in the order of `layer_names`."""
    flat = safetensors.numpy.load_file(path)
    return {
        name: {e.removeprefix(f"{name}."): a for e, a in flat.items() if e.startswith(f"{name}.")}
        for name in layer_names
    }


class Checkpoints:
    """The checkpoints of one group in training, the last two of them; saving goes on beside the
    training. Of several processes the first writes, and all read."""

    def __init__(self, folder: Path):
        self.folder = folder.absolute()
        if parallel.is_first():
            self.folder.mkdir(parents=True, exist_ok=True)
        parallel.barrier("checkpoint folder")
        alone = ocp.options.MultiprocessingOptions()
        if jax.process_count() > 1:
            own = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
            )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=2,
            create=False,
            read_only=not parallel.is_first(),
            multiprocessing_options=alone,
        )
        self.manager = ocp.CheckpointManager(self.folder, options=options)

    def save(self, step: int, state: Any, place: dict) -> None:
        """Starts saving arrays without a device axis, and what is known of the place in the run."""
        if not parallel.is_first():
            return
        state = jax.tree.map(np.asarray, state)
        wanted = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**20
        # Found out by Orbax, a full disk comes as hundreds of lines from several threads.
        if (free := shutil.disk_usage(self.folder).free) < wanted:
            raise OSError(
                f"the disk is full: a checkpoint in {self.folder} takes {wanted / 2**20:.0f} MiB, "
                f"{free / 2**20:.0f} MiB are free; make room and start the same command again"
            )
        items = {"state": ocp.args.StandardSave(state), "place": ocp.args.JsonSave(place)}
        self.manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, like: Any) -> tuple[Any, dict] | None:
        """The latest complete checkpoint as (state, place), or None; `like` is such a state."""
        step = parallel.broadcast(self.manager.latest_step())
        if step is None:
            return None
        items = {
            "state": ocp.args.StandardRestore(jax.tree.map(np.asarray, like)),
            "place": ocp.args.JsonRestore(),
        }
        found = self.manager.restore(step, args=ocp.args.Composite(**items))
        return found["state"], found["place"]

    def close(self) -> None:
        """Waits for what is being saved."""
        self.manager.wait_until_finished()
        self.manager.close()


def append_line(path: Path, entry: Mapping[str, float]) -> None:
    """Adds a line of JSON, which has no infinity and no NaN: those become null."""
    finite = {name: value if math.isfinite(value) else None for name, value in entry.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps(finite) + "\n")
        file.flush()
        # A checkpoint that is saved later counts on every line up to its own step.
        os.fsync(file.fileno())


def keep_lines(path: Path, step: int) -> None:
    """Drops lines behind `step`, which a resumed run writes again, and a torn last one."""
    kept = []
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    with replacing(path) as partial:
        partial.write_text("".join(kept))
