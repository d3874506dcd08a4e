"""The store: a workdir with one folder a cell. Reports are drawn from it alone."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import shutil
import socket
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from filelock import FileLock, Timeout

from transfer_jax.data.records import replacing
from transfer_jax.data.views import eval_view, ten_crop_view
from transfer_jax.grid.cell import Cell, Entry, Group, from_json, group_hash, to_json
from transfer_jax.networks import Network
from transfer_jax.networks.weights import save_weights, scaled_input
from transfer_jax.training.checkpoint import load_params, save_params, write_json
from transfer_jax.training.recipe import Recipe


class WorkdirInUseError(RuntimeError):
    """Another run holds the workdir."""


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A finished network with all that it takes to show it images.

    Attributes:
      network, params, recipe: its description, NumPy params in network order, how it was trained.
      mean: subtracted from its images, (3,) or (h, w, 3), in pixel values.
      hash: names its folder in the workdir.
    """

    network: Network
    params: dict[str, Any]
    recipe: Recipe
    mean: np.ndarray
    hash: str

    def view(self, images: np.ndarray) -> jax.Array:
        """The network's input for uint8 images (N, H, W, 3) as it is evaluated: mean subtracted,
        scaled, centre crop."""
        images = jnp.asarray(images)
        return eval_view(images, self.recipe.augmentation, self.mean, self.recipe.pixel_scale)

    def ten_crops(self, images: np.ndarray) -> jax.Array:
        """As `view`, the ten crops (N, 10, size, size, 3) of `views.ten_crop_view`."""
        images, recipe = jnp.asarray(images), self.recipe
        return ten_crop_view(images, recipe.augmentation, self.mean, recipe.pixel_scale)

    def pixels(self, images: np.ndarray) -> np.ndarray:
        """The part of uint8 images that `view` shows, uint8."""
        view = eval_view(jnp.asarray(images), self.recipe.augmentation, np.zeros(3, np.float32))
        return np.asarray(view).astype(np.uint8)


class Store:
    """Files of one workdir.

    `cells/<hash>/` holds cell.json, params.safetensors, mean.npy, metrics.jsonl, right.npz (which
    validation images were right, as bits), snapshots/<step>.safetensors where they were asked for
    and, last of all, done.json or failed.json. `images/` says which validation images those were,
    by digest. `groups/<hash>/` holds the checkpoints of a group in training. `entries.json` says
    what the study wants, `measures/` what was read out of networks.
    """

    def __init__(self, workdir: str | Path):
        self.workdir = Path(workdir).expanduser().absolute()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the workdir for one run; WorkdirInUseError names the run that holds it."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        owner, lock = self.workdir / ".owner.json", FileLock(self.workdir / ".lock", timeout=0)
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
            started = datetime.datetime.now().isoformat(timespec="seconds")
            process = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
            write_json(owner, {**process, "command": " ".join(sys.orig_argv)})
            yield
        finally:
            owner.unlink(missing_ok=True)
            lock.release()

    @contextlib.contextmanager
    def group_lock(self, group: Group) -> Iterator[None]:
        """Holds a group for one writer: a worker that was given up for dead may still be writing
        when its successor starts."""
        folder = self.workdir / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{group_hash(group)}.lock", poll_interval=0.2):
            yield

    def folder(self, cell: Cell) -> Path:
        """Folder of a cell."""
        return self.workdir / "cells" / cell.hash

    def outcome(self, cell: Cell) -> dict | None:
        """What done.json or failed.json says, None while the cell is not finished; a cell whose
        snapshots are asked for anew is not."""
        folder = self.folder(cell)
        if (folder / "failed.json").exists():
            return json.loads((folder / "failed.json").read_text())
        kept = all((folder / "snapshots" / f"{s}.safetensors").exists() for s in cell.snapshots)
        if kept and (folder / "done.json").exists():
            return json.loads((folder / "done.json").read_text())
        return None

    def write_entries(self, entries: Sequence[Entry]) -> None:
        """Says what the study wants, for reports."""
        described = [
            {
                "tags": tags,
                "hash": cell.hash,
                "cell": str(cell.treatment),
                "treatment": cell.kind,
                "target": cell.treatment.target,
                "source": cell.treatment.source,
                "n": cell.treatment.n,
                "seed": cell.seed,
                "num_classes": cell.task.num_classes,
                "task": cell.task.name,
                "steps": cell.recipe.steps,
            }
            for tags, cell in entries
        ]
        write_json(self.workdir / "entries.json", described)

    def describe(self, cell: Cell) -> None:
        """Writes what a reader of the cell's folder may ask: cell.json and mean.npy."""
        content = {
            "cell": str(cell.treatment),
            "hash": cell.hash,
            "task": cell.task.name,
            "dataset": cell.task.dataset.name,
            "class_names": list(cell.task.class_names),
            "num_train": len(cell.task.train[0]),
            "num_val": len(cell.task.val[0]),
            "source": cell.source.hash if cell.source else None,
            "content": cell.content,
            "network": to_json(cell.network),
            "recipe": to_json(cell.recipe),
        }
        write_json(self.folder(cell) / "cell.json", content)
        with replacing(self.folder(cell) / "mean.npy") as partial, partial.open("wb") as file:
            np.save(file, cell.mean())

    def finish(self, cell: Cell, params: Mapping, row: Mapping) -> None:
        """Stores what came of a cell; the mark that it is done, or has failed, comes last."""
        folder, row = self.folder(cell), dict(row)
        right = row.pop("right", None)
        if "error" in row:
            write_json(folder / "failed.json", row)
            return
        save_params(folder / "params.safetensors", params)
        if right is not None:
            images = self.keep_rows(cell.task.dataset.name, cell.task.val[0])
            bits = np.packbits(right)
            _save_arrays(folder / "right.npz", bits=bits, num=len(right), images=images)
        write_json(folder / "done.json", row)

    def forget_failure(self, cell: Cell) -> None:
        """Removes a failed mark, so that the cell is trained again."""
        (self.folder(cell) / "failed.json").unlink(missing_ok=True)

    def keep_rows(self, dataset: str, rows: np.ndarray) -> str:
        """Says which images were tested, in images/, for whoever compares networks on them; returns
        the digest that names them. `dataset` is its name."""
        digest = hashlib.sha256(f"{dataset}\n".encode() + rows.tobytes()).hexdigest()[:16]
        shown = self.workdir / "images" / f"{digest}.npz"
        if not shown.exists():
            _save_arrays(shown, dataset=dataset, rows=rows)
        return digest

    def right(self, cell: Cell) -> np.ndarray:
        """Which of its validation images a finished cell got right, bool (N,)."""
        with np.load(self.folder(cell) / "right.npz") as file:
            return np.unpackbits(file["bits"], count=int(file["num"])).astype(bool)

    def open_group(self, group: Group) -> Path:
        """Notes that a group's training begins; returns the folder of its checkpoints."""
        folder = self.workdir / "groups" / group_hash(group)
        write_json(folder / "group.json", [cell.hash for cell in group])
        return folder / "checkpoints"

    def close_group(self, group: Group) -> None:
        """Drops the checkpoints of a group whose cells are finished."""
        shutil.rmtree(self.workdir / "groups" / group_hash(group), ignore_errors=True)

    def opened_groups(self) -> list[list[str]]:
        """Hashes of the cells of each group whose training was cut off."""
        found = sorted((self.workdir / "groups").glob("*/group.json"))
        return [json.loads(path.read_text()) for path in found]

    def params(self, cell: Cell, step: int | None = None) -> dict[str, Any]:
        """A finished cell's params, or those of a snapshot, NumPy arrays in network order."""
        name = "params" if step is None else f"snapshots/{step}"
        return load_params(self.folder(cell) / f"{name}.safetensors", cell.network.layer_names)

    def trained(self, cell: Cell, step: int | None = None) -> TrainedNetwork:
        """A finished cell, or a snapshot of it, ready to be shown images."""
        params, mean = self.params(cell, step), np.load(self.folder(cell) / "mean.npy")
        return TrainedNetwork(cell.network, params, cell.recipe, mean, cell.hash)

    def adopt(self, cells: Iterable[Cell], workdirs: Iterable[str | Path]) -> list[Cell]:
        """Copies cells that other workdirs have finished; returns them. A cell's folder holds all
        of it, and its content is its name, whichever study it was trained for.

        Raises:
          FileNotFoundError: a workdir holds no cells.
        """
        others = [Store(workdir) for workdir in workdirs]
        for other in others:
            if not (other.workdir / "cells").is_dir():
                raise FileNotFoundError(f"config.reuse names {other.workdir}, which holds no cells")
        adopted = []
        for cell in cells:
            done = [o for o in others if (o.outcome(cell) or {"error": 0}).get("error") is None]
            if not done or self.outcome(cell) is not None:
                continue
            partial = self.workdir / "cells" / f".{cell.hash}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(done[0].folder(cell), partial)
            for images in (done[0].workdir / "images").glob("*.npz"):
                (self.workdir / "images").mkdir(exist_ok=True)
                shutil.copy2(images, self.workdir / "images" / images.name)
            shutil.rmtree(self.folder(cell), ignore_errors=True)
            os.replace(partial, self.folder(cell))
            adopted.append(cell)
        return adopted

    def sweep(self) -> None:
        """Removes what is left of groups whose cells are all finished."""
        for folder in (self.workdir / "groups").glob("*"):
            members = folder / "group.json"
            hashes = json.loads(members.read_text()) if members.exists() else []
            cells = [self.workdir / "cells" / name for name in hashes]
            if all((c / "done.json").exists() or (c / "failed.json").exists() for c in cells):
                shutil.rmtree(folder)

    def measure(
        self,
        name: str,
        inputs: Any,
        compute: Callable[[], tuple[list[dict], dict[str, np.ndarray]]],
        *,
        version: int = 1,
    ) -> tuple[list[dict], dict[str, np.ndarray]]:
        """What `compute` reads out of trained networks, computed once.

        Args:
          name: of the files in measures/, may have folders.
          inputs: JSON-able, all that the result depends on, such as hashes of cells; results of
            other inputs or another version are computed anew.
          compute: gives rows (tags, 'measure' and 'value' each) for the frame, and arrays for
            figures.
          version: of the code of `compute`.
        """
        path = self.workdir / "measures" / f"{name}.json"
        # Another backend rounds otherwise.
        content = [inputs, version, jax.default_backend()]
        content = json.dumps(content, sort_keys=True, default=str)
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        with contextlib.suppress(OSError, ValueError, KeyError, zipfile.BadZipFile):
            found = json.loads(path.read_text())
            if found["key"] == key:
                with np.load(path.with_suffix(".npz")) as file:
                    return found["rows"], dict(file)
        rows, arrays = compute()
        _save_arrays(path.with_suffix(".npz"), **arrays)
        write_json(path, {"name": name, "key": key, "rows": rows})
        return rows, arrays


def _save_arrays(path: Path, **arrays: Any) -> None:
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_network(workdir: str | Path, name: str) -> TrainedNetwork:
    """A finished network of a workdir, whichever study it was trained for.

    Args:
      workdir: of a run.
      name: the first digits of its hash, its cell ('A3B'), its split or condition ('zfnet'), or
        both ('0 A3B').

    Raises:
      ValueError: no finished network, or several different ones, are called so.

    Example:
      zfnet = load_network("runs/zeiler", "zfnet")
      down = project_units(zfnet.network, zfnet.params, zfnet.view(images), "conv3", maps=5)
    """
    store = Store(workdir)
    entries = json.loads((store.workdir / "entries.json").read_text())
    there, found = [], set()
    for entry in entries:
        folder = store.workdir / "cells" / entry["hash"]
        if not (folder / "done.json").exists():
            continue
        labels = [str(entry["tags"].get(tag)) for tag in ("split", "condition")]
        called = {entry["cell"], *labels, *(f"{label} {entry['cell']}" for label in labels)}
        there.append(f"{labels[0]} {entry['cell']} ({entry['hash']})")
        if name in called or (len(name) >= 4 and entry["hash"].startswith(name)):
            found.add(folder)
    if len(found) != 1:
        listed = ", ".join(dict.fromkeys(there))
        raise ValueError(f"{len(found)} networks are called {name!r}; there are {listed}")
    (folder,) = found
    cell = json.loads((folder / "cell.json").read_text())
    network = from_json(cell["network"])
    params = load_params(folder / "params.safetensors", network.layer_names)
    recipe, mean = from_json(cell["recipe"]), np.load(folder / "mean.npy")
    return TrainedNetwork(network, params, recipe, mean, folder.name)


def save_network(trained: TrainedNetwork, path: str | Path, *, format: str | None = None) -> None:
    """Writes a trained network to a file of weights, for another run or for PyTorch.

    The file's network takes `pixel - mean`: the recipe's pixel_scale is folded into its first
    layer; the mean is in the file. `format` is that of `networks.weights.save_weights`.
    """
    params = scaled_input(trained.params, trained.network, 1 / trained.recipe.pixel_scale)
    save_weights(path, trained.network, params, mean=trained.mean, format=format)
