"""The store: a workdir with one folder per cell. Reports are drawn from it alone."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from filelock import FileLock, Timeout

from transfer_jax.data.labels import replacing
from transfer_jax.grid.cell import Cell, to_json
from transfer_jax.grid.plan import Group
from transfer_jax.report.results import Row, write_results
from transfer_jax.training import checkpoint
from transfer_jax.training.trainer import Outcome


class WorkdirInUseError(RuntimeError):
    """Another run holds the workdir."""


class Store:
    """Files of one workdir.

    `cells/<hash>/` holds cell.json, mean.npy (what is subtracted from its images), metrics.jsonl,
    params/ (the layers that the cell learned), snapshots/<step>/ where they were asked for (the
    same layers after so many updates), conv1.npy and, last of all, done.json or failed.json.
    `groups/<hash>/` holds the checkpoints of a group in training and is removed when its cells are
    done; `locks/` is there while workers of several processes write.
    """

    def __init__(self, workdir: str | Path):
        self.workdir = Path(workdir)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the workdir for one run.

        Raises:
          WorkdirInUseError: when another run holds it; the message names that run.
        """
        self.workdir.mkdir(parents=True, exist_ok=True)
        owner = self.workdir / ".owner.json"
        lock = FileLock(self.workdir / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            holder = json.loads(owner.read_text()) if owner.exists() else {}
            raise WorkdirInUseError(
                f"workdir {self.workdir} is in use by process {holder.get('pid', '?')} on "
                f"{holder.get('host', '?')}, started {holder.get('started', '?')} as "
                f"`{holder.get('command', '?')}`; wait for it, stop it, or choose another workdir"
            ) from None
        try:
            write_json(owner, _this_process())
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    @contextlib.contextmanager
    def group_lock(self, group: Group) -> Iterator[None]:
        """Holds a group for one writer; waits while another, on whichever machine, holds it.

        A worker that was given up for dead may still be writing when its successor starts: with
        this lock the two never write at once. `locks/<hash>.json` tells who has held it last.
        """
        folder = self.workdir / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{group.hash}.lock", poll_interval=0.2):
            write_json(folder / f"{group.hash}.json", _this_process())
            yield

    def remove_group_locks(self) -> None:
        """Removes the files of `group_lock`, when nobody can hold or want one any more."""
        shutil.rmtree(self.workdir / "locks", ignore_errors=True)

    def cell_dir(self, cell: Cell) -> Path:
        """Folder of a cell."""
        return self.workdir / "cells" / cell.hash

    def group_dir(self, group: Group) -> Path:
        """Folder of a group in training."""
        return self.workdir / "groups" / group.hash

    def outcome(self, cell: Cell) -> dict | None:
        """What done.json or failed.json of a cell says, or None while it is not finished."""
        for name in ("done.json", "failed.json"):
            path = self.cell_dir(cell) / name
            if path.exists():
                return json.loads(path.read_text())
        return None

    def error(self, cell: Cell) -> str | None:
        """Why a cell failed, or None."""
        return (self.outcome(cell) or {}).get("error")

    def describe(self, cell: Cell, **more: Any) -> None:
        """Writes cell.json: everything about the cell that a reader of its folder may ask.

        Args:
          cell: which.
          more: what else is known of it.
        """
        content = {
            "cell": cell.name,
            "hash": cell.hash,
            "treatment": cell.kind,
            "num_classes": cell.task.num_classes,
            "task": cell.task.name,
            "source": cell.source.hash if cell.source else None,
            "content": cell.content,
            "network": to_json(cell.network),
            "recipe": to_json(cell.recipe),
            "random_layers_seed": cell.random_layers_seed,
        }
        write_json(self.cell_dir(cell) / "cell.json", {**content, **more})

    def open_group(self, group: Group) -> None:
        """Notes that a group's training begins."""
        write_json(self.group_dir(group) / "group.json", [cell.hash for cell in group.cells])

    def checkpoint_dir(self, group: Group) -> Path:
        """Folder of the checkpoints of a group in training."""
        return self.group_dir(group) / "checkpoints"

    def opened_groups(self) -> list[list[str]]:
        """Hashes of the cells of each group whose training was cut off."""
        found = sorted((self.workdir / "groups").glob("*/group.json"))
        return [json.loads(path.read_text()) for path in found]

    def adopt(self, cells: Iterable[Cell], workdirs: Iterable[str | Path]) -> list[Cell]:
        """Copies cells that other workdirs have finished, so that they need no training here.

        A cell is known by its content, so the same network on the same task is one cell whichever
        study it was trained for.

        Args:
          cells: those that are wanted.
          workdirs: where to look, in this order.

        Returns:
          the cells that were copied.

        Raises:
          FileNotFoundError: when a workdir holds no cells.
        """
        others = [Path(workdir).expanduser() / "cells" for workdir in workdirs]
        for folder in others:
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"workdir {folder.parent}, whose cells are to be reused, has none"
                )
        adopted = []
        for cell in cells:
            found = [f / cell.hash for f in others if (f / cell.hash / "done.json").exists()]
            if not found or self.outcome(cell) is not None:
                continue
            partial = self.workdir / "cells" / f".partial-{cell.hash}"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(found[0], partial)
            shutil.rmtree(self.cell_dir(cell), ignore_errors=True)
            os.replace(partial, self.cell_dir(cell))
            adopted.append(cell)
        return adopted

    def sweep(self) -> None:
        """Removes what is left of groups whose cells are all finished."""
        for folder in (self.workdir / "groups").glob("*"):
            members = folder / "group.json"
            hashes = json.loads(members.read_text()) if members.exists() else []
            cells = [self.workdir / "cells" / hash for hash in hashes]
            if all((c / "done.json").exists() or (c / "failed.json").exists() for c in cells):
                shutil.rmtree(folder)

    def close_group(self, group: Group, outcomes: list[Outcome]) -> None:
        """Stores what each cell learned, marks it done or failed, and drops the checkpoints.

        The marks are written last, and the checkpoints go after them: a kill in between leaves a
        group that is finished again. Cells that were marked done before stay as they are.
        """
        for cell, outcome in zip(group.cells, outcomes, strict=True):
            folder = self.cell_dir(cell)
            if (folder / "done.json").exists():
                continue
            if outcome.error is None:
                checkpoint.save_params(folder / "params", outcome.learned)
                np.save(folder / "conv1.npy", self._first_kernel(cell, outcome.learned))
                description = json.loads((folder / "cell.json").read_text())
                write_json(folder / "cell.json", {**description, "num_eval": outcome.num_eval})
                figures = {
                    "top1": outcome.top1,
                    "top1_best_mean": outcome.top1_best_mean,
                    "steps": outcome.steps,
                    "seconds": outcome.seconds,
                    "images_per_second": outcome.images_per_second,
                }
                write_json(folder / "done.json", figures)
            else:
                self.fail(cell, outcome.error, outcome.steps)
        shutil.rmtree(self.group_dir(group))

    def fail(self, cell: Cell, error: str, step: int = 0) -> None:
        """Marks a cell as failed."""
        write_json(
            self.cell_dir(cell) / "failed.json", {"cell": cell.name, "step": step, "error": error}
        )

    def forget_failure(self, cell: Cell) -> None:
        """Removes a cell's failed mark, so that it is trained again."""
        (self.cell_dir(cell) / "failed.json").unlink(missing_ok=True)

    def params(self, cell: Cell) -> dict[str, Any]:
        """A finished cell's full params, NumPy arrays in network order.

        Frozen layers are stored once, with the base that they were copied from.

        Raises:
          FileNotFoundError: when the cell, or the base that it needs, is not finished here.
        """
        return self._whole(cell, checkpoint.load_params(self.cell_dir(cell) / "params"))

    def snapshots(self, cell: Cell) -> tuple[int, ...]:
        """Numbers of updates after which a cell's params were kept, ascending.

        They are those of `Runtime.snapshot_steps` that its training has passed so far.
        """
        return checkpoint.snapshot_steps(self.cell_dir(cell))

    def snapshot_params(self, cell: Cell, step: int) -> dict[str, Any]:
        """A cell's full params after `step` updates, as `params` gives those after the last.

        Raises:
          FileNotFoundError: when that snapshot was not kept; the message lists those that were.
        """
        kept = self.snapshots(cell)
        if step not in kept:
            raise FileNotFoundError(
                f"cell {cell.name} ({cell.hash}) has no snapshot of step {step} in {self.workdir}: "
                f"it has those of steps {kept}; runtime.snapshot_steps asks for them"
            )
        path = checkpoint.snapshot_path(self.cell_dir(cell), step)
        return self._whole(cell, checkpoint.load_params(path))

    def _whole(self, cell: Cell, learned: dict[str, Any]) -> dict[str, Any]:
        frozen = cell.treatment.frozen_layers(cell.network)
        if frozen:
            below = self.params(cell.source) if cell.source else random_layers(cell)
            learned.update({name: jax.tree.map(np.asarray, below[name]) for name in frozen})
        return {name: learned[name] for name in cell.network.layer_names}

    def _first_kernel(self, cell: Cell, learned: Any) -> np.ndarray:
        first = cell.network.layer_names[0]
        params = learned if first in learned else self.params(cell)
        return np.asarray(params[first]["kernel"])

    def write_results(self, entries: list[tuple[str, str, Cell]]) -> None:
        """Writes results.csv: one row for each finished or failed cell of each experiment.

        Args:
          entries: (experiment, split, cell) for every cell that the study wants.
        """
        rows = []
        for experiment, split, cell in entries:
            outcome = self.outcome(cell)
            if outcome is None:
                continue
            rows.append(
                Row(
                    experiment=experiment,
                    split=split,
                    cell=cell.name,
                    target=cell.treatment.target,
                    n=cell.treatment.n,
                    treatment=cell.kind,
                    top1=outcome.get("top1"),
                    top1_best_mean=outcome.get("top1_best_mean"),
                    steps=outcome.get("steps", outcome.get("step")),
                    seconds=outcome.get("seconds"),
                    images_per_second=outcome.get("images_per_second"),
                    hash=cell.hash,
                )
            )
        write_results(rows, self.workdir / "results.csv")


def random_layers(cell: Cell) -> dict:
    """Params of the untrained network whose lower layers a random-weight cell freezes."""
    return cell.network.init(jax.random.key(cell.random_layers_seed))


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file so that a reader, or a kill, never meets half of it.

    Several writers may do so at once, on several machines: the last one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n")


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": datetime.datetime.now().isoformat(timespec="seconds"),
        "command": " ".join(sys.orig_argv),
    }
