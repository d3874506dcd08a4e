"""What is read out of trained networks once the grid is done: parts that are kept on disk.

A part is computed once, writes its tables (.csv) and arrays (.npz) into the workdir's `analysis`,
and last of all a mark with a digest of what it was computed from. A run that is killed goes on with
the part that it was at.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from transfer_jax.data.pipeline import select
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.load import TrainedNetwork
from transfer_jax.grid.store import Store, write_json
from transfer_jax.readout import features as feature_files
from transfer_jax.readout.ensemble import Predictions, predict
from transfer_jax.report.tables import write_csv

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Rows:
    """A table for a .csv file: column names and rows of values."""

    header: tuple[str, ...]
    rows: Sequence[Sequence[Any]]


Files = Mapping[str, Rows | Mapping[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Parts:
    """The folder in which the parts of a study's analysis are kept."""

    directory: Path

    def compute(self, name: str, inputs: Any, compute: Callable[[], Files]) -> None:
        """Computes a part and writes its files, unless they are there from the same inputs.

        Args:
          name: of the part.
          inputs: JSON-able data that decides the result: cells' hashes, settings.
          compute: gives the files by name: `Rows` for .csv, named arrays for .npz.
        """
        text = json.dumps(inputs, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        mark = self.directory / f"{name}.json"
        kept = json.loads(mark.read_text()) if mark.exists() else {"digest": None, "files": []}
        if kept["digest"] == digest:
            return
        mark.unlink(missing_ok=True)
        started = time.perf_counter()
        files = compute()
        self.directory.mkdir(parents=True, exist_ok=True)
        for file_name, content in files.items():
            path = self.directory / file_name
            partial = path.with_name(f".partial-{file_name}")
            if isinstance(content, Rows):
                write_csv(partial, content.header, content.rows)
            else:
                np.savez_compressed(partial, **content)
            os.replace(partial, path)
        # What only other inputs gave must not be shown beside these.
        for file_name in set(kept["files"]) - set(files):
            (self.directory / file_name).unlink(missing_ok=True)
        seconds = time.perf_counter() - started
        write_json(mark, {"digest": digest, "seconds": seconds, "files": sorted(files)})
        if seconds > 2:
            log.info("analysis: %s in %.0f s", name, seconds)

    def write_timings(self) -> None:
        """Writes timings.csv: part, seconds; parts that differ in a cell's hash are added up."""
        total: dict[str, float] = {}
        for path in sorted(self.directory.glob("*.json")):
            part = re.sub(r"-[0-9a-f]{16}$", "", path.stem)
            total[part] = total.get(part, 0.0) + json.loads(path.read_text())["seconds"]
        write_csv(self.directory / "timings.csv", ("part", "seconds"), list(total.items()))


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class Trained(TrainedNetwork):
    """A finished network of a run.

    Attributes:
      cell: what was trained.
    """

    cell: Cell

    @classmethod
    def of(cls, cell: Cell, params: Any, mean: np.ndarray) -> Trained:
        """A cell with its full params and what is subtracted from its images."""
        return cls(
            network=cell.network,
            params=params,
            recipe=cell.recipe,
            mean=mean,
            hash=cell.hash,
            cell=cell,
        )


def trained(store: Store, cell: Cell, step: int | None = None) -> Trained | None:
    """A cell as it was trained, or None where its training failed.

    Args:
      store: where it is kept.
      cell: which.
      step: of a snapshot; None for the end of training.
    """
    if "top1" not in (store.outcome(cell) or {}):
        return None
    params = store.params(cell) if step is None else store.snapshot_params(cell, step)
    return Trained.of(cell, params, np.load(store.cell_dir(cell) / "mean.npy"))


def layer_features(
    trained: Trained, dataset, split: str, indices, layers: Sequence[str], cache: Path | None
) -> dict[str, np.ndarray]:
    """Features (N, D) of a trained network's layers, in the view that it was evaluated in."""
    recipe = trained.cell.recipe
    return feature_files.features(
        trained.cell.network,
        trained.params,
        dataset,
        split,
        indices,
        layers,
        augmentation=recipe.augmentation,
        mean=trained.mean,
        scale=recipe.pixel_scale,
        cache_dir=cache,
    )


def predictions(trained: Trained, dataset, split: str, most: int | None = None) -> Predictions:
    """What a trained network says of its task's images in a split, at most `most` of them."""
    cell = trained.cell
    indices, labels = select(dataset, split, cell.task)
    if most is not None and len(indices) > most:
        some = np.linspace(0, len(indices) - 1, most).round().astype(int)
        indices, labels = indices[some], labels[some]
    return predict(
        cell.network,
        trained.params,
        dataset,
        split,
        indices,
        labels,
        augmentation=cell.recipe.augmentation,
        mean=trained.mean,
        scale=cell.recipe.pixel_scale,
        ten_crop=cell.recipe.ten_crop,
    )


def hidden_layers(trained: Trained) -> tuple[str, ...]:
    """Every layer but the classifier."""
    return trained.cell.network.layer_names[:-1]


def merged(directory: Path, names: Sequence[str], name: str) -> None:
    """Joins tables of one header into one file; without any, the file goes."""
    texts = [(directory / part).read_text(encoding="utf-8").splitlines(True) for part in names]
    if not texts:
        (directory / name).unlink(missing_ok=True)
        return
    lines = [*texts[0][:1], *(line for text in texts for line in text[1:])]
    partial = directory / f".partial-{name}"
    partial.write_text("".join(lines), encoding="utf-8")
    os.replace(partial, directory / name)
