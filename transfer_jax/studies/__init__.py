"""The studies: each declares its cells and its report, and owns no machinery."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from transfer_jax.data.datasets import Dataset
from transfer_jax.grid.run import Entry
from transfer_jax.report import yosinski2014 as yosinski2014_report
from transfer_jax.studies import yosinski2014


@dataclasses.dataclass(frozen=True)
class Study:
    """One paper.

    Attributes:
      entries: from a config and a dataset to the cells that are wanted.
      write_report: draws the report of a workdir, given a title and notes, and returns its page.
    """

    entries: Callable[[ConfigDict, Dataset], Sequence[Entry]]
    write_report: Callable[..., Path]


STUDIES: dict[str, Study] = {
    "yosinski2014": Study(yosinski2014.entries, yosinski2014_report.write_report),
}
