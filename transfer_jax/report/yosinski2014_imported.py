"""What the layers of a network from a file are worth: the experiment 'imported'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from transfer_jax.report import analysis, cell_files
from transfer_jax.report import yosinski2014_figures as drawings
from transfer_jax.report.page import Picture, Section
from transfer_jax.report.results import SYMBOLS
from transfer_jax.report.statistics import MINUS, percent
from transfer_jax.report.tables import Table
from transfer_jax.report.workdir import Workdir

EXPERIMENT = "imported"


def imported_section(
    found: Workdir, folder: Path, num_eval: Mapping[str, int], num_classes: Mapping[str, int]
) -> Section:
    """The figure and table of networks that copy from a file; no items where there are none.

    Args:
      found: the workdir.
      folder: of the report; imported.png is drawn into it.
      num_eval, num_classes: hash -> number of validation images, of classes, where known.
    """
    cells = analysis.treated(analysis.grid(found.rows, EXPERIMENT))
    heading = "Transfer from an imported network"
    if not cells:
        return Section(heading, (), ())
    path = drawings.figure2(found.rows, num_eval, num_classes, folder / "imported.png", EXPERIMENT)
    caption = (
        "As Figure 2, with base A from a file: AnB copies its lower n layers. The base is that of "
        "B, trained from random weights on the images of B alone."
    )
    picture = Picture(path, caption, "Accuracies by layer and treatment, copied from a file")
    return Section(heading, (_origin(found),), (picture, _table(cells, num_eval)))


def _origin(found: Workdir) -> str:
    texts = []
    for row in found.rows:
        if row.treatment == "imported":
            cell = cell_files.read_cell(found.directory, row.hash)
            text = f"{row.cell} is {cell.get('imported', 'a file')}"
            if "num_classes" in cell:
                text += f", a network of {cell['num_classes']:,} classes"
            if row.top1 is not None:
                text += f" with a top-1 accuracy of {percent(row.top1, 2)} %"
            texts.append(text + ".")
    return " ".join(dict.fromkeys(texts))


def _table(cells: analysis.Grid, num_eval: Mapping[str, int]) -> Table:
    ns = analysis.ns_of(cells)
    plain = analysis.means(cells)
    rows = []
    for treatment in SYMBOLS:
        if not any((treatment, n) in plain for n in (0, *ns)):
            continue
        accuracies = [percent(plain.get((treatment, n)), 2) for n in (0, *ns)]
        rows.append((SYMBOLS[treatment], "top-1 (%)", *accuracies))
        changes = drawings.differences(cells, treatment, num_eval) if treatment != "base" else {}
        if changes:
            texts = (str(changes[n]) if n in changes else "" for n in ns)
            rows.append((SYMBOLS[treatment], f"{MINUS} base (points)", "", *texts))
    caption = (
        "Mean top-1, and mean difference to the base of the same target, ± one standard error."
    )
    header = ("n", "", "base", *(str(n) for n in ns))
    return Table(header, tuple(rows), caption, words=frozenset({0, 1}))
