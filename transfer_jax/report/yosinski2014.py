"""The report of Yosinski et al. 2014, drawn from a workdir's files alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from transfer_jax.report import analysis, cell_files, figures, overview
from transfer_jax.report import yosinski2014_figures as drawings
from transfer_jax.report import yosinski2014_published as beside
from transfer_jax.report.claims import write_claims
from transfer_jax.report.network_pictures import first_layer_filters, learning_curves
from transfer_jax.report.page import Picture, Section
from transfer_jax.report.published import read_published
from transfer_jax.report.results import BASES
from transfer_jax.report.statistics import MINUS, NOISE_RULE, percent
from transfer_jax.report.workdir import read_workdir, report_folder
from transfer_jax.report.yosinski2014_claims import claims
from transfer_jax.report.yosinski2014_imported import imported_section
from transfer_jax.report.yosinski2014_tables import (
    drop_tables,
    table1,
    write_drops,
    write_table1,
)

LEAD = (
    "How transferable are the layers of a convolutional network? Layers 1 to n of a network "
    "trained on one task are copied into a network for another, kept frozen or fine-tuned, and "
    "the rest is trained anew. After Yosinski, Clune, Bengio and Lipson, 2014."
)

PICTURES = (
    "figure2.png",
    "figure2_published.png",
    "figure3.png",
    "figure3_published.png",
    "filters.png",
    "learning_curves.png",
    "images_per_class.png",
    "imported.png",
)


def write_report(
    workdir: str | os.PathLike[str],
    *,
    title: str,
    published: bool = True,
    notes: Sequence[str] = (),
) -> Path:
    """Draws the report of a workdir, finished or not, into its folder `report`.

    Writes the pictures named in `PICTURES` (Figures 2 and 3 always, the others where their
    networks exist; those of an earlier report go), table1.csv, drop.csv, claims.csv and
    index.html, which holds everything and opens offline.

    Args:
      workdir: a folder with results.csv, cells/<hash>/ and, for a run that goes on, plan.json.
      title: heading of the page.
      published: whether to draw the paper's own points beside ours.
      notes: lines for the head of the page: configuration, machine, command.

    Returns:
      The path of index.html.

    Raises:
      FileNotFoundError: there is no results.csv.
      ResultsError: results.csv cannot be read.
    """
    overview.check_notes(notes)
    found = read_workdir(workdir)
    directory, rows = found.directory, found.rows
    theirs = read_published() if published else ()
    num_eval = cell_files.read_integers(directory, rows, "num_eval")
    num_classes = cell_files.read_integers(directory, rows, "num_classes")
    cells = analysis.grid(rows, "random_halves")
    verdicts = claims(rows, num_eval)

    folder = report_folder(directory, PICTURES)
    write_drops(folder / "drop.csv", cells, num_eval)
    write_table1(folder / "table1.csv", cells, num_eval, theirs)
    write_claims(folder / "claims.csv", verdicts)
    sections = (
        _figure2(folder, rows, theirs, num_eval, num_classes),
        Section("The drop, split in two", (), drop_tables(cells, num_eval)),
        Section("Table 1: what fine-tuned transfer gains", (), (table1(cells, num_eval, theirs),)),
        _figure3(folder, rows, theirs, num_eval, num_classes),
        imported_section(found, folder, num_eval, num_classes),
        Section("The paper's claims, tested", (NOISE_RULE,), (verdicts,)),
        _networks(folder, directory, rows, theirs, num_classes),
    )
    numbers = overview.headline(rows, _effects(cells, num_eval), verdicts)
    return overview.write_index(
        found, folder, sections, title=title, lead=LEAD, notes=notes, numbers=numbers
    )


def _figure2(folder, rows, theirs, num_eval, num_classes) -> Section:
    path = drawings.figure2(rows, num_eval, num_classes, folder / "figure2.png")
    items = [
        Picture(
            path,
            "Figure 2. Above: one marker per network, its validation accuracy as the mean of "
            "its best evaluations; markers stand beside n by a fixed distance per treatment. "
            "Both directions count: B3A is drawn as AnB, A3A as BnB. Below: the mean base, plus "
            "the mean difference of each treatment to the base of the same split and target; "
            "shading is one standard error. The numbers follow the paper's section 4.1 and are "
            "computed from these networks (points; ± one standard error).",
            "Scatter of accuracies by layer and treatment above, lines of means below",
        )
    ]
    comparison = theirs and beside.figure2_published(
        rows, theirs, num_eval, folder / "figure2_published.png"
    )
    if comparison:
        caption = (
            "Each treatment against its base, ours beside the paper's. Ours: mean difference to "
            "the base of the same target, shading one standard error. Paper (dashed): mean of "
            f"its networks {MINUS} mean of its eight bases, 500 ImageNet classes each. Tasks and "
            "sizes differ; the shapes are what compares. Each column has its own scale."
        )
        items.append(Picture(comparison, caption, "Differences to base, ours and the paper's"))
    return Section("Figure 2: similar tasks, random halves of the classes", (), tuple(items))


def _figure3(folder, rows, theirs, num_eval, num_classes) -> Section:
    path = drawings.figure3(rows, num_eval, num_classes, folder / "figure3.png")
    items = [
        Picture(
            path,
            "Figure 3. Upper left: transfer between man-made and natural classes, one line per "
            "target, white circle its base. Upper right: lower n layers left at random initial "
            "values. Below: every network with frozen layers minus its own base (faint), and "
            "means (lines, shading one standard error).",
            "Three panels: man-made and natural, random weights, all against their base",
        )
    ]
    comparison = theirs and beside.figure3_published(
        rows, theirs, num_eval, folder / "figure3_published.png"
    )
    if comparison:
        caption = (
            "The same differences beside the paper's means (dashed; ImageNet: random halves of "
            "500 classes, 551 man-made and 449 natural classes, random weights on all 1000)."
        )
        items.append(
            Picture(comparison, caption, "Frozen layers against base, ours and the paper's")
        )
    heading = "Figure 3: dissimilar tasks and random weights"
    return Section(heading, (), tuple(items))


def _networks(folder, directory, rows, theirs, num_classes) -> Section:
    """Filters, learning curves, images per class: each where its files exist."""
    items = [
        *first_layer_filters(_bases_filters(directory, rows), folder, "the bases"),
        *learning_curves(_curves(directory, rows), folder, "one split"),
    ]
    path = beside.images_per_class(rows, theirs, num_classes, folder / "images_per_class.png")
    if path:
        caption = "A base trained on the first N images of each class only (logarithmic axis)." + (
            " Dashed: the paper's, 1000 ImageNet classes." if theirs else ""
        )
        items.append(Picture(path, caption, "Accuracy against images per class"))
    return Section("The networks themselves", (), tuple(items))


def _bases_filters(directory, rows, most: int = 12) -> dict:
    kernels = {}
    for row in rows:
        usable = row.treatment in BASES and not row.failed
        if usable and row.experiment != "images_per_class":
            kernel = cell_files.read_first_layer(directory, row.hash)
            if kernel is not None and kernel.shape[2] in (1, 3):
                title = f"{row.cell}, {'split ' if row.split.isdigit() else ''}{row.split}"
                kernels.setdefault(title, kernel)
    return dict(list(kernels.items())[:most])


def _curves(directory, rows):
    """Bases and, towards the target with most networks, each treatment at a middle and last n."""
    experiment = "random_halves" if any(r.experiment == "random_halves" for r in rows) else None
    experiment = experiment or (rows[0].experiment if rows else "")
    cells = analysis.grid(rows, experiment)
    if not cells:
        return []
    split, target = max(cells, key=lambda unit: len(cells[unit]))
    networks = cells[split, target]
    chosen = [c[("base", 0)] for u, c in cells.items() if u[0] == split and ("base", 0) in c]
    chosen.sort(key=lambda row: row.target != target)
    for treatment in ("selffer_frozen", "transfer_frozen", "transfer_finetuned", "random_frozen"):
        ns = sorted(n for name, n in networks if name == treatment)
        if ns:
            middle = min(ns, key=lambda n: (abs(n - 4), n))
            last = [ns[-1]] if treatment != "selffer_frozen" else []
            chosen += [networks[treatment, n] for n in sorted({middle, *last})]
    curves = []
    for row in chosen:
        records = cell_files.read_metrics(directory, row.hash)
        if records:
            colour = drawings.LOOKS.get(row.treatment, (figures.COLOURS["purple"],))[0]
            curves.append((row.cell, colour, records))
    return curves


def _effects(cells, num_eval) -> list[tuple[str, str]]:
    """The sizes of the effects, for the head of the page."""
    numbers = []
    base = analysis.means(cells).get(("base", 0))
    if base is not None:
        numbers.append((f"{percent(base)} %", "top-1 of the bases, random halves"))
    drops = analysis.drops(cells, num_eval)
    deepest = max(
        (d for d in drops if d.coadaptation), key=lambda d: d.coadaptation.value, default=None
    )
    if deepest:
        meaning = f"co-adaptation at n = {deepest.n}, its deepest (points)"
        numbers.append((str(-deepest.coadaptation), meaning))
    last = next((d for d in reversed(drops) if d.specificity), None)
    if last:
        numbers.append((str(-last.specificity), f"specificity at n = {last.n} (points)"))
    ns = analysis.ns_of(cells, "transfer_finetuned", "base")
    boost = analysis.compare(cells, "transfer_finetuned", "base", ns, num_eval)
    if boost:
        numbers.append((str(boost), "boost of fine-tuned transfer, mean over n (points)"))
    return numbers
