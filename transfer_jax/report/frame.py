"""A workdir as one long pandas frame: a row for every entry and measure."""

from __future__ import annotations

import dataclasses
import functools
import json
import zlib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

NETWORK_COLUMNS = ("experiment", "split", "cell", "target", "n", "treatment")
NETWORK_MEASURES = ("top1", "top1_best_mean", "steps", "seconds", "images_per_second")
_ALWAYS = (
    *("entry", "experiment", "split", "seed", "hash", "cell", "treatment", "target", "n"),
    *("measure", "value", "right", "state", "error"),
)


@dataclasses.dataclass(frozen=True, eq=False)
class Results:
    """What a workdir holds.

    Attributes:
      frame: a row for each (entry, measure) and for each row of measures/*.json, with the columns
        entry (number in entries.json, missing for readouts), all tags, hash, cell, treatment,
        target, source, n, seed, num_classes, task, steps; measure, value (float; accuracies are
        fractions); right (key of `right`, or missing); state ('done', 'failed', 'planned'), error.
        A tag goes before a field of the cell that has its name.
      about: about.json.
      right: key -> (digest of the validation images, bool array: which of them were right), None
        where that was not kept. A readout may name an array of its own: its row has the tags
        'right' (the array's name) and 'images' (a digest).
      rows_of: digest of validation images -> (dataset, rows), None where that was not kept.
      workdir: its folder; None for numbers that come from elsewhere.
    """

    frame: pd.DataFrame
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    right: Callable[[str], tuple[str, np.ndarray] | None] = lambda key: None
    rows_of: Callable[[str], tuple[str, np.ndarray] | None] = lambda digest: None
    workdir: Path | None = None

    def select(self, measure: str = "top1", **tags: Any) -> pd.DataFrame:
        """Rows of one measure whose tags have these values; a list or range stands for any of it.

        Example:
          >>> results.select(experiment="random_halves", treatment="base")["value"].mean()
          0.6251
        """
        chosen = self.frame["measure"] == measure
        for name, value in tags.items():
            values = value if isinstance(value, list | tuple | range) else [value]
            chosen &= name in self.frame and self.frame[name].isin(values)
        return self.frame[chosen]

    def image_ids(self, digest: str, count: int) -> np.ndarray:
        """(count,) int64 that name validation images, equal for one image in two sets of them."""
        name, rows = self.rows_of(digest) or (digest, np.arange(count))
        return (zlib.crc32(name.encode()) << 31) + rows.astype(np.int64)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of measures/<name>.npz; none where there is no such file."""
        path = self._path("measures", f"{name}.npz")
        return dict(np.load(path)) if path.exists() else {}

    def metrics(self, hash: str) -> pd.DataFrame:
        """The lines of a cell's metrics.jsonl by step; a line that is being written is left out."""
        path = self._path("cells", hash, "metrics.jsonl")
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        return pd.DataFrame([json.loads(line) for line in lines])

    def cell(self, hash: str) -> dict[str, Any]:
        """A cell's cell.json: its dataset, class names, numbers of images, network, recipe."""
        path = self._path("cells", hash, "cell.json")
        return _json(path) if path.exists() else {}

    def conv1(self, hash: str) -> np.ndarray | None:
        """A cell's first layer, (height, width, channels, filters)."""
        path = self._path("cells", hash, "conv1.npy")
        return np.load(path) if path.exists() else None

    def _path(self, *parts: str) -> Path:
        return Path(self.workdir or "/nowhere", *parts)


def load(workdir: Path | str) -> Results:
    """Reads a workdir, of a finished run or not; networks themselves are not touched."""
    workdir = Path(workdir)
    rows = []
    for number, entry in enumerate(_json(workdir / "entries.json")):
        fields = {**entry, **entry["tags"], "entry": number}
        del fields["tags"]
        rows += [fields | found for found in _cell(workdir / "cells" / entry["hash"])]
    for path in sorted((workdir / "measures").rglob("*.json")):
        read = _json(path)
        for row in read["rows"]:
            key = f"{read['name']}:{row['right']}:{row['images']}" if "right" in row else None
            rows.append({**row, "right": key, "state": "done"})
    frame = pd.DataFrame(rows, columns=_columns(rows, _ALWAYS))
    return Results(
        frame,
        _json(workdir / "about.json"),
        functools.cache(functools.partial(_right, workdir)),
        functools.cache(functools.partial(_rows_of, workdir)),
        workdir,
    )


def networks(results: Results) -> pd.DataFrame:
    """One row for each entry of entries.json: its cell, its accuracies and times, its tags."""
    entries = results.frame.dropna(subset="entry").astype({"entry": int})
    values = entries.pivot(index="entry", columns="measure", values="value")
    values = values.reindex(columns=list(NETWORK_MEASURES))
    tags = entries.drop_duplicates("entry").set_index("entry")
    tags = tags.drop(columns=["measure", "value", "right", *set(NETWORK_MEASURES) & set(tags)])
    frame = tags.join(values)
    first = (*NETWORK_COLUMNS, *NETWORK_MEASURES, "hash")
    return frame[_columns([], (*first, *frame))].sort_index().convert_dtypes()


def write_results_csv(results: Results) -> None:
    """Writes `networks` into the workdir, as results.csv."""
    path = Path(results.workdir, "results.csv")
    partial = path.with_suffix(".partial")
    networks(results).to_csv(partial, index=False, float_format="%.6g")
    partial.replace(path)


def read_published(name: str) -> pd.DataFrame:
    """A table of numbers that a paper's authors published, by the name of its file here."""
    file = resources.files("transfer_jax.report") / "published" / f"{name}.csv"
    with file.open() as lines:
        return pd.read_csv(lines)


def _cell(folder: Path) -> list[dict[str, Any]]:
    """What a cell's folder says: a row for every number, or one row where there is none."""
    none = {"measure": "", "value": np.nan, "error": ""}
    if (folder / "failed.json").exists():
        return [none | {"state": "failed", "error": _json(folder / "failed.json")["error"]}]
    if not (folder / "done.json").exists():
        return [none | {"state": "planned"}]
    numbers = {k: v for k, v in _json(folder / "done.json").items() if isinstance(v, int | float)}
    return [
        {"measure": name, "value": float(value), "state": "done", "error": ""}
        | {"right": folder.name if name == "top1" else None}
        for name, value in numbers.items()
    ] or [none | {"state": "done"}]


def _right(workdir: Path, key: str) -> tuple[str, np.ndarray] | None:
    if ":" in key:
        name, array, digest = key.split(":")
        return digest, np.load(workdir / "measures" / f"{name}.npz")[array].astype(bool)
    path = workdir / "cells" / key / "right.npz"
    if not path.exists():
        return None
    with np.load(path) as file:
        bits = np.unpackbits(file["bits"], count=int(file["num"])).astype(bool)
        return str(file["images"]), bits


def _rows_of(workdir: Path, digest: str) -> tuple[str, np.ndarray] | None:
    path = workdir / "images" / f"{digest}.npz"
    if not path.exists():
        return None
    with np.load(path) as file:
        return str(file["dataset"]), file["rows"]


def _columns(rows: list[dict[str, Any]], first: tuple[str, ...]) -> list[str]:
    return list(dict.fromkeys([*first, *(name for row in rows for name in row)]))


def _json(path: Path) -> Any:
    return json.loads(path.read_text())
