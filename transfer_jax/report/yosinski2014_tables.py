"""The tables of Yosinski et al. 2014: the drop split in two, and Table 1."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transfer_jax.report import analysis, tables
from transfer_jax.report.results import SYMBOLS, Row
from transfer_jax.report.statistics import MINUS, layers, percent, points
from transfer_jax.report.tables import Table


def drop_tables(cells: analysis.Grid, num_eval: Mapping[str, int]) -> tuple[Table, ...]:
    """Plain means by treatment and n, then each drop in its two parts; empty without networks."""
    plain = analysis.means(cells)
    if not plain:
        return ()
    ns = sorted({n for _, n in plain})
    rows = tuple(
        (SYMBOLS[treatment], *(percent(plain.get((treatment, n)), 2) for n in ns))
        for treatment in SYMBOLS
        if any((treatment, n) in plain for n in ns)
    )
    caption = (
        "Mean top-1 (%) over splits and directions, by n. Bases of tasks that nothing was "
        "transferred to are left out."
    )
    means = Table(("n", *(str(n) if n else "base" for n in ns)), rows, caption)
    header = ("n", f"co-adaptation (base {MINUS} BnB)", f"specificity (BnB {MINUS} AnB)")
    header += (f"total (base {MINUS} AnB)", "pairs")
    drops = analysis.drops(cells, num_eval)
    rows = tuple(
        (
            str(drop.n),
            *("" if e is None else str(e) for e in _parts(drop)),
            str(max(e.units for e in _parts(drop) if e is not None)),
        )
        for drop in drops
        if any(e is not None for e in _parts(drop))
    )
    caption = (
        "Points of top-1 lost, ± one standard error. Each difference is taken between networks "
        "of the same split and target and then averaged (pairs: how many); where there are any, "
        "only targets with base, BnB and AnB count, so that the two parts add up to the total."
    )
    return (means, Table(header, rows, caption)) if rows else (means,)


def _parts(drop):
    return drop.coadaptation, drop.specificity, drop.total


def write_drops(path, cells: analysis.Grid, num_eval: Mapping[str, int]) -> None:
    """Writes drop.csv: by n, the means, then each part's value, standard error, pairs, and the
    plain difference of means (fractions)."""
    header = ["n", "base_mean", "selffer_mean", "transfer_mean"]
    for part in ("coadaptation", "specificity", "total"):
        header += [part, f"{part}_se", f"{part}_pairs", f"{part}_of_means"]
    rows = []
    for drop in analysis.drops(cells, num_eval):
        base, selffer, transfer = drop.means
        of_means = (_minus(base, selffer), _minus(selffer, transfer), _minus(base, transfer))
        row = [drop.n, *drop.means]
        for e, plain in zip(_parts(drop), of_means, strict=True):
            row += [e.value, e.error, e.units, plain] if e else [None, None, None, plain]
        rows.append(row)
    tables.write_csv(path, header, rows)


def _minus(a, b):
    return None if a is None or b is None else a - b


def table1(cells: analysis.Grid, num_eval: Mapping[str, int], theirs: Sequence[Row]) -> Table:
    """Table 1, with the paper's columns where `theirs` holds its rows."""
    paper = analysis.boosts(analysis.grid(theirs, "random_halves"), {})
    header = ("layers kept", "run", f"AnB+ {MINUS} own base", "networks")
    header += (f"AnB+ {MINUS} mean base", f"AnB+ {MINUS} mean BnB+")
    header += (f"paper: AnB+ {MINUS} mean base", f"paper: AnB+ {MINUS} mean BnB+") if theirs else ()

    def text(value):
        return "" if value is None else points(value)

    rows = []
    for ours, published in zip(analysis.boosts(cells, num_eval), paper, strict=True):
        row = [f"{ours.first} to {ours.last}", layers(ours.ns) if ours.ns else "not run"]
        count = ours.paired.networks if ours.paired else 0
        row += [str(ours.paired) if ours.paired else "", str(count) if count else ""]
        row += [text(ours.pooled), text(ours.pooled_over_selffer)]
        if theirs:
            row += [text(published.pooled), text(published.pooled_over_selffer)]
        rows.append(tuple(row))
    caption = (
        "Boost in points, averaged over ranges of layers. Own base: each AnB+ minus the base of "
        "its own split and target, ± one standard error (networks: AnB+ and bases that take "
        "part). Mean base, mean BnB+: difference of plain means, as the paper computed its "
        "table; where targets are of unequal difficulty and unequally covered, only the first "
        "is fair."
    )
    if theirs:
        caption += (
            " The paper's columns are computed from its published logs; it prints 1.6 over "
            "layers 1 to 7 and 2.1 where at least five layers are kept."
        )
    return Table(header, tuple(rows), caption, words=frozenset({0, 1}))


def write_table1(path, cells: analysis.Grid, num_eval, theirs: Sequence[Row]) -> None:
    """Writes table1.csv (fractions); the published columns are empty without `theirs`."""
    header = ["layers", "n_run", "boost_over_own_base", "se", "splits_and_targets"]
    header += ["boost_over_mean_base", "boost_over_mean_selffer"]
    header += ["published_over_mean_base", "published_over_mean_selffer"]
    paper = analysis.boosts(analysis.grid(theirs, "random_halves"), {})
    rows = []
    for ours, published in zip(analysis.boosts(cells, num_eval), paper, strict=True):
        e = ours.paired
        rows.append(
            [f"{ours.first}-{ours.last}", " ".join(map(str, ours.ns))]
            + ([e.value, e.error, e.units] if e else [None, None, None])
            + [ours.pooled, ours.pooled_over_selffer]
            + [published.pooled, published.pooled_over_selffer]
        )
    tables.write_csv(path, header, rows)
