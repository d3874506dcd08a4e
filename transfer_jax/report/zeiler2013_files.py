"""The files that the analysis of Zeiler & Fergus 2013 leaves in a workdir's folder `analysis`."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from transfer_jax.report.analysis_files import Timing, read_arrays, read_tables
from transfer_jax.report.zeiler2013_lines import (
    KINDS,
    Duplicate,
    EnsembleErrors,
    Evolved,
    FilterNumbers,
    NetworkErrors,
    Occluded,
    Precision,
    Transferred,
)


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
        return read_arrays(self.directory / f"{name}.npz")


def read_analysis(workdir: str | os.PathLike[str]) -> Analysis:
    """Reads all tables of a workdir's analysis.

    Raises:
      AnalysisError: a column is missing or a value cannot be read; the message names the file,
        the line and what was expected.
    """
    directory = Path(workdir) / "analysis"
    return Analysis(directory, **read_tables(directory, KINDS))


def depth(layer: str) -> int:
    """A layer's number: 'conv5' -> 5, 'fc7' -> 7; 0 where the name ends in none."""
    found = re.search(r"\d+$", layer)
    return int(found.group()) if found else 0


def by_depth(layers: Iterable[str]) -> list[str]:
    """Distinct layers from the lowest to the highest."""
    return sorted(set(layers), key=lambda layer: (depth(layer), layer))
