"""The files that the analysis of Zeiler & Fergus 2013 leaves in a workdir's folder `analysis`."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from transfer_jax.report.zeiler2013_lines import (
    KINDS,
    Duplicate,
    EnsembleErrors,
    Evolved,
    FilterNumbers,
    NetworkErrors,
    Occluded,
    Precision,
    Timing,
    Transferred,
)


class AnalysisError(ValueError):
    """A file of the analysis that cannot be read as what it claims to be."""


@dataclasses.dataclass(frozen=True)
class Analysis:
    """All tables of an analysis, each empty where its file is missing; arrays are read on demand.

    Attributes:
      directory: the folder `analysis`.
      others: one tuple of lines for each of `KINDS`.
    """

    directory: Path
    networks: tuple[NetworkErrors, ...]
    ensembles: tuple[EnsembleErrors, ...]
    transfer: tuple[Transferred, ...]
    multilabel: tuple[Precision, ...]
    occlusion: tuple[Occluded, ...]
    evolution: tuple[Evolved, ...]
    filters: tuple[FilterNumbers, ...]
    duplicates: tuple[Duplicate, ...]
    timings: tuple[Timing, ...]

    def network(self, name: str) -> NetworkErrors | None:
        """The network of a name; None where it is missing."""
        return next((network for network in self.networks if network.name == name), None)

    def seeds(self, architecture: str) -> tuple[NetworkErrors, ...]:
        """An architecture's base and the same network from other seeds, the base first."""
        base = self.network(architecture)
        alike = [
            n
            for n in self.networks
            if base and n.variant == base.variant and n.architecture == architecture
            if n.filter_rule == base.filter_rule and n is not base
        ]
        return (base, *alike) if base else ()

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of `<name>.npz` by key; empty where there is no such file.

        Raises:
          AnalysisError: the file is not a readable .npz.
        """
        path = self.directory / f"{name}.npz"
        if not path.is_file():
            return {}
        try:
            with np.load(path) as arrays:
                return {key: arrays[key] for key in arrays.files}
        except Exception as error:  # a damaged zip fails in many ways
            raise AnalysisError(f"{path}: not a readable .npz file: {error}") from error


def read_analysis(workdir: str | os.PathLike[str]) -> Analysis:
    """Reads all tables of a workdir's analysis.

    Raises:
      AnalysisError: a column is missing or a value cannot be read; the message names the file,
        the line and what was expected.
    """
    directory = Path(workdir) / "analysis"
    tables = {name: read_lines(directory / f"{name}.csv", kind) for name, kind in KINDS.items()}
    return Analysis(directory, **tables)


def read_lines(path: str | os.PathLike[str], kind: type) -> tuple[Any, ...]:
    """Reads a .csv file into dataclasses, one per line, by column name.

    Args:
      path: the file; other columns than those of `kind` are passed over.
      kind: a dataclass; its fields' types say how the columns of their names are read. The column
        of a field with a default may be missing.

    Returns:
      The lines in file order; empty where there is no such file.

    Raises:
      AnalysisError: see `read_analysis`.
    """
    path = Path(path)
    if not path.is_file():
        return ()
    fields = dataclasses.fields(kind)
    columns = {field.name: field.metadata.get("column", field.name) for field in fields}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, restval="")
        there = [field for field in fields if columns[field.name] in (reader.fieldnames or ())]
        missing = [
            columns[field.name]
            for field in fields
            if field not in there and field.default is dataclasses.MISSING
        ]
        if missing:
            raise AnalysisError(f"{path}: no column {', '.join(missing)}")
        lines = []
        for texts in reader:
            try:
                values = {
                    field.name: _parse(columns[field.name], texts[columns[field.name]], field.type)
                    for field in there
                }
            except ValueError as error:
                raise AnalysisError(f"{path}, line {reader.line_num}: {error}") from error
            lines.append(kind(**values))
    return tuple(lines)


def depth(layer: str) -> int:
    """A layer's number: 'conv5' -> 5, 'fc7' -> 7; 0 where the name ends in none."""
    found = re.search(r"\d+$", layer)
    return int(found.group()) if found else 0


def by_depth(layers: Iterable[str]) -> list[str]:
    """Distinct layers from the lowest to the highest."""
    return sorted(set(layers), key=lambda layer: (depth(layer), layer))


def _flag(text: str) -> bool:
    return {"0": False, "1": True, "False": False, "True": True}[text]


def _fraction(text: str) -> float:
    value = float(text)
    # A probability in single precision may come out a little above 1.
    if not -1e-5 <= value <= 1 + 1e-5:
        raise ValueError
    return min(max(value, 0.0), 1.0)


_PARSERS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "str": (str, "text"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (_flag, "0 or 1"),
    "Fraction": (_fraction, "a fraction between 0 and 1"),
}


def _parse(column: str, text: str, kind: str) -> Any:
    optional = kind.endswith(" | None")
    parse, expected = _PARSERS[kind.removesuffix(" | None")]
    if optional and text in ("", "nan"):
        return None
    try:
        value = parse(text)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError
        return value
    except (ValueError, KeyError):
        expected += " or nothing" if optional else ""
        raise ValueError(f"{column} = {text!r}; expected {expected}") from None
