"""A workdir as one long pandas frame: a row for every entry and measure."""

from __future__ import annotations

import contextlib
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

from transfer_jax import seal

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
      frame: a row for each (entry, measure) and for each row of the config's own measures, with
        the columns entry (number in entries.json, missing for readouts), all tags, hash, cell,
        treatment, target, source, n, seed, num_classes, task, steps; measure, value (float;
        accuracies are fractions); right (key of `right`, or missing); state ('done', 'failed',
        'planned', or 'damaged', which takes part in nothing), error. A tag goes before a field of
        the cell that has its name.
      about: about.json.
      right: key -> (digest of the validation images, bool array: which of them were right), None
        where that was not kept. A readout may name an array of its own: its row has the tags
        'right' (the array's name) and 'images' (a digest).
      rows_of: digest of validation images -> (dataset, rows), None where that was not kept.
      workdir: its folder; None for numbers that come from elsewhere.
      remarks: what was left out because it is damaged, a line each.
    """

    frame: pd.DataFrame
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    right: Callable[[str], tuple[str, np.ndarray] | None] = lambda key: None
    rows_of: Callable[[str], tuple[str, np.ndarray] | None] = lambda digest: None
    workdir: Path | None = None
    remarks: tuple[str, ...] = ()

    def select(self, measure: Any = "top1", **tags: Any) -> pd.DataFrame:
        """Rows of a measure whose tags have these values; a list or range stands for any of it,
        None for any measure.

        Example:
          >>> results.select(experiment="random_halves", treatment="base")["value"].mean()
          0.6251
        """
        chosen = pd.Series(True, self.frame.index)
        for name, value in (tags if measure is None else {"measure": measure, **tags}).items():
            values = value if isinstance(value, list | tuple | range) else [value]
            chosen &= name in self.frame and self.frame[name].isin(values)
        return self.frame[chosen]

    def image_ids(self, digest: str, count: int) -> np.ndarray:
        """(count,) int64 that name validation images, equal for one image in two sets of them."""
        name, rows = self.rows_of(digest) or (digest, np.arange(count))
        return (zlib.crc32(name.encode()) << 31) + rows.astype(np.int64)

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of measures/<name>.npz; none where it is not this config's, or damaged."""
        workdir = Path(self.workdir or "/nowhere")
        with contextlib.suppress(seal.DamagedError):
            if name in self.about.get("measures", ()):
                _measure(workdir, name)
                return seal.read_arrays(workdir / "measures" / f"{name}.npz")
        return {}

    def metrics(self, hash: str) -> pd.DataFrame:
        """The lines of a finished cell's metrics.jsonl by step."""
        path = self._of_cell(hash, "metrics.jsonl")
        lines = path.read_text().split("\n")[:-1] if path else []
        return pd.DataFrame([json.loads(line) for line in lines])

    def cell(self, hash: str) -> dict[str, Any]:
        """A finished cell's cell.json: its dataset, class names, numbers of images, network,
        recipe."""
        path = self._of_cell(hash, "cell.json")
        return seal.read_json(path, hash) if path else {}

    def conv1(self, hash: str) -> np.ndarray | None:
        """A finished cell's first layer, (height, width, channels, filters)."""
        path = self._of_cell(hash, "conv1.npy")
        return np.load(path) if path else None

    def _of_cell(self, hash: str, name: str) -> Path | None:
        folder = Path(self.workdir or "/nowhere", "cells", hash)
        with contextlib.suppress(seal.DamagedError):
            _, files = seal.outcome(folder) or ({}, {})
            if name in files:
                return folder / name
        return None


def load(workdir: Path | str) -> Results:
    """Reads a workdir, of a finished run or not; networks themselves are not touched.

    Raises:
      DamagedError: entries.json or about.json is damaged; a run writes them anew.
    """
    workdir = Path(workdir)
    try:
        about = seal.read_json(workdir / "about.json", "about")
        seal.check(workdir, about.pop("files"))
        entries = seal.read_json(workdir / "entries.json", "entries")["entries"]
    except seal.DamagedError as error:
        raise seal.DamagedError(f"{error}: a run writes it anew") from None
    told = {hash: _cell(workdir, hash) for hash in dict.fromkeys(e["hash"] for e in entries)}
    rows: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        fields = {**entry, **entry["tags"], "entry": number}
        del fields["tags"]
        rows += [fields | found for found in told[entry["hash"]][0]]
    remarks = [remark for _, remark in told.values() if remark]
    for name in about.get("measures", ()):
        try:
            found = _measure(workdir, name)
        except seal.DamagedError as error:
            remarks.append(f"{error}: its numbers are left out until a run has measured them again")
            continue
        for row in found:
            key = "\n".join([name, row["right"], row["images"]]) if "right" in row else None
            rows.append({**row, "right": key, "state": "done"})
    columns = dict.fromkeys([*_ALWAYS, *(name for row in rows for name in row)])
    return Results(
        pd.DataFrame(rows, columns=list(columns)),
        about,
        functools.cache(functools.partial(_right, workdir)),
        functools.cache(functools.partial(_rows_of, workdir)),
        workdir,
        tuple(remarks),
    )


def networks(results: Results) -> pd.DataFrame:
    """One row for each entry of entries.json: its cell, its accuracies and times, its tags."""
    entries = results.frame.dropna(subset="entry").astype({"entry": int})
    values = entries.pivot(index="entry", columns="measure", values="value")
    values = values.reindex(columns=list(NETWORK_MEASURES))
    tags = entries.drop_duplicates("entry").set_index("entry")
    tags = tags.drop(columns=["measure", "value", "right", *set(NETWORK_MEASURES) & set(tags)])
    frame = tags.join(values)
    known = frame.dropna(axis=1, how="all")
    columns = dict.fromkeys([*NETWORK_COLUMNS, *NETWORK_MEASURES, "hash", *known])
    return frame[list(columns)].sort_index().convert_dtypes()


def measures(results: Results) -> pd.DataFrame:
    """One row for each number that was read out of the networks beside their accuracies."""
    frame = results.frame
    found = frame[frame["entry"].isna()].dropna(axis=1, how="all")
    return found.drop(columns=["state", "right", "images"], errors="ignore")


def write_results_csv(results: Results) -> None:
    """Writes `networks` into the workdir, as results.csv."""
    with seal.replacing(Path(results.workdir, "results.csv")) as partial:
        networks(results).to_csv(partial, index=False, float_format="%.6g")


def read_published(name: str) -> pd.DataFrame:
    """A table of numbers that a paper's authors published, by the name of its file here."""
    file = resources.files("transfer_jax.report") / "published" / f"{name}.csv"
    with file.open() as lines:
        return pd.read_csv(lines)


def _cell(workdir: Path, hash: str) -> tuple[list[dict[str, Any]], str]:
    """What a cell's folder says: a row for every number, or one row where there is none; and what
    there is to remark."""
    none = {"measure": "", "value": np.nan, "error": ""}
    try:
        found = seal.outcome(workdir / "cells" / hash)
    except seal.DamagedError as error:
        remark = f"{error}: its network is left out until a run has trained it again"
        return [none | {"state": "damaged", "error": str(error)}], remark
    if not found:
        return [none | {"state": "planned"}], ""
    row, _ = found
    if "error" in row:
        return [none | {"state": "failed", "error": row["error"]}], ""
    numbers = {name: value for name, value in row.items() if isinstance(value, int | float)}
    rows = [
        {"measure": name, "value": float(value), "state": "done", "error": ""}
        | {"right": hash if name == "top1" else None}
        for name, value in numbers.items()
    ]
    return rows or [none | {"state": "done"}], ""


def _measure(workdir: Path, name: str) -> list[dict[str, Any]]:
    """The rows of measures/<name>.json."""
    path = workdir / "measures" / f"{name}.json"
    found = seal.read_json(path, name)
    seal.check(path.parent, found["files"])
    return found["rows"]


def _right(workdir: Path, key: str) -> tuple[str, np.ndarray] | None:
    if "\n" in key:
        name, array, digest = key.split("\n")
        return digest, seal.read_arrays(workdir / "measures" / f"{name}.npz")[array]
    folder = workdir / "cells" / key
    return seal.read_right(folder) if (folder / "right.npz").exists() else None


def _rows_of(workdir: Path, digest: str) -> tuple[str, np.ndarray] | None:
    path = workdir / "images" / f"{digest}.npz"
    if not path.exists():
        return None
    found = seal.read_arrays(path)
    return str(found["dataset"]), found["rows"]
