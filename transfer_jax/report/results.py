"""The rows of results.csv: one per trained network."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

COLUMNS = (
    "experiment",
    "split",
    "cell",
    "target",
    "n",
    "treatment",
    "top1",
    "top1_best_mean",
    "steps",
    "seconds",
    "images_per_second",
    "hash",
)

SYMBOLS: Mapping[str, str] = {
    "base": "base",
    "imported": "imported",
    "selffer_frozen": "BnB",
    "selffer_finetuned": "BnB+",
    "transfer_frozen": "AnB",
    "transfer_finetuned": "AnB+",
    "random_frozen": "RnB",
}
"""Treatment -> how the paper writes it, whichever of the two tasks is the target; 'imported' is a
base that comes from a file."""

BASES = ("base", "imported")
"""Treatments that copy nothing."""


class ResultsError(ValueError):
    """A results file that cannot be read as what it claims to be."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One trained network.

    Attributes:
      experiment: 'random_halves', 'man_natural', 'random_weights', 'images_per_class', ...
      split: which split of the classes ('0', 'natman', 'whole', images kept per class, ...).
      cell: the network in the paper's notation: 'baseA', 'B3B', 'A3B+', 'R3W'.
      target: the task it was trained on last: 'A', 'B' or 'W' (the whole dataset).
      n: number of lower layers that were copied or kept random; 0 for bases.
      treatment: a key of `SYMBOLS`.
      top1: validation accuracy at the end, a fraction; None where training failed, and of an
        imported base whose classes no dataset has.
      top1_best_mean: mean of the best evaluations along training, a fraction; None likewise.
      steps, seconds, images_per_second: what training took; None where unknown.
      hash: names the cell's folder in the workdir.
    """

    experiment: str
    split: str
    cell: str
    target: str
    n: int
    treatment: str
    top1: float | None
    top1_best_mean: float | None
    steps: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    hash: str = ""

    def __post_init__(self):
        for field in ("experiment", "split", "cell", "target"):
            if not getattr(self, field):
                raise ResultsError(f"{field} is empty; every cell needs one")
        if self.treatment not in SYMBOLS:
            raise ResultsError(
                f"unknown treatment {self.treatment!r}; expected one of {', '.join(SYMBOLS)}"
            )
        if self.n < 0 or (self.n == 0) != (self.treatment in BASES):
            raise ResultsError(
                f"n = {self.n} for treatment {self.treatment!r}; expected 0 for bases and at "
                "least 1 for everything else"
            )
        for field in ("top1", "top1_best_mean"):
            value = getattr(self, field)
            if value is not None and not 0.0 <= value <= 1.0:
                raise ResultsError(f"{field} = {value}; expected a fraction between 0 and 1")

    @property
    def accuracy(self) -> float | None:
        """The accuracy that figures show: `top1_best_mean` as in the paper, else `top1`."""
        return self.top1 if self.top1_best_mean is None else self.top1_best_mean

    @property
    def finished(self) -> bool:
        """Whether the network has an accuracy at all."""
        return self.accuracy is not None

    @property
    def failed(self) -> bool:
        """Whether the network's training stopped with an error."""
        return not self.finished and self.treatment != "imported"

    @property
    def key(self) -> tuple[str, str, str]:
        """(experiment, split, cell): what a plan calls this network."""
        return self.experiment, self.split, self.cell


def read_results(path: str | os.PathLike[str]) -> tuple[Row, ...]:
    """Reads a results.csv.

    Args:
      path: the file.

    Returns:
      Its rows, in file order.

    Raises:
      FileNotFoundError: there is no such file.
      ResultsError: other columns than `COLUMNS`, a value that cannot be read, or the same
        (experiment, split, cell) twice; the message names the line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; a report needs the results.csv that a run writes"
        )
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        header = tuple(next(reader, ()))
        if header != COLUMNS:
            raise ResultsError(
                f"{path}: columns are {', '.join(header) or 'missing'}; "
                f"expected exactly {', '.join(COLUMNS)}"
            )
        rows: dict[tuple[str, str, str], Row] = {}
        for values in reader:
            try:
                row = _parse(values)
                if row.key in rows:
                    raise ResultsError(f"{' '.join(row.key)} appears a second time")
            except ValueError as error:
                raise ResultsError(f"{path}, line {reader.line_num}: {error}") from error
            rows[row.key] = row
    return tuple(rows.values())


def write_results(rows: Iterable[Row], path: str | os.PathLike[str]) -> None:
    """Writes rows as a results.csv that `read_results` reads back unchanged.

    The file is replaced as a whole, so a reader never sees half of it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in rows:
            values = dataclasses.astuple(row)
            writer.writerow("" if value is None else value for value in values)
    os.replace(temporary, path)


def _parse(values: list[str]) -> Row:
    if len(values) != len(COLUMNS):
        raise ResultsError(f"{len(values)} values; expected {len(COLUMNS)}")
    text = dict(zip(COLUMNS, values, strict=True))

    def number(column, convert, *, optional=True):
        if optional and text[column] == "":
            return None
        try:
            return convert(text[column])
        except ValueError:
            raise ResultsError(
                f"{column} = {text[column]!r}; expected a number"
                + (" or nothing" if optional else "")
            ) from None

    return Row(
        experiment=text["experiment"],
        split=text["split"],
        cell=text["cell"],
        target=text["target"],
        n=number("n", int, optional=False),
        treatment=text["treatment"],
        top1=number("top1", float),
        top1_best_mean=number("top1_best_mean", float),
        steps=number("steps", int),
        seconds=number("seconds", float),
        images_per_second=number("images_per_second", float),
        hash=text["hash"],
    )
