"""Files of a workdir's folder `analysis`, whatever the study: lines of .csv, arrays of .npz."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Fraction = float
"""An accuracy, an error or a share: between 0 and 1."""


class AnalysisError(ValueError):
    """A file of the analysis that cannot be read as what it claims to be."""


@dataclasses.dataclass(frozen=True)
class Timing:
    """How long a part of the analysis took; a line of timings.csv."""

    part: str
    seconds: float


def read_tables(
    directory: str | os.PathLike[str], kinds: Mapping[str, type]
) -> dict[str, tuple[Any, ...]]:
    """Reads `<name>.csv` of a folder for each name of `kinds`; see `read_lines`.

    Args:
      directory: the folder `analysis` of a workdir.
      kinds: name of each .csv file -> the dataclass of its lines.

    Returns:
      Name -> lines, empty where the file is missing.

    Raises:
      AnalysisError: see `read_lines`.
    """
    return {name: read_lines(Path(directory, f"{name}.csv"), kind) for name, kind in kinds.items()}


def read_lines(path: str | os.PathLike[str], kind: type) -> tuple[Any, ...]:
    """Reads a .csv file into dataclasses, one per line, by column name.

    Args:
      path: the file; other columns than those of `kind` are passed over.
      kind: a dataclass; its fields' types (str, int, float, bool or `Fraction`, with `| None` where
        a cell may be empty) say how the columns of their names are read. A field's metadata may
        give its `column` another name; that of a field with a default may be missing.

    Returns:
      The lines in file order; empty where there is no such file.

    Raises:
      AnalysisError: a column is missing or a value cannot be read; the message names the file,
        the line and what was expected.
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


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads all arrays of an .npz file by key; empty where there is no such file.

    Raises:
      AnalysisError: the file is not a readable .npz.
    """
    path = Path(path)
    if not path.is_file():
        return {}
    try:
        with np.load(path) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except Exception as error:  # a damaged zip fails in many ways
        raise AnalysisError(f"{path}: not a readable .npz file: {error}") from error


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
