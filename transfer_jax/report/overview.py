"""What the reports of all studies say about a workdir: what was trained, failed, is missing."""

from __future__ import annotations

import statistics as stdlib_statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from transfer_jax.report.analysis_files import Timing
from transfer_jax.report.claims import Claim
from transfer_jax.report.page import Page, Section, write_page
from transfer_jax.report.results import SYMBOLS, Row
from transfer_jax.report.statistics import percent
from transfer_jax.report.tables import Table
from transfer_jax.report.workdir import Workdir


def check_notes(notes: Sequence[str]) -> None:
    """Refuses a single string where a list of lines belongs.

    Raises:
      TypeError: notes is a string.
    """
    if isinstance(notes, str):
        raise TypeError(f"notes is one string, {notes!r}; expected a list of strings")


def duration(seconds: float) -> str:
    """Seconds as '42 s', '7 min' or '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def warning(found: Workdir) -> str:
    """What the head of a page says of a workdir that is not complete; empty for one that is."""
    parts = []
    if not any(row.finished for row in found.rows):
        parts.append("No network has finished yet.")
    if found.failures:
        parts.append(f"{len(found.failures)} failed: see the end of the page.")
    if found.missing:
        count = len(found.missing)
        parts.append(f"{count} planned but not finished: figures show what is there.")
    return " ".join(parts)


def finished_networks(rows: Iterable[Row]) -> list[Row]:
    """The networks that were trained to the end, each once however many experiments it takes part
    in."""
    finished = [row for row in rows if row.finished and row.treatment != "imported"]
    return list({row.hash or row.key: row for row in finished}.values())


def claims_number(verdicts: Iterable[Claim]) -> tuple[str, str]:
    """The headline of the claims, such as ('4 of 5', 'tested claims reproduced')."""
    tested = [claim for claim in verdicts if claim.verdict != "not tested"]
    count = sum(claim.verdict == "reproduced" for claim in tested)
    return f"{count} of {len(tested)}", "tested claims reproduced"


def training_numbers(rows: Iterable[Row]) -> tuple[tuple[str, str], ...]:
    """Headline numbers of what training took: time over all networks, median speed."""
    finished, numbers = finished_networks(rows), []
    seconds = sum(row.seconds or 0.0 for row in finished)
    if seconds:
        numbers.append((duration(seconds), "of training, summed over networks"))
    speeds = [row.images_per_second for row in finished if row.images_per_second]
    if speeds:
        numbers.append((f"{stdlib_statistics.median(speeds):,.0f}", "images a second, median"))
    return tuple(numbers)


def analysis_seconds(timings: Iterable[Timing]) -> float:
    """What all parts of an analysis took together."""
    return sum(line.seconds for line in timings)


def headline(
    rows: Sequence[Row],
    effects: Iterable[tuple[str, str]],
    verdicts: Iterable[Claim],
    timings: Sequence[Timing] = (),
) -> tuple[tuple[str, str], ...]:
    """The (value, what it is) pairs at the head of a page.

    Args:
      rows: of results.csv.
      effects: the study's own pairs, shown behind the number of networks.
      verdicts: on the paper's claims.
      timings: of the analysis, where the study has one.
    """
    numbers = [(str(len(finished_networks(rows))), "networks trained"), *effects]
    numbers += [claims_number(verdicts), *training_numbers(rows)]
    if timings:
        numbers.append((duration(analysis_seconds(timings)), "of analysis after training"))
    return tuple(numbers)


def write_index(
    found: Workdir,
    folder: Path,
    sections: Iterable[Section],
    *,
    title: str,
    lead: str,
    notes: Sequence[str],
    numbers: Sequence[tuple[str, str]],
    split: str = "split",
) -> Path:
    """Writes index.html: a study's sections that have items, then every network.

    Args:
      found: the workdir; what it lacks is said at the head of the page.
      folder: of the report.
      sections: in order.
      title, lead, notes, numbers: see `page.Page`.
      split: see `every_network`.

    Returns:
      The path of index.html.
    """
    page = Page(
        title=title,
        lead=lead,
        notes=tuple(notes),
        numbers=tuple(numbers),
        sections=tuple(s for s in (*sections, every_network(found, split)) if s.items),
        warning=warning(found),
    )
    return write_page(page, folder / "index.html")


def timings_table(timings: Sequence[Timing]) -> tuple[Table, ...]:
    """What each part of an analysis took; nothing where there is none."""
    rows = tuple((line.part, duration(line.seconds)) for line in timings)
    caption = "Wall time of each part that was read out of the trained networks."
    rows += (("all parts", duration(analysis_seconds(timings))),)
    return (Table(("part", "time"), rows, caption),) if timings else ()


def every_network(found: Workdir, split: str = "split") -> Section:
    """The tables that close a report: failed, planned and all networks.

    Args:
      found: the workdir.
      split: heading of the column that says which network of an experiment a row is.

    Returns:
      The section; without items where there is nothing.
    """
    rows, failures, missing = found.rows, found.failures, found.missing
    items = []
    where = ("experiment", split, "network")
    if failures:
        header = (*where, "step", "error")
        caption = "Networks whose training stopped with an error; they take part in no mean."
        items.append(Table(header, tuple(failures), caption, words=frozenset({0, 1, 2, 4})))
    if missing:
        caption = f"Planned networks that have not finished: {len(missing)}."
        items.append(Table(where, tuple(missing), caption, frozenset({0, 1, 2}), len(missing) > 20))
    header = (*where, "treatment", "n", "top-1, best (%)")
    header += ("top-1, end (%)", "steps", "time", "images/s", "hash")
    texts = tuple(_texts(row) for row in sorted(rows, key=_order))
    if texts:
        caption = (
            f"All {len(rows)} networks. Best: mean of the best evaluations, which the figures "
            "show; end: accuracy at the end of training."
        )
        words = frozenset({0, 1, 2, 3, 10})
        items.append(Table(header, texts, caption, words, folded=len(rows) > 40))
    return Section("Every network", (), tuple(items))


def _texts(row: Row) -> tuple[str, ...]:
    speed, seconds = row.images_per_second, row.seconds
    return (
        row.experiment,
        row.split,
        row.cell,
        SYMBOLS[row.treatment],
        str(row.n),
        "failed" if row.failed else percent(row.top1_best_mean, 2),
        percent(row.top1, 2),
        "" if row.steps is None else f"{row.steps:,}",
        "" if seconds is None else duration(seconds),
        "" if speed is None else f"{speed:,.0f}",
        row.hash[:12],
    )


def _order(row: Row):
    split = (0, int(row.split), "") if row.split.isdigit() else (1, 0, row.split)
    treatments: Mapping[str, int] = {name: index for index, name in enumerate(SYMBOLS)}
    return row.experiment, split, row.target, treatments[row.treatment], row.n
