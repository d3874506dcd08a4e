"""The report of Zeiler & Fergus 2013, drawn from a workdir's files alone."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from transfer_jax.report import cell_files, figures, overview
from transfer_jax.report import zeiler2013_measures as measures
from transfer_jax.report import zeiler2013_numbers as numbers
from transfer_jax.report import zeiler2013_pictures as pictures
from transfer_jax.report import zeiler2013_tables as tables
from transfer_jax.report.claims import write_claims
from transfer_jax.report.network_pictures import learning_curves
from transfer_jax.report.network_table import layer_table
from transfer_jax.report.page import Picture, Section
from transfer_jax.report.results import Row
from transfer_jax.report.statistics import percent
from transfer_jax.report.tables import Table
from transfer_jax.report.workdir import read_workdir, report_folder
from transfer_jax.report.zeiler2013_claims import claims
from transfer_jax.report.zeiler2013_files import Analysis, read_analysis

LEAD = (
    "What does each layer of a convolutional network see, which parts of it matter, and what are "
    "its features worth on other images? Activations are projected to pixels, networks are "
    "ablated, objects are covered, and features are tried on small targets. After Zeiler and "
    "Fergus, 2013."
)


@dataclasses.dataclass(frozen=True)
class Part:
    """A section of the report and what of the paper it holds.

    Attributes:
      heading: of the section.
      items: its pictures and tables; empty where its files are missing.
      holds: (item of the paper, what it shows there, items of ours, files they need).
      paragraphs: under the heading.
    """

    heading: str
    items: tuple[Picture | Table, ...]
    holds: tuple[tuple[str, str, Sequence, str], ...] = ()
    paragraphs: tuple[str, ...] = ()


def write_report(
    workdir: str | os.PathLike[str],
    *,
    title: str,
    published: bool = True,
    notes: Sequence[str] = (),
) -> Path:
    """Draws the report of a workdir, finished or not, into its folder `report`.

    Writes a picture for each figure whose files exist (those of an earlier report go), claims.csv
    and index.html, which holds everything and opens offline. A part whose files are missing is
    left out, and named in the table of where each of the paper's tables and figures stands.

    Args:
      workdir: a folder with results.csv, cells/<hash>/, analysis/ and, for a run that goes on,
        plan.json.
      title: heading of the page.
      published: whether to show the paper's own numbers beside ours.
      notes: lines for the head of the page: configuration, machine, command.

    Returns:
      The path of index.html.

    Raises:
      FileNotFoundError: there is no results.csv.
      ResultsError: results.csv cannot be read.
      AnalysisError: a file of the analysis cannot be read.
    """
    overview.check_notes(notes)
    found, analysis = read_workdir(workdir), read_analysis(workdir)
    verdicts = claims(analysis)

    folder = report_folder(workdir)
    write_claims(folder / "claims.csv", verdicts)
    parts = _parts(found.directory, folder, found.rows, analysis, published)
    sections = [Section(p.heading, p.paragraphs, p.items) for p in parts]
    sections += [
        Section("Where each table and figure of the paper stands", (), (_places(parts),)),
        Section("The paper's claims, tested", (numbers.NOISE_RULE,), (verdicts,)),
        Section("Timings", (), overview.timings_table(analysis.timings)),
    ]
    numbers_shown = overview.headline(found.rows, _effects(analysis), verdicts, analysis.timings)
    return overview.write_index(
        found,
        folder,
        sections,
        title=title,
        lead=LEAD,
        notes=notes,
        numbers=numbers_shown,
        split="which",
    )


def _parts(directory, folder, rows, analysis: Analysis, published: bool) -> list[Part]:
    """All sections up to the claims, in the order of the paper's figures, then its tables."""

    def theirs(number: int):
        return tables.published(f"table{number}", published)

    def drawn(draw: Callable[..., list[Picture]], *others) -> tuple[Picture, ...]:
        return tuple(draw(analysis, folder, *others))

    figure2, figure4, figure5 = map(drawn, (pictures.figure2, pictures.figure4, pictures.figure5))
    figure6, rules, pairs = map(drawn, (pictures.figure6, pictures.rules, pictures.duplicates))
    figure7 = drawn(pictures.figure7, theirs(4))
    network = _network(directory, analysis)
    curves = learning_curves(_curves(directory, rows), folder, "the source networks")
    table1, table2 = tables.table1(analysis, theirs(1)), tables.table2(analysis, theirs(2))
    table34 = tables.tables_3_and_4(analysis, theirs(3), theirs(4))
    table5, table6 = tables.table5(analysis, theirs(5)), tables.table6(analysis, theirs(6))
    ours = ", ".join(numbers.targets(analysis.transfer))
    on = f", ours on {ours}" if ours else ""
    labelled = ", ".join(dict.fromkeys(line.target for line in analysis.multilabel))
    other = f", ours on {labelled}" if labelled else ""
    return [
        Part(
            "Figure 2: what excites each layer",
            figure2,
            (("Figure 2", "projections of the strongest activations", figure2, "projections.npz"),),
        ),
        Part("One unit by three rules", rules),
        Part(
            "Figure 3: the network",
            network + curves,
            (("Figure 3", "the network", network, "networks.csv and cell.json"),),
        ),
        Part(
            "Figure 4: how features evolve during training",
            figure4 + measures.evolution_table(analysis),
            (("Figure 4", "features along training", figure4, "evolution.npz"),),
        ),
        Part(
            "Figure 5: filters of the first two layers",
            figure5 + measures.filters_table(analysis),
            (("Figure 5", "filters of both networks", figure5, "filters.npz"),),
        ),
        Part(
            "Figure 6: occlusion",
            figure6 + measures.occlusion_tables(analysis),
            (("Figure 6", "a grey square over the image", figure6, "occlusion.npz"),),
        ),
        Part(
            "Table 1: single networks and ensembles",
            table1,
            (("Table 1", "errors on ImageNet 2012, ours on the source", table1, "networks.csv"),),
        ),
        Part(
            "Table 2: ablations",
            table2,
            (("Table 2", "layers removed or resized", table2, "variants in networks.csv"),),
        ),
        Part(
            "Tables 3 and 4: pretrained against scratch",
            table34,
            (
                ("Table 3", f"Caltech-101{on}", table34, "transfer.csv"),
                ("Table 4", f"Caltech-256{on}", table34, "transfer.csv"),
            ),
        ),
        Part(
            "Figure 7: accuracy against images per class",
            figure7,
            (("Figure 7", f"Caltech-256{on}", figure7, "two sizes or more in transfer.csv"),),
        ),
        Part(
            "Table 5: images with several labels",
            table5,
            (("Table 5", f"PASCAL VOC 2012{other}", table5, "multilabel.csv"),),
        ),
        Part(
            "Table 6: how discriminative each layer is",
            table6,
            (("Table 6", f"SVM and softmax by layer{on}", table6, "transfer.csv"),),
        ),
        Part("Near-duplicates", pairs + measures.duplicate_tables(analysis)),
    ]


def _places(parts: Sequence[Part]) -> Table:
    """Each table and figure of the paper: the section that holds it, or what it would need."""
    rows = [
        ("Figure 1", "how a deconvnet works", "nowhere: a drawing of the method, not a result"),
    ]
    for part in parts:
        for item, shows, ours, needs in part.holds:
            where = f"section “{part.heading}”" if ours else f"not here: there is no {needs}"
            rows.append((item, shows, where))
    rows.sort(key=lambda row: row[0])
    header = ("in the paper", "what it shows", "in this report")
    return Table(header, tuple(rows), words=frozenset({0, 1, 2}))


def _network(directory, analysis: Analysis) -> tuple[Table, ...]:
    """The layers of both architectures' bases, as far as their cells describe them."""
    found = []
    for name in ("zfnet", "alexnet"):
        line = analysis.network(name)
        network = line and cell_files.read_cell(directory, line.hash).get("network")
        if network:
            caption = f"{name}: layers from the image up, sizes in pixels."
            found.append(layer_table(network, caption))
    return tuple(found)


def _curves(directory, rows: Sequence[Row]) -> list:
    """(name, colour, records) of the source networks, no more than there are colours."""
    order = ("blue", "vermilion", "green", "orange", "purple", "sky", "black")
    found = []
    for row in rows:
        if row.experiment == "networks" and row.finished and len(found) < len(order):
            records = cell_files.read_metrics(directory, row.hash)
            if records:
                found.append((row.split, figures.COLOURS[order[len(found)]], records))
    return found


def _effects(analysis: Analysis) -> list[tuple[str, str]]:
    """The sizes of the effects, for the head of the page."""
    found = []
    for name in ("zfnet", "alexnet"):
        network = analysis.network(name)
        if network:
            found.append((f"{percent(network.val_top1_error)} %", f"top-1 error of {name}"))
    lines = analysis.transfer
    for target in numbers.targets(lines)[:2]:
        for size in numbers.sizes(lines, target, "scratch")[-1:]:
            scratch = numbers.folds(lines, target, "scratch", None, size)
            gain = numbers.fold_difference(numbers.pretrained(lines, target, size), scratch)
            if gain:
                meaning = f"pretrained over scratch, {target}, {size} a class (points)"
                found.append((str(gain), meaning))
    inside = numbers.inside_box(line for line in analysis.occlusion if line.correct)
    if inside:
        meaning = f"lowest probability inside the box (chance {percent(inside[1], 0)} %)"
        found.append((f"{percent(inside[0], 0)} %", meaning))
    return found
