"""What the papers measured, to draw beside our numbers.

yosinski2014.csv: top-1 of all 148 networks from the logs that the authors published, as the
mean of the 10 best evaluations (what the paper's figures plot). W is the task of all 1000
classes; random halves have 500 classes each.

zeiler2013_table1.csv .. zeiler2013_table6.csv: the tables as printed, in percent; `spread` is what
the paper writes behind its ±, and a cell that it leaves blank is empty. In Table 5 the printed
mean of Oquab et al. (82.8) does not follow from that column's classes (81.6).

huh2016_costs.csv: what two changes to the pretraining data cost a target, as the text gives it, in
points of the target's measure.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Mapping
from importlib import resources

from transfer_jax.report.results import Row

_FOLDER = resources.files("transfer_jax.report") / "published"


@functools.cache
def read_published(study: str = "yosinski2014") -> tuple[Row, ...]:
    """The rows of a paper's published networks.

    Args:
      study: name of a file in `published/` that lists networks, without its suffix.

    Raises:
      ValueError: nothing is kept for such a study.
    """
    return tuple(
        Row(
            experiment=line["experiment"],
            split=line["split"],
            cell=line["cell"],
            target=line["target"],
            n=int(line["n"]),
            treatment=line["treatment"],
            top1=None,
            top1_best_mean=float(line["top1_best_mean"]),
            steps=int(line["steps"]),
        )
        for line in _lines(study, [name for name in _names() if "_" not in name])
    )


@functools.cache
def read_published_table(study: str, table: str) -> tuple[Mapping[str, str], ...]:
    """The lines of a table as a paper prints it: column -> text, in file order.

    Args:
      study: such as 'zeiler2013'.
      table: such as 'table1'; the file is `published/<study>_<table>.csv`.

    Raises:
      ValueError: no such table is kept.
    """
    return _lines(f"{study}_{table}", [name for name in _names() if "_" in name])


def _names() -> list[str]:
    names = (item.name for item in _FOLDER.iterdir())
    return sorted(name.removesuffix(".csv") for name in names if name.endswith(".csv"))


def _lines(name: str, names: list[str]) -> tuple[Mapping[str, str], ...]:
    if name not in names:
        raise ValueError(f"no published numbers for {name!r}; there are: {', '.join(names)}")
    text = (_FOLDER / f"{name}.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))
