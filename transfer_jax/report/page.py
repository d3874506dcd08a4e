"""The report of a run: one page that opens offline, and the verdicts as claims.csv."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from transfer_jax.report import plots
from transfer_jax.report.claims import OUTCOMES, converged, judge, wrong_by_chance
from transfer_jax.report.effects import ALPHA, points
from transfer_jax.report.frame import NETWORK_COLUMNS, NETWORK_MEASURES, Results, measures, networks
from transfer_jax.wording import listed, time_text

FOLDED = 40  # rows beyond which a table is shown on request
SHOWN = (*NETWORK_COLUMNS, "seed", "condition", "num_classes", *NETWORK_MEASURES, "note", "hash")


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page: heading, a paragraph where there is one, then figures and tables in
    order, each with its caption. Items without a figure or rows are left out; of a section without
    items one line says that it was not run, and which field of the config asks for it."""

    title: str
    items: Sequence[tuple[Figure | pd.DataFrame | None, str]]
    text: str = ""
    field: str = ""


def networks_section(
    results: Results, experiment: str, name: Callable[[Any], str] = lambda row: row.condition
) -> Section:
    """How an experiment's networks of the first seed learned, and their first layers; `name` tells
    from a row what its network is called."""
    rows = results.select(experiment=experiment).drop_duplicates(["seed", "hash"])
    rows = rows[rows["seed"] == rows["seed"].min()].head(len(plots.COLOURS))
    looks = zip(rows.itertuples(), plots.COLOURS.values(), strict=False)
    lines = [(name(row), colour, row.hash) for row, colour in looks]
    layers = plots.first_layer_filters(results, {title: hash for title, _, hash in lines})
    curves = plots.learning_curves(results, lines)
    found = [(curves, "Training, one seed."), (layers, "First layers; grey is zero.")]
    return Section("The networks themselves", found)


def write_report(study: Any, results: Results, folder: Path | None = None) -> Path:
    """Writes index.html, which needs no other file, claims.csv (see `judge`) and measures.csv (see
    `measures`); returns the page.

    Args:
      study: module of transfer_jax.studies: its sections come between claims and networks.
      results: of a finished run or not; its about.json gives title, command, device and notes.
      folder: of the report; report/ in the workdir unless given.
    """
    folder = folder or Path(results.workdir, "report")
    with mpl.rc_context(plots.STYLE):
        sections = study.sections(results)
    folder.mkdir(parents=True, exist_ok=True)
    judged, trained = judge(study.CLAIMS, results), networks(results)
    judged.to_csv(folder / "claims.csv", index=False, float_format="%.5g")
    if len(measured := measures(results)):
        measured.to_csv(folder / "measures.csv", index=False, float_format="%.6g")
    outcome = judged.loc[judged["claim"] != "", "verdict"]
    done = trained[trained["state"] == "done"].drop_duplicates("hash")
    trained = trained.assign(note=_near_chance(results, trained))
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("transfer_jax.report"), autoescape=True, trim_blocks=True
    )
    environment.filters["item"] = _html
    html = environment.get_template("page.html").render(
        about=results.about,
        remarks=results.remarks,
        counts={word: int((outcome == word).sum()) for word in OUTCOMES},
        wrong=wrong_by_chance(judged),
        converged=converged(results),
        trained=len(done),
        time=time_text(done["seconds"].sum()),
        data=_data(results, done),
        judged=_judged(judged),
        sections=[s for s in sections if _run(s)],
        not_run=[s for s in sections if not _run(s) and s.field],
        failed=trained.loc[trained["state"] == "failed", [*NETWORK_COLUMNS, "error"]],
        planned=int((trained["state"] == "planned").sum()),
        networks=trained[[name for name in SHOWN if name in trained]],
    )
    path = folder / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


def _data(results: Results, done: pd.DataFrame) -> pd.DataFrame:
    """What the networks saw: a row for each kind of task, with the classes of all its draws."""
    kinds: dict[tuple, dict[str, None]] = {}
    counts: dict[tuple, list[tuple[int, int]]] = {}
    for hash, top1 in zip(done["hash"], done["top1"], strict=True):
        if not (cell := results.cell(hash)):
            continue
        names, pixels = cell["class_names"], cell["network"]["input_size"]
        guess = f"{1 / len(names):.2%}" if pd.notna(top1) else ""
        kind = cell["dataset"], len(names), guess, str(pixels)
        kinds.setdefault(kind, {}).update(dict.fromkeys(names))
        counts.setdefault(kind, []).append((cell["num_train"], cell["num_val"]))
    frame = pd.DataFrame(list(kinds), columns=["dataset", "classes", "chance", "input pixels"])
    for place, split in enumerate(("training", "validation")):
        frame[f"{split} images"] = [_span([n[place] for n in counts[kind]]) for kind in kinds]
    frame["which classes"] = [listed(list(names), 12) for names in kinds.values()]
    return frame


def _span(counts: list[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _near_chance(results: Results, trained: pd.DataFrame) -> pd.Series:
    """Marks networks whose accuracy guessing would reach once in forty times."""
    top1, classes = (trained[name].astype(float) for name in ("top1", "num_classes"))
    images = trained["hash"].map(lambda hash: results.cell(hash).get("num_val") or np.nan)
    luck = 2 * np.sqrt((1 - 1 / classes) / classes / images.astype(float))
    return (top1 < 1 / classes + luck).map({True: "near chance", False: ""})


def _judged(judged: pd.DataFrame) -> pd.DataFrame:
    """The claims as the page shows them, in points; those of several conditions without numbers
    of their own."""
    whole = judged["claim"] != ""
    several = whole & (judged.groupby("number")["number"].transform("size") > 1)
    known = judged["p"].notna() & ~several
    survives = (judged["holm"] < ALPHA).map({True: "\N{CHECK MARK}", False: "no"})
    decided = judged["holm"].notna() & (judged["verdict"] != "undecided")
    mean, low, high = (judged[name].map(points) for name in ("effect", "low", "high"))
    shown = {
        "": judged["number"].where(whole, "").astype(str),
        "claim": judged["claim"],
        "effect": judged["condition"].mask(several, ""),
        "verdict": judged["verdict"],
        "points": mean.where((judged["units"] > 0) & ~several, ""),
        "95 % interval": (low + " to " + high).where(known, ""),
        "holds if": judged["rule"].mask(several, ""),
        "the paper": judged["paper"],
        "units": judged["units"],
        "p": judged["p"].map("{:.2g}".format).where(judged["p"].notna(), ""),
        "Holm": survives.where(decided, ""),
        "note": judged["note"],
    }
    return pd.DataFrame(shown)


def _run(section: Section) -> bool:
    return any(_shown(item) for item, _ in section.items)


def _shown(item: Figure | pd.DataFrame | None) -> bool:
    return isinstance(item, Figure) or (item is not None and _without_empty(item).size > 0)


def _without_empty(table: pd.DataFrame) -> pd.DataFrame:
    """Without rows and columns that hold nothing."""
    known = (table.notna() & table.ne("")).to_numpy(bool)
    return table.loc[known.any(axis=1), known.any(axis=0)]


def _html(item: Figure | pd.DataFrame, caption: str) -> str:
    if not _shown(item):
        return ""
    text = markupsafe.escape(caption)
    below = f"<figcaption>{text}</figcaption>" if text else ""
    if isinstance(item, Figure):
        images = [
            f'<img width="{width}" height="{height}" src="{url}" alt="{text}">'
            for url, width, height in plots.panels(item)
        ]
        return f'<figure><div class="panels">{"".join(images)}</div>{below}</figure>'
    item = _without_empty(item)
    numbered = item.index.names == [None] and pd.api.types.is_integer_dtype(item.index)
    table = item.to_html(index=not numbered, border=0, na_rep="", float_format=_number)
    if len(item) > FOLDED:
        return f"<details><summary>{text}</summary><div class='table'>{table}</div></details>"
    return f"<figure><div class='table'>{table}</div>{below}</figure>"


def _number(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
