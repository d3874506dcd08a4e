"""The files of a workdir beside results.csv: what each cell left behind, and the plan."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from transfer_jax.report.results import Row


class Failure(NamedTuple):
    """A cell whose training stopped. step and error are empty where nothing was recorded."""

    experiment: str
    split: str
    cell: str
    step: str
    error: str


class Planned(NamedTuple):
    """A cell of plan.json."""

    experiment: str
    split: str
    cell: str


def read_cell(workdir: str | os.PathLike[str], hash: str) -> dict[str, Any]:
    """Everything that cell.json records about a cell; empty where there is no such file."""
    return _read_json(_folder(workdir, hash) / "cell.json", {}) if hash else {}


def read_metrics(workdir: str | os.PathLike[str], hash: str) -> list[dict[str, Any]]:
    """The lines of a cell's metrics.jsonl in order; empty where there is no such file.

    A last line that is still being written is left out.
    """
    path = _folder(workdir, hash) / "metrics.jsonl"
    if not hash or not path.is_file():
        return []
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: not a JSON object: {error}") from error
    return records


def read_first_layer(workdir: str | os.PathLike[str], hash: str) -> np.ndarray | None:
    """A cell's first-layer kernel (height, width, input, output); None where it is not kept."""
    path = _folder(workdir, hash) / "conv1.npy"
    if not hash or not path.is_file():
        return None
    kernel = np.load(path)
    if kernel.ndim != 4:
        raise ValueError(f"{path}: shape {kernel.shape}; expected (height, width, input, output)")
    return kernel


def read_failures(workdir: str | os.PathLike[str], rows: Iterable[Row]) -> tuple[Failure, ...]:
    """The rows whose training stopped, each with the step and error of its failed.json.

    A failed.json that no row names belongs to another grid in the same workdir and is left out.
    """
    failures = []
    for row in rows:
        if row.failed:
            record = _read_json(_folder(workdir, row.hash) / "failed.json", {})
            error = record.get("error", "no accuracy, and no error recorded")
            failures.append(Failure(*row.key, str(record.get("step", "")), str(error)))
    return tuple(failures)


def read_missing(workdir: str | os.PathLike[str], rows: Iterable[Row]) -> tuple[Planned, ...]:
    """Cells of plan.json that results.csv does not hold yet; empty where there is no plan."""
    path = Path(workdir, "plan.json")
    done = {row.key for row in rows}
    try:
        planned = [
            Planned(str(cell["experiment"]), str(cell["split"]), str(cell["cell"]))
            for cell in _read_json(path, [])
        ]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a list of objects with experiment, split and cell"
        ) from error
    return tuple(cell for cell in planned if tuple(cell) not in done)


def read_integers(
    workdir: str | os.PathLike[str], rows: Iterable[Row], field: str
) -> dict[str, int]:
    """hash -> the integer `field` of cell.json (num_eval, num_classes), where it is recorded."""
    values = {}
    for hash in {row.hash for row in rows}:
        value = read_cell(workdir, hash).get(field)
        if isinstance(value, int) and value > 0:
            values[hash] = value
    return values


def _folder(workdir, hash: str) -> Path:
    return Path(workdir, "cells", hash)


def _read_json(path: Path, default):
    if not path.is_file():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not JSON: {error}") from error
