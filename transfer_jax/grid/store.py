"""The store: a workdir with one folder a cell. Reports are drawn from it alone."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import hashlib
import io
import json
import logging
import os
import re
import shutil
import socket
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from filelock import FileLock, Timeout

from transfer_jax import seal
from transfer_jax.data.views import eval_view, ten_crop_view
from transfer_jax.grid.cell import Cell, Entry, Group, from_json, group_hash, to_json
from transfer_jax.networks import Network
from transfer_jax.seal import DamagedError, write, write_json
from transfer_jax.training.checkpoint import load_params, save_params
from transfer_jax.training.recipe import Recipe

log = logging.getLogger(__name__)
PARTIAL = re.compile(r"\..+\.([0-9a-f]{32}|partial)")
"""Names of files and folders that are being written."""


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

    `cells/<hash>/` holds cell.json, params.safetensors, mean.npy, conv1.npy (the first kernel),
    metrics.jsonl, right.npz (which validation images were right, as bits),
    snapshots/<step>.safetensors where they were asked for and, last of all, done.json or
    failed.json, with the digests of all. `images/` says which validation images those were, by
    digest. `groups/<hash>/` holds the checkpoints of a group in training. `entries.json` says what
    the study wants, `measures/` what was read out of networks, `about.json` of what config all is
    and which measures are its own.
    """

    def __init__(self, workdir: str | Path):
        self.workdir = Path(workdir).expanduser().absolute()
        self.measured: set[str] = set()  # names that `measure` was asked for

    def about(self) -> dict[str, Any]:
        """What about.json says; nothing where it is missing or damaged."""
        with contextlib.suppress(DamagedError):
            return seal.read_json(self.workdir / "about.json", "about")
        return {}

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the workdir for one run; WorkdirInUseError names the run that holds it."""
        self.workdir.mkdir(parents=True, exist_ok=True)
        owner, lock = self.workdir / ".owner.json", FileLock(self.workdir / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            holder = {}
            with contextlib.suppress(DamagedError):
                holder = seal.read_json(owner, "")
            raise WorkdirInUseError(
                f"workdir {self.workdir} is in use by process {holder.get('pid', '?')} on "
                f"{holder.get('host', '?')}, started {holder.get('started', '?')} as "
                f"`{holder.get('command', '?')}`; wait for it, stop it, or choose another workdir"
            ) from None
        try:
            started = datetime.datetime.now().isoformat(timespec="seconds")
            process = {"pid": os.getpid(), "host": socket.gethostname(), "started": started}
            write_json(owner, {**process, "command": " ".join(sys.orig_argv)}, "")
            self._remove_partial_files()
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
        """What done.json or failed.json says, None while the cell is not finished; one that is
        damaged, or whose snapshots are asked for anew, is not."""
        try:
            found = seal.outcome(self.folder(cell))
        except DamagedError as error:
            log.warning("%s: the cell counts as not trained", error)
            return None
        row, files = found or (None, {})
        kept = all(f"snapshots/{step}.safetensors" in files for step in cell.snapshots)
        return row if found and (kept or "error" in row) else None

    def finished(self, cell: Cell) -> bool:
        """Whether a cell is trained to its end."""
        return "error" not in (self.outcome(cell) or {"error": ""})

    def mend(self, cells: Sequence[Cell]) -> None:
        """Looks for damage among finished cells, in their small files and, where others are still
        to be copied from them, in their params; what is damaged is trained again."""
        for cell in cells:
            with self._again_if_damaged(cell):
                try:
                    seal.outcome(self.folder(cell))
                except DamagedError as error:
                    self.keep_images(cell.task.dataset.name, cell.task.val[0])
                    seal.outcome(self.folder(cell))
                    log.warning("%s: it is written again", error)
        left = (cell for cell in cells if cell.source and self.outcome(cell) is None)
        for source in {cell.source.hash: cell.source for cell in left}.values():
            with self._again_if_damaged(source):
                self._check_weights(source, "params.safetensors")

    @contextlib.contextmanager
    def _again_if_damaged(self, cell: Cell) -> Iterator[None]:
        try:
            yield
        except DamagedError as error:
            log.warning("%s: %s is trained again", error, cell.treatment)
            self._forget(cell)

    def _check_weights(self, cell: Cell, name: str) -> None:
        _, files = seal.outcome(self.folder(cell)) or ({}, {})
        seal.check(self.folder(cell), {name: files[name]} if name in files else {})

    def _forget(self, cell: Cell) -> None:
        for mark in seal.MARKS:
            (self.folder(cell) / mark).unlink(missing_ok=True)

    def write_entries(self, entries: Sequence[Entry]) -> str:
        """Says what the study wants, for reports; returns the file's digest."""
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
        return write_json(self.workdir / "entries.json", {"entries": described}, "entries")

    def describe(self, cell: Cell) -> dict[str, str]:
        """Writes what a reader of the cell's folder may ask, cell.json and mean.npy; returns their
        digests."""
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
        folder = self.folder(cell)
        mean = write(folder / "mean.npy", _bytes(np.save, cell.mean()))
        return {"cell.json": write_json(folder / "cell.json", content, cell.hash), "mean.npy": mean}

    def finish(self, cell: Cell, params: Mapping, row: Mapping) -> None:
        """Stores what came of a cell; the mark that it is done, or has failed, comes last."""
        folder, row = self.folder(cell), dict(row)
        right, files = row.pop("right", None), row.pop("files", {}) | self.describe(cell)
        if "error" not in row:
            files["params.safetensors"] = save_params(folder / "params.safetensors", params)
            first = np.asarray(next(iter(params.values()))["kernel"])
            if first.ndim == 4:
                files["conv1.npy"] = write(folder / "conv1.npy", _bytes(np.save, first))
            if right is not None:
                images = self.keep_images(cell.task.dataset.name, cell.task.val[0])
                kept = {"bits": np.packbits(right), "num": len(right), "images": images}
                files["right.npz"] = write(folder / "right.npz", _bytes(np.savez, **kept))
                files |= self._images(folder, images)
        mark = "failed.json" if "error" in row else "done.json"
        write_json(folder / mark, {**row, "files": files}, cell.hash)

    def right(self, cell: Cell) -> tuple[str, np.ndarray]:
        """The digest of a finished cell's validation images, and which of them were right."""
        return seal.read_right(self.folder(cell))

    def keep_images(self, dataset: str, rows: np.ndarray) -> str:
        """Notes which images some results are about; returns the digest that names them."""
        content = _bytes(np.savez, dataset=dataset, rows=rows)
        name = seal.HASH(content).hexdigest()
        write(self.workdir / "images" / f"{name}.npz", content)
        return name

    def _images(self, folder: Path, *names: str) -> dict[str, str]:
        """Digests of the files in images/ of these names, by their paths from a folder."""
        paths = [self.workdir / "images" / f"{name}.npz" for name in names]
        found = {os.path.relpath(path, folder): path for path in paths if path.exists()}
        return {name: seal.digest_of(path) for name, path in found.items()}

    def forget_failure(self, cell: Cell) -> None:
        """Removes a failed mark, so that the cell is trained again."""
        (self.folder(cell) / "failed.json").unlink(missing_ok=True)

    def group_folder(self, group: Group) -> Path:
        """Folder of a group in training."""
        return self.workdir / "groups" / group_hash(group)

    def open_group(self, group: Group) -> None:
        """Notes that a group's training begins."""
        folder = self.group_folder(group)
        write_json(folder / "group.json", {"cells": [cell.hash for cell in group]}, folder.name)
        for cell in group:  # Some may be finished, but lack snapshots or the others of the group.
            self._forget(cell)

    def close_group(self, group: Group) -> None:
        """Drops the checkpoints of a group whose cells are finished."""
        shutil.rmtree(self.group_folder(group), ignore_errors=True)

    def opened_groups(self) -> list[list[str]]:
        """Hashes of the cells of each group whose training was cut off."""
        found = []
        for path in sorted((self.workdir / "groups").glob("*/group.json")):
            with contextlib.suppress(DamagedError):  # a run removes it
                found.append(seal.read_json(path, path.parent.name)["cells"])
        return found

    def params(self, cell: Cell, step: int | None = None) -> dict[str, Any]:
        """A finished cell's params, or those of a snapshot, NumPy arrays in network order."""
        name = f"{'params' if step is None else f'snapshots/{step}'}.safetensors"
        try:
            self._check_weights(cell, name)
        except DamagedError as error:
            self._forget(cell)
            raise DamagedError(f"{error}: the same command trains {cell.treatment} again") from None
        return load_params(self.folder(cell) / name, cell.network.layer_names)

    def trained(self, cell: Cell, step: int | None = None) -> TrainedNetwork:
        """A finished cell, or a snapshot of it, ready to be shown images."""
        params, mean = self.params(cell, step), np.load(self.folder(cell) / "mean.npy")
        return TrainedNetwork(cell.network, params, cell.recipe, mean, cell.hash)

    def adopt(self, cells: Iterable[Cell], workdirs: Iterable[str | Path]) -> list[Cell]:
        """Copies cells that other workdirs have finished; returns them. A cell's folder holds all
        of it, and its content is its name, whichever study it was trained for."""
        others = stores(workdirs)
        return [
            cell
            for cell in cells
            if others and not self.finished(cell) and any(self._copy(cell, o) for o in others)
        ]

    def _copy(self, cell: Cell, other: Store) -> bool:
        if not other.finished(cell):
            return False
        try:
            _, files = seal.outcome(other.folder(cell))
            seal.check(other.folder(cell), files)
        except DamagedError as error:
            log.warning("%s: %s is not copied", error, cell.treatment)
            return False
        partial = self.workdir / "cells" / f".{cell.hash}.partial"
        shutil.copytree(other.folder(cell), partial)
        for path in map(other.folder(cell).joinpath, files):
            if path.parent.name == "images":
                write(self.workdir / "images" / path.name, path.read_bytes())
        shutil.rmtree(self.folder(cell), ignore_errors=True)
        os.replace(partial, self.folder(cell))
        return True

    def sweep(self) -> None:
        """Removes what is left of groups whose cells are all finished, or that are damaged."""
        for folder in (self.workdir / "groups").glob("*/"):
            try:
                hashes = seal.read_json(folder / "group.json", folder.name)["cells"]
            except DamagedError as error:
                log.warning("%s: its networks are trained from their beginning", error)
                hashes = []
            cells = [self.workdir / "cells" / name for name in hashes]
            if all(any((cell / mark).exists() for mark in seal.MARKS) for cell in cells):
                shutil.rmtree(folder)

    def measure(
        self,
        name: str,
        inputs: Any,
        compute: Callable[[], tuple[list[dict], dict[str, np.ndarray]]],
        *,
        version: int = 1,
    ) -> tuple[list[dict], dict[str, np.ndarray]]:
        """What `compute` reads out of trained networks, computed once and kept in measures/ under a
        name that may have folders: rows (tags, 'measure' and 'value' each) for the frame, and
        arrays for figures. `inputs`, JSON-able, are all that it depends on, such as hashes of
        cells, and `version` is that of its code: with others it is computed anew.
        """
        self.measured.add(name)
        path = self.workdir / "measures" / f"{name}.json"
        # Another backend rounds otherwise.
        content = [inputs, version, jax.default_backend()]
        content = json.dumps(content, sort_keys=True, default=str)
        key = hashlib.sha256(content.encode()).hexdigest()[:16]
        if path.exists():
            try:
                found = seal.read_json(path, name)
                seal.check(path.parent, found["files"])
                if found["key"] == key:
                    return found["rows"], seal.read_arrays(path.with_suffix(".npz"))
            except DamagedError as error:
                log.warning("%s: it is measured again", error)
        rows, arrays = compute()
        npz = path.with_suffix(".npz")
        files = {npz.name: write(npz, _bytes(np.savez_compressed, **arrays))}
        files |= self._images(path.parent, *{row["images"] for row in rows if "images" in row})
        write_json(path, {"name": name, "key": key, "rows": rows, "files": files}, name)
        return rows, arrays

    def _remove_partial_files(self) -> None:
        """Removes what killed runs were writing."""
        found = list(self.workdir.glob(".*"))
        for part in ("cells", "images", "groups", "measures", "features"):
            found += (self.workdir / part).rglob(".*")
        for path in found:
            if PARTIAL.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _bytes(save: Callable, *arrays: Any, **named: Any) -> bytes:
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def stores(workdirs: Iterable[str | Path]) -> list[Store]:
    """Those that `config.reuse` names; FileNotFoundError where one holds no cells."""
    found = [Store(workdir) for workdir in workdirs]
    for one in found:
        if not (one.workdir / "cells").is_dir():
            raise FileNotFoundError(f"config.reuse names {one.workdir}, which holds no cells")
    return found


def load_network(workdir: str | Path, name: str) -> TrainedNetwork:
    """A finished network of a workdir, whichever study it was trained for.

    `name` is the first digits of its hash, its cell ('A3B'), its split or condition ('zfnet'), or
    both ('0 A3B'). ValueError where no finished network, or several different ones, are called so,
    or it is damaged.

    Example:
      zfnet = load_network("runs/zeiler", "zfnet")
      down = project_units(zfnet.network, zfnet.params, zfnet.view(images), "conv3", maps=5)
    """
    store = Store(workdir)
    there, found = [], set()
    for entry in seal.read_json(store.workdir / "entries.json", "entries")["entries"]:
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
    _, files = seal.outcome(folder)
    seal.check(folder, files)
    cell = seal.read_json(folder / "cell.json", folder.name)
    network = from_json(cell["network"])
    params = load_params(folder / "params.safetensors", network.layer_names)
    recipe, mean = from_json(cell["recipe"]), np.load(folder / "mean.npy")
    return TrainedNetwork(network, params, recipe, mean, folder.name)
