"""Tables: plain rows of values, written as CSV and shown on a page."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a page. Cells are text; a column of numbers is set flush right.

    Attributes:
      header: column headings.
      rows: one tuple of texts per row, as long as the header.
      caption: what the table holds and how it was computed.
      words: indices of columns that hold words rather than numbers.
      folded: whether the page shows it only on request (long listings).
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    words: frozenset[int] = frozenset({0})
    folded: bool = False

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.header):
                raise ValueError(
                    f"a row has {len(row)} cells, the header has {len(self.header)}: {row}"
                )


def write_csv(
    path: str | os.PathLike[str], header: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Writes values as CSV: None as nothing, fractions with six decimals."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for row in rows:
            writer.writerow(_plain(value) for value in row)


def _plain(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6f}" if isinstance(value, float) else value
