"""Checkpoints of a group in training (Orbax), params of finished cells (safetensors), logs (JSON
lines). What is written counts only once it is complete: a kill leaves what was there before; and
digests tell whether it still is what was written."""

from __future__ import annotations

import concurrent.futures
import json
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import safetensors.numpy

from transfer_jax import seal
from transfer_jax.training import parallel

log = logging.getLogger(__name__)


def save_params(path: Path, params: Mapping[str, Mapping[str, Any]]) -> str:
    """Writes params to a safetensors file, whole or not at all; returns its digest."""
    flat = {f"{n}.{e}": np.asarray(a) for n, layer in params.items() for e, a in layer.items()}
    with seal.replacing(path) as partial:
        safetensors.numpy.save_file(flat, partial)
        return seal.digest_of(partial)


def load_params(path: Path, layer_names: tuple[str, ...]) -> dict[str, dict[str, np.ndarray]]:
    """Params that `save_params` wrote, in the order of `layer_names`."""
    flat = safetensors.numpy.load_file(path)
    return {
        name: {e.removeprefix(f"{name}."): a for e, a in flat.items() if e.startswith(f"{name}.")}
        for name in layer_names
    }


class CellLog:
    """What a training leaves in its cell's folder as it goes: metrics.jsonl, and snapshots of its
    params; with digests of what was written."""

    def __init__(self, folder: Path):
        self.folder, self.path = folder, folder / "metrics.jsonl"

    def begin(self, mark: Mapping[str, Any] | None = None) -> None:
        """Begins, or goes on from a `mark`: lines that were written since are dropped. DamagedError
        where the files are not what they were then."""
        mark = mark or {"size": 0, "lines": seal.HASH().hexdigest(), "snapshots": {}}
        lines = self.path.read_bytes()[: mark["size"]] if self.path.exists() else b""
        self.size, self.hash, self.snapshots = len(lines), seal.HASH(lines), dict(mark["snapshots"])
        if self.hash.hexdigest() != mark["lines"]:
            raise seal.damaged(self.path)
        seal.check(self.folder, self.snapshots)
        seal.write(self.path, lines)

    def mark(self) -> dict[str, Any]:
        """What is there by now, JSON-able."""
        lines = self.hash.hexdigest()
        return {"size": self.size, "lines": lines, "snapshots": dict(self.snapshots)}

    def files(self) -> dict[str, str]:
        """The digests of all files."""
        return {self.path.name: self.hash.hexdigest(), **self.snapshots}

    def line(self, entry: Mapping[str, float]) -> None:
        """Adds a line of JSON, which has no infinity and no NaN: those become null."""
        finite = {name: value if math.isfinite(value) else None for name, value in entry.items()}
        line = f"{json.dumps(finite)}\n".encode()
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            # A checkpoint that is saved later counts on every line up to its own step.
            os.fsync(file.fileno())
        self.hash.update(line)
        self.size += len(line)

    def snapshot(self, step: int, params: Mapping[str, Mapping[str, Any]]) -> None:
        """Keeps the params after an update."""
        name = f"snapshots/{step}.safetensors"
        self.snapshots[name] = save_params(self.folder / name, params)


class Checkpoints:
    """The checkpoints of one group in training, the last two of them; saving goes on beside the
    training. Of several processes the first writes, and all read.

    `<step>/` holds what Orbax writes, and `<step>.json`, which comes last, its digests and what is
    known of the place in the run.
    """

    def __init__(self, folder: Path):
        self.folder, self.saving = folder.absolute(), None
        alone = ocp.options.MultiprocessingOptions()
        if jax.process_count() > 1:
            own = jax.process_index()
            alone = ocp.options.MultiprocessingOptions(
                primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process_{own}"
            )
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
        self.orbax = ocp.Checkpointer(handler, multiprocessing_options=alone)
        self.thread = concurrent.futures.ThreadPoolExecutor(1)

    def save(
        self, step: int, state: Any, place: Mapping[str, Any], logs: Sequence[CellLog]
    ) -> None:
        """Starts saving arrays without a device axis, and what is known of the place in the run."""
        if not parallel.is_first():
            return
        self._wait()
        state = jax.tree.map(np.asarray, state)
        wanted = sum(leaf.nbytes for leaf in jax.tree.leaves(state)) + 2**20
        self.folder.mkdir(parents=True, exist_ok=True)
        # Found out by Orbax, a full disk comes as hundreds of lines from several threads.
        if (free := shutil.disk_usage(self.folder).free) < wanted:
            raise OSError(
                f"the disk is full: a checkpoint in {self.folder} takes {wanted / 2**20:.0f} MiB, "
                f"{free / 2**20:.0f} MiB are free; make room and start the same command again"
            )
        place = {**place, "logs": [one.mark() for one in logs]}
        self.saving = self.thread.submit(self._write, step, state, place)

    def restore(self, like: Any, logs: Sequence[CellLog]) -> tuple[Any, dict] | None:
        """The state and place of the latest checkpoint that is intact, from which the logs go on;
        None where there is none. `like` is such a state."""
        step, place = parallel.broadcast(self._latest(logs) if parallel.is_first() else None)
        if self.folder.exists():
            log.info("%s: the training goes on from step %d", self.folder.parent, step)
        if step == 0:
            return None
        like = ocp.args.StandardRestore(jax.tree.map(np.asarray, like))
        return self.orbax.restore(self.folder / str(step), args=like), place

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: type | None, *_: Any) -> None:
        """Waits for what is being saved: Orbax fails noisily when the program ends under it."""
        if kind is None:
            self._wait()
        self.thread.shutdown()

    def _wait(self) -> None:
        if self.saving:
            self.saving.result()

    def _write(self, step: int, state: Any, place: Mapping[str, Any]) -> None:
        folder, path = self.folder / str(step), self.folder / f"{step}.json"
        self.orbax.save(folder, args=ocp.args.StandardSave(state), force=True)
        place = {**place, "files": seal.digests(folder)}
        seal.write_json(path, place, self._owner(path))
        for old in self._sealed()[:-2]:
            self._remove(old)

    def _latest(self, logs: Sequence[CellLog]) -> tuple[int, dict]:
        found = self._sealed()
        for folder in self.folder.glob("*/"):
            if folder.with_suffix(".json") not in found:  # of a save that was cut off
                shutil.rmtree(folder)
        for path in reversed(found):
            try:
                place = seal.read_json(path, self._owner(path))
                seal.check(path.with_suffix(""), place.pop("files"))
                for one, mark in zip(logs, place.pop("logs"), strict=True):
                    one.begin(mark)
                return int(path.stem), place
            except seal.DamagedError as error:
                log.warning("%s: checkpoint %s is left out", error, path.stem)
                self._remove(path)
        return 0, {}

    def _sealed(self) -> list[Path]:
        found = [path for path in self.folder.glob("*.json") if path.stem.isdecimal()]
        return sorted(found, key=lambda path: int(path.stem))

    def _remove(self, path: Path) -> None:
        path.unlink()
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)

    def _owner(self, path: Path) -> str:
        return f"{self.folder.parent.name} {path.stem}"
