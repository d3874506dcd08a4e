"""What every report reads of a workdir, and the folder that it writes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

from transfer_jax.report.cell_files import Failure, Planned, read_failures, read_missing
from transfer_jax.report.results import Row, read_results


@dataclasses.dataclass(frozen=True)
class Workdir:
    """A workdir, finished or not.

    Attributes:
      directory: its folder.
      rows: of results.csv.
      failures: cells whose training stopped.
      missing: cells of plan.json that have not finished.
    """

    directory: Path
    rows: tuple[Row, ...]
    failures: tuple[Failure, ...]
    missing: tuple[Planned, ...]


def read_workdir(directory: str | os.PathLike[str]) -> Workdir:
    """Reads results.csv, the record of each failed cell and, where there is one, plan.json.

    Raises:
      FileNotFoundError: there is no results.csv.
      ResultsError: results.csv cannot be read.
      ValueError: another file is not what it should be.
    """
    directory = Path(directory)
    rows = read_results(directory / "results.csv")
    return Workdir(directory, rows, read_failures(directory, rows), read_missing(directory, rows))


def report_folder(directory: str | os.PathLike[str], pictures: Iterable[str] = ("*.png",)) -> Path:
    """Makes a workdir's folder `report`, and removes the pictures that an earlier report left.

    Args:
      directory: the workdir.
      pictures: names or patterns of the files to remove.

    Returns:
      The folder.
    """
    folder = Path(directory, "report")
    folder.mkdir(parents=True, exist_ok=True)
    for pattern in pictures:
        for path in folder.glob(pattern):
            path.unlink()
    return folder
