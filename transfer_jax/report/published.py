"""What the papers measured, to draw beside our numbers.

yosinski2014.csv: top-1 of all 148 networks from the logs that the authors published, as the
mean of the 10 best evaluations (what the paper's figures plot). W is the task of all 1000
classes; random halves have 500 classes each.
"""

from __future__ import annotations

import csv
import functools
from importlib import resources

from transfer_jax.report.results import Row


@functools.cache
def read_published(study: str = "yosinski2014") -> tuple[Row, ...]:
    """The rows of a paper's published networks.

    Args:
      study: name of a file in `published/`, without its suffix.

    Raises:
      ValueError: nothing is kept for such a study.
    """
    folder = resources.files("transfer_jax.report") / "published"
    names = sorted(item.name[:-4] for item in folder.iterdir() if item.name.endswith(".csv"))
    if study not in names:
        raise ValueError(f"no published numbers for {study!r}; there are: {', '.join(names)}")
    text = (folder / f"{study}.csv").read_text(encoding="utf-8")
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
        for line in csv.DictReader(text.splitlines())
    )
