"""The report of Huh et al. 2016, drawn from a workdir's files alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from transfer_jax.report import cell_files, figures, overview
from transfer_jax.report import huh2016_feature_figures as feature_drawings
from transfer_jax.report import huh2016_figures as drawings
from transfer_jax.report import huh2016_numbers as numbers
from transfer_jax.report import huh2016_tables as tables
from transfer_jax.report.claims import Claim, write_claims
from transfer_jax.report.huh2016_claims import claims
from transfer_jax.report.huh2016_files import ALL, IMPORTED, MEASURES, Analysis, read_analysis
from transfer_jax.report.network_pictures import first_layer_filters, learning_curves
from transfer_jax.report.network_table import layer_table
from transfer_jax.report.page import Picture, Section
from transfer_jax.report.results import Row
from transfer_jax.report.statistics import percent
from transfer_jax.report.tables import Table
from transfer_jax.report.workdir import Workdir, read_workdir, report_folder

LEAD = (
    "What in the pretraining data makes features transfer: the number of images, of classes, how "
    "fine the classes are, which classes? Networks are pretrained on subsets and relabellings of "
    "one dataset and transferred to the same targets. After Huh, Agrawal and Efros, 2016."
)

QUESTIONS = (
    ("images", "How many pretraining images are needed?", "section 4", (1, 2)),
    ("classes", "How many pretraining classes are needed?", "section 5.1", (3,)),
    (
        "features",
        "Do coarse classes teach fine ones, and fine ones coarse?",
        "sections 5.2 to 5.4",
        (4, 5),
    ),
    ("budget", "More classes, or more images of each?", "section 5.5", (6,)),
    ("overlap", "What if the target's classes are pretrained on too?", "section 5.6", (7,)),
    ("halves", "Does the other half of the classes help?", "section 6", (8, 9)),
    ("unrelated", "Does unrelated data help?", "section 6", (10,)),
)
"""Key, the question, where the paper asks it, and the claims that it makes there."""

SCALE = (
    " Error bars are one standard deviation over seeds. All panels have as many points to the "
    "inch, so that slopes and distances compare between pretraining and transfer. Dotted: the same "
    "network trained on the target alone."
)

CAPTIONS = {
    "images": "Accuracy by training images of each class (logarithmic axis): pretraining on its "
    "own validation images, and transfer to each target.",
    "classes": "Accuracy by number of classes (logarithmic axis). The images stay, their labels "
    "are merged along the hierarchy: bottom-up, the deepest level into its parents, or top-down, "
    "cut at one height. Pretraining is easier with fewer classes, which says nothing of transfer.",
    "budget": "Accuracy by number of classes (logarithmic axis) where fewer classes have more "
    "images each, so that the total stays.",
    "overlap": "Accuracy without and with the classes of the target that was held out.",
    "halves": "Accuracy from half of the classes (two halves drawn at random; two that share as "
    "few ancestors as the hierarchy allows) and from all.",
    "unrelated": "Accuracy from natural classes only, man-made ones only, and both.",
}


def write_report(
    workdir: str | os.PathLike[str],
    *,
    title: str,
    published: bool = True,
    notes: Sequence[str] = (),
) -> Path:
    """Draws the report of a workdir, finished or not, into its folder `report`.

    Writes a picture for each question whose files exist (those of an earlier report go),
    claims.csv and index.html, which holds everything and opens offline. A question whose files
    are missing is left out, and named in the table of where each question stands.

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
    questions = [_question(analysis, folder, n + 1, verdicts) for n in range(len(QUESTIONS))]
    beside = tables.published_tables(analysis) if published else ()
    sections = (
        Section("Targets", (), _targets(analysis)),
        *questions,
        Section("From a file", (), _imported(analysis)),
        Section("Beside the paper's numbers", (), beside),
        Section("The paper's claims, tested", (numbers.NOISE_RULE,), (_overview(verdicts),)),
        Section("Where each question stands", (), (_places(questions),)),
        Section("The networks themselves", (), _networks(folder, found, analysis)),
        Section("Timings", (), overview.timings_table(analysis.timings)),
    )
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


def _targets(analysis: Analysis) -> tuple[Table, ...]:
    found = tables.scratch_tables(analysis) + tables.actions_tables(analysis)
    return (tables.targets_table(analysis), *found)


def _imported(analysis: Analysis) -> tuple[Table, ...]:
    """What a network that was pretrained elsewhere is worth; nothing without one."""
    if IMPORTED not in analysis.question(IMPORTED):
        return ()
    found = tables.condition_tables(analysis, IMPORTED)
    return found + tables.scratch_tables(analysis, IMPORTED)


def _question(analysis: Analysis, folder: Path, number: int, verdicts: Sequence[Claim]) -> Section:
    """The section of a question: its figure, its tables, its claims; no items without files."""
    key, question, _, claimed = QUESTIONS[number - 1]
    heading = f"{number}. {question}"
    items: list[Picture | Table | tuple[Claim, ...]] = []
    if key == "features":
        path = feature_drawings.draw_neighbours(analysis, folder / "neighbours.png")
        if path:
            caption = (
                "Images look for their fine class among the training images nearest to them, in "
                "features of networks that were pretrained on fewer, merged classes. Error bars "
                "are one standard deviation over seeds. Dashed grey: the top-1 of someone who "
                "knows the class the network was trained on, and guesses within it."
            )
            items.append(Picture(path, caption, "Nearest-neighbour accuracy by number of classes"))
        items += tables.neighbour_tables(analysis)
        path = feature_drawings.draw_siblings(analysis, folder / "siblings.png")
        if path:
            caption = (
                "The reverse: how often the nearest other class has the same parent at a level of "
                "the hierarchy, in features trained on all fine classes, against chance (hollow). "
                "Error bars are one standard deviation over seeds."
            )
            items.append(Picture(path, caption, "Share of siblings by level, against chance"))
        items += tables.sibling_tables(analysis)
    else:
        path = drawings.draw_question(analysis, key, folder / f"{key}.png")
        if path:
            alt = f"Pretraining and transfer accuracy: {question}"
            items.append(Picture(path, CAPTIONS[key] + SCALE, alt))
        items += tables.condition_tables(analysis, key)
    if items:
        items.append(tuple(claim for claim in verdicts if claim.number in claimed))
    return Section(heading, (), tuple(items))


def _overview(verdicts: Sequence[Claim]) -> Table:
    """All claims and verdicts in brief."""
    rows = tuple((str(claim.number), claim.claim, claim.verdict) for claim in verdicts)
    caption = "Finding and rule of each stand at its question, and all of them in claims.csv."
    return Table(("", "claim", "verdict"), rows, caption, words=frozenset({1, 2}))


def _places(questions: Sequence[Section]) -> Table:
    """Each question of the paper: the section that answers it, or that its files are missing."""
    rows = tuple(
        (
            section.heading,
            where,
            "here" if section.items else "not here: the analysis has none of its conditions",
        )
        for section, (_, _, where, _) in zip(questions, QUESTIONS, strict=True)
    )
    return Table(("question", "in the paper", "in this report"), rows, words=frozenset({0, 1, 2}))


def _networks(folder: Path, workdir: Workdir, analysis: Analysis) -> tuple[Picture | Table, ...]:
    """Layers, learning curves and first-layer filters of some networks, as far as they are kept."""
    items: list[Picture | Table] = []
    directory, chosen = workdir.directory, _chosen(analysis)
    bases = {name: cell_files.read_cell(directory, hash) for name, hash in chosen.items()}
    network = next((c["network"] for c in bases.values() if isinstance(c.get("network"), dict)), {})
    if "layers" in network:
        caption = "The network's layers from the image up, sizes in pixels."
        items.append(layer_table(network, caption))
    palette = [colour for name, colour in figures.COLOURS.items() if name != "grey"]
    curves = [(name, cell_files.read_metrics(directory, hash)) for name, hash in chosen.items()]
    curves += _target_curves(directory, workdir.rows)
    curves = [(name, records) for name, records in curves if records][: len(palette)]
    drawn = [(n, c, records) for (n, records), c in zip(curves, palette, strict=False)]
    items += learning_curves(drawn, folder, "one seed")
    kernels = {name: cell_files.read_first_layer(directory, hash) for name, hash in chosen.items()}
    kernels = {n: k for n, k in kernels.items() if k is not None and k.shape[2] in (1, 3)}
    return (*items, *first_layer_filters(kernels, folder, "pretrained networks"))


def _chosen(analysis: Analysis) -> dict[str, str]:
    """Name -> hash of the networks to look at: all data, fewest images, fewest classes, one half;
    each from its first seed."""
    found = {}
    images, classes = analysis.question("images"), analysis.question("classes")
    everything = next((n for n in analysis.conditions if n.condition == ALL), None)
    fewest = min(images.values(), key=lambda n: n.num_images, default=None)
    coarsest = min(classes.values(), key=lambda n: n.num_classes, default=None)
    half = next(iter(analysis.question("halves").values()), None)
    for line in (everything, fewest, coarsest, half):
        if line is not None:
            found.setdefault(line.condition, line.hash)
    return found


def _target_curves(directory, rows: Sequence[Row]) -> list:
    """(name, records) of the first target's networks: fine-tuned from all data, and scratch."""
    found = []
    for experiment, start in (("fine_tuned", f"{ALL} to "), ("scratch", "")):
        row = next(
            (r for r in rows if r.experiment == experiment and r.split.startswith(start)), None
        )
        if row and row.finished:
            name = f"{'scratch, ' if not start else ''}{row.split}"
            found.append((name, cell_files.read_metrics(directory, row.hash)))
    return found


def _effects(analysis: Analysis) -> list[tuple[str, str]]:
    """The sizes of the effects, for the head of the page."""
    found = []
    own = numbers.contrast([(1, numbers.pretraining(analysis, ALL))])
    if own:
        found.append((f"{percent(own.value)} %", "top-1 of pretraining on all data"))
    for target in analysis.target_names()[:2]:
        for measure in analysis.measures(target)[:1]:
            gain = numbers.over_scratch(analysis, target, measure)
            if gain:
                meaning = f"pretrained over scratch, {target}, {MEASURES[measure]} (points)"
                found.append((str(gain), meaning))
    pair = numbers.halved(analysis)
    if pair:
        more, less = (line.condition for line in pair)
        for change, what in (
            (numbers.difference(analysis, less, more), "transfer"),
            (numbers.pretraining_difference(analysis, less, more), "pretraining"),
        ):
            if change:
                found.append((str(change), f"{what} with half of the images (points)"))
    return found
