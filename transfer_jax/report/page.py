"""The report of a run: one page that opens offline, and the verdicts as claims.csv."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe
import pandas as pd
from matplotlib.figure import Figure

from transfer_jax.report.claims import OUTCOMES, Claim, converged, judge, wrong_by_chance
from transfer_jax.report.effects import ALPHA
from transfer_jax.report.frame import NETWORK_COLUMNS, NETWORK_MEASURES, Results, networks
from transfer_jax.report.plots import data_url

FOLDED = 40  # rows beyond which a table is shown on request
SHOWN = (*NETWORK_COLUMNS, "seed", "condition", *NETWORK_MEASURES, "hash")


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the page: heading, a paragraph, then figures and tables in order, each with its
    caption. Items without a figure or rows are left out, and so is a section without items."""

    title: str
    text: str
    items: Sequence[tuple[Figure | pd.DataFrame | None, str]]


def write_report(study: Any, results: Results) -> Path:
    """Draws the report of a workdir into its folder report/; returns the page.

    Args:
      study: with `claims` and `sections`, see `studies.base.Study`.
      results: of the workdir.
    """
    folder = Path(results.workdir, "report")
    return write_page(results, study.claims, study.sections(results, folder), folder)


def write_page(
    results: Results, claims: Sequence[Claim], sections: Sequence[Section], folder: Path
) -> Path:
    """Writes index.html, which needs no other file, and claims.csv (see `judge`) into a folder.

    Args:
      results: of a finished run or not; its about.json gives title, command, device and notes.
      claims: of the study.
      sections: the study's own; data, claims and networks are added.
      folder: of the report.
    """
    folder.mkdir(parents=True, exist_ok=True)
    judged, trained = judge(claims, results), networks(results)
    judged.to_csv(folder / "claims.csv", index=False, float_format="%.5g")
    outcome = judged.loc[judged["claim"] != "", "verdict"]
    done = trained[trained["state"] == "done"].drop_duplicates("hash")
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
        hours=done["seconds"].sum() / 3600,
        data=_data(results, done),
        judged=_judged(judged),
        sections=[s for s in sections if any(_shown(item) for item, _ in s.items)],
        failed=trained.loc[trained["state"] == "failed", [*NETWORK_COLUMNS, "error"]],
        planned=int((trained["state"] == "planned").sum()),
        networks=trained[[name for name in SHOWN if name in trained]],
    )
    path = folder / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


def _data(results: Results, done: pd.DataFrame) -> pd.DataFrame:
    """What the networks saw: classes, images, pixels, chance; a row for each kind of task."""
    found = []
    for cell in map(results.cell, done["hash"]):
        if cell:
            classes, pixels = len(cell["class_names"]), cell["network"]["input_size"]
            row = [cell["dataset"], classes, cell["num_train"], cell["num_val"], pixels]
            found.append([*row, f"{1 / classes:.2%}"])
    names = ["dataset", "classes", "training images", "validation images", "input pixels", "chance"]
    return pd.DataFrame(found, columns=names).drop_duplicates()


def _judged(judged: pd.DataFrame) -> pd.DataFrame:
    """The claims as the page shows them, in points; those of several conditions without numbers."""
    whole = judged["claim"] != ""
    several = whole & (judged.groupby("number")["number"].transform("size") > 1)
    known = judged["p"].notna() & ~several
    survives = (judged["holm"] < ALPHA) & (judged["verdict"] != "undecided")
    mean, low, high = (100 * judged[name] for name in ("effect", "low", "high"))
    shown = {
        "": judged["number"].where(whole, "").astype(str),
        "claim": judged["claim"],
        "effect": judged["condition"].mask(several, ""),
        "verdict": judged["verdict"],
        "points": mean.map("{:+.1f}".format).where((judged["units"] > 0) & ~several, ""),
        "95 % interval": (low.map("{:+.1f}".format) + " to " + high.map("{:+.1f}".format)),
        "holds if": judged["rule"].mask(several, ""),
        "units": judged["units"],
        "p": judged["p"].map("{:.2g}".format).where(judged["p"].notna(), ""),
        "Holm": survives.map({True: "\N{CHECK MARK}", False: ""}),
        "note": judged["note"],
    }
    shown["95 % interval"] = shown["95 % interval"].where(known, "")
    return pd.DataFrame(shown)


def _shown(item: Figure | pd.DataFrame | None) -> bool:
    return isinstance(item, Figure) or (item is not None and len(item) > 0)


def _html(item: Figure | pd.DataFrame, caption: str) -> str:
    if not _shown(item):
        return ""
    text = markupsafe.escape(caption)
    if isinstance(item, Figure):
        width, height = (round(96 * inches) for inches in item.get_size_inches())
        size = f'width="{width}" height="{height}"'
        return f'<figure><img {size} src="{data_url(item)}" alt="{text}">{_caption(text)}</figure>'
    numbered = isinstance(item.index, pd.RangeIndex) or item.index.names == [None]
    table = item.to_html(index=not numbered, border=0, na_rep="", float_format="{:.3f}".format)
    if len(item) > FOLDED:
        return f"<details><summary>{text}</summary><div>{table}</div></details>"
    return f"<figure><div>{table}</div>{_caption(text)}</figure>"


def _caption(text: str) -> str:
    return f"<figcaption>{text}</figcaption>" if text else ""
