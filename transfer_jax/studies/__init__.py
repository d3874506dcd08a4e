"""The studies: each declares its cells, what is read out of them and its report, and owns no
machinery."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from ml_collections import ConfigDict

from transfer_jax.grid.store import Store
from transfer_jax.report import huh2016 as huh2016_report
from transfer_jax.report import yosinski2014 as yosinski2014_report
from transfer_jax.report import zeiler2013 as zeiler2013_report
from transfer_jax.studies import (
    huh2016,
    huh2016_analysis,
    yosinski2014,
    zeiler2013,
    zeiler2013_analysis,
)
from transfer_jax.studies.settings import Opener, Work


@dataclasses.dataclass(frozen=True)
class Study:
    """One paper.

    Attributes:
      networks: names of the config's fields that describe networks; the first names the study's
        title.
      plan: from a config and an opener of datasets to the cells that are wanted.
      write_report: draws the report of a workdir, given a title and notes, and returns its page.
      analyse: reads out of the trained cells what the report shows beside their accuracies, into
        the workdir's `analysis`; None where there is nothing.
    """

    networks: tuple[str, ...]
    plan: Callable[[ConfigDict, Opener], Work]
    write_report: Callable[..., Path]
    analyse: Callable[[ConfigDict, Opener, Store], None] | None = None


STUDIES: dict[str, Study] = {
    "yosinski2014": Study(("network",), yosinski2014.plan, yosinski2014_report.write_report),
    "zeiler2013": Study(
        ("zfnet", "alexnet"),
        zeiler2013.plan,
        zeiler2013_report.write_report,
        zeiler2013_analysis.analyse,
    ),
    "huh2016": Study(
        ("network",), huh2016.plan, huh2016_report.write_report, huh2016_analysis.analyse
    ),
}
