"""Tables of label sets: several ways to label the same classes, one column each.

The package carries those of Huh et al. 2016 for the 1000 classes of ILSVRC2012.
"""

import csv
import dataclasses
import importlib.resources
import itertools
import os
import re
from collections.abc import Sequence
from typing import IO

HUH2016_BOTTOM_UP: tuple[str, ...] = tuple(
    f"down_up_{size}"
    for size in (977, 918, 877, 820, 753, 694, 596, 486, 345, 206, 79, 36, 17, 9, 5, 2)
)
"""The label sets of Huh et al. 2016, section 5.1, that merge from the bottom of WordNet up; each is
a coarsening of the one before."""

HUH2016_TOP_DOWN: tuple[str, ...] = ("up_down_127", "up_down_10", "up_down_2")
"""Their label sets of a fixed height above the classes; each is a coarsening of the one before.

Between the two kinds: `up_down_127` is a coarsening of the bottom-up sets of 977 and 918 classes,
but tears 1 to 10 classes of each set of 877 to 206 apart; `up_down_10` is one of all sets down to
36; `up_down_2` equals `down_up_2`.
"""


@dataclasses.dataclass(frozen=True)
class LabelSets:
    """Several labellings of the same classes. Made by `read_label_sets`.

    Attributes:
      classes: names of the classes, one per row of the table.
      columns: names of the label sets.
      values: for each of `columns` the label of each of `classes`; classes with equal labels are
        one class of the label set.
    """

    classes: tuple[str, ...]
    columns: tuple[str, ...]
    values: tuple[tuple[str, ...], ...]

    def column(self, name: str) -> tuple[str, ...]:
        """The label of each class in one label set; ValueError for a name that is no column."""
        if name not in self.columns:
            raise ValueError(f"no label set {name!r}; there are {', '.join(self.columns)}")
        return self.values[self.columns.index(name)]

    def torn_apart(self, fine: str, coarse: str) -> list[str]:
        """Labels of one column whose classes have several labels in another.

        Args:
          fine: name of a column.
          coarse: name of another; it is a coarsening of `fine` if the result is empty.

        Returns:
          The labels of `fine`, in order of first appearance.
        """
        above: dict[str, set[str]] = {}
        for label, other in zip(self.column(fine), self.column(coarse), strict=True):
            above.setdefault(label, set()).add(other)
        return [label for label, others in above.items() if len(others) > 1]

    def require_nested(self, columns: Sequence[str]):
        """Raises ValueError unless each of some columns is a coarsening of the one before."""
        for fine, coarse in itertools.pairwise(columns):
            torn = self.torn_apart(fine, coarse)
            if torn:
                raise ValueError(
                    f"label set {coarse} is no coarsening of {fine}: it tears {len(torn)} of its "
                    f"classes apart, the first is {fine}={torn[0]}"
                )


def read_label_sets(
    csv_path: str | os.PathLike | None = None,
    columns: Sequence[str] | None = None,
    *,
    key: str = "wnid",
) -> LabelSets:
    """Reads a table of label sets.

    Args:
      csv_path: a CSV file with a header and one row per class; None takes the table of Huh et al.
        2016 over the 1000 classes of ILSVRC2012, whose columns are `HUH2016_BOTTOM_UP` and
        `HUH2016_TOP_DOWN`.
      columns: names of the label sets to read; None reads every column that is called
        `<something>_<number>`. Such a number is the size that the column declares: it must have as
        many different labels.
      key: the column with the names of the classes.

    Returns:
      The label sets.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a column is missing, a line (named by number) is not as it should be, a class is
        there twice, or a column does not have the size that it declares.

    Example:
      >>> label_sets = read_label_sets(columns=["down_up_79", "up_down_127"])
      >>> len(set(label_sets.column("down_up_79")))
      79
    """
    if csv_path is None:
        table = importlib.resources.files("transfer_jax.data").joinpath("huh2016_label_sets.csv")
        with table.open(newline="", encoding="utf-8") as file:
            return _read(file, table.name, columns, key)
    with open(csv_path, newline="", encoding="utf-8-sig") as file:
        return _read(file, str(csv_path), columns, key)


def _read(file: IO[str], path: str, columns: Sequence[str] | None, key: str) -> LabelSets:
    rows = csv.DictReader(file, skipinitialspace=True)
    found = list(rows.fieldnames or [])
    if columns is None:
        columns = [name for name in found if _declared_size(name) is not None and name != key]
    missing = [name for name in (key, *columns) if name not in found]
    if missing or not columns:
        raise ValueError(
            f"{path}, line 1: the header must name {key} and the label sets; "
            f"missing {', '.join(missing) or '<something>_<number>'}, found {','.join(found)!r}"
        )
    by_class: dict[str, tuple[str, ...]] = {}
    for row in rows:
        name, *labels = ((row[column] or "").strip() for column in (key, *columns))
        if not name or not all(labels):
            empty = key if not name else columns[labels.index("")]
            raise ValueError(f"{path}, line {rows.line_num}: {empty} is empty")
        if name in by_class:
            raise ValueError(f"{path}, line {rows.line_num}: {name} is there twice")
        by_class[name] = tuple(labels)
    if not by_class:
        raise ValueError(f"{path}: no class in the table")
    values = tuple(zip(*by_class.values(), strict=True))
    for column, labels in zip(columns, values, strict=True):
        declared, size = _declared_size(column), len(set(labels))
        if declared is not None and declared != size:
            raise ValueError(f"{path}: column {column} has {size} different labels")
    return LabelSets(tuple(by_class), tuple(columns), values)


def _declared_size(column: str) -> int | None:
    match = re.fullmatch(r".*_(\d+)", column)
    return int(match[1]) if match else None
