"""Numbers that belong to the figures of Zeiler & Fergus 2013, as tables."""

from __future__ import annotations

import statistics

from transfer_jax.report import zeiler2013_numbers as numbers
from transfer_jax.report.statistics import Estimate, percent
from transfer_jax.report.tables import Table
from transfer_jax.report.zeiler2013_files import Analysis, by_depth


def evolution_table(analysis: Analysis) -> tuple[Table, ...]:
    """Overlap and kernel cosine by epoch and layer."""
    lines = analysis.evolution
    layers, epochs = by_depth(n.layer for n in lines), sorted({n.epoch for n in lines})
    if not lines:
        return ()
    of = {(n.layer, n.epoch): n for n in lines}
    rows = []
    for name, field in (("overlap", "overlap"), ("kernel", "kernel_cosine")):
        for layer in layers:
            values = [getattr(of.get((layer, epoch)), field, None) for epoch in epochs]
            texts = ["" if v is None else f"{v:.2f}" for v in values]
            if any(texts):
                rows.append((name, layer, *texts))
    header = ("measure", "layer", *(f"epoch {epoch:g}" for epoch in epochs))
    caption = (
        "How much of a layer is there already. Overlap: share of the nine strongest images of a "
        "map at the last snapshot that are among its nine strongest at this one, averaged over "
        "maps. Kernel: cosine between the layer's weights and what they are at the last snapshot."
    )
    return (Table(header, tuple(rows), caption, words=frozenset({0, 1})),)


def filters_table(analysis: Analysis) -> tuple[Table, ...]:
    """Dead and dominant filters of each network."""
    rows = tuple(
        (
            line.network,
            line.layer,
            str(line.filters),
            percent(line.dead_share),
            percent(line.strongest_energy_share),
            percent(1 / line.filters),
            percent(line.low_frequency_share),
            percent(line.noise_low_frequency_share),
            percent(line.noise_share),
        )
        for line in analysis.filters
    )
    header = ("network", "layer", "filters", "dead (%)", "strongest filter (%)", "equal share (%)")
    header += ("low frequencies (%)", "of white noise (%)", "like noise (%)")
    caption = (
        "Filters in numbers. Strongest filter: its share of the layer's energy (squared weights), "
        "beside what it would be were all alike. Low frequencies: their share of the energy, "
        "beside that of white noise of the same size; a trained first layer lies well above it. "
        "Like noise: share of filters that cannot be told from white noise."
    )
    return (Table(header, rows, caption, words=frozenset({0, 1})),) if rows else ()


def occlusion_tables(analysis: Analysis) -> tuple[Table, ...]:
    """How often the worst place of the square lies in the object's box, and how deep it falls."""
    if not analysis.occlusion:
        return ()
    groups = (("correctly classified", True), ("all", None))
    rows = []
    for name, correct in groups:
        lines = [n for n in analysis.occlusion if correct is None or n.correct]
        if not lines:
            continue
        result = numbers.inside_box(lines)
        texts = ["", "", "", str(len(lines))]
        if result:
            share, chance, error, count = result
            difference = Estimate(share - chance, error, 1, 1)
            texts = [percent(share), percent(chance), str(difference), str(count)]
        whole = percent(statistics.fmean(n.probability for n in lines))
        lowest = percent(statistics.fmean(n.lowest_probability for n in lines))
        rows.append((name, *texts, whole, lowest))
    header = ("images", "inside the box (%)", "chance (%)", "difference (points)", "number")
    header += ("probability, whole (%)", "lowest (%)")
    caption = (
        "How often the square's worst place (lowest probability of the true class) has its centre "
        "in the object's box; chance is the share of places that have. ±: one binomial standard "
        "error. Then the mean probability of the true class without the square and at its worst."
    )
    return (Table(header, tuple(rows), caption),)


def duplicate_tables(analysis: Analysis, most: int = 200) -> tuple[Table, ...]:
    """Pairs by target, then the list of them, strongest first."""
    if not analysis.duplicates:
        return ()
    rows = []
    for target in dict.fromkeys(n.target for n in analysis.duplicates):
        lines = [n for n in analysis.duplicates if n.target == target]
        sources = {n.source_position for n in lines}
        removed = {n.source_position for n in lines if n.removed}
        low, high = min(n.correlation for n in lines), max(n.correlation for n in lines)
        counts = (len(lines), len(sources), len({n.target_position for n in lines}), len(removed))
        rows.append((target, *map(str, counts), f"{low:.3f} to {high:.3f}"))
    header = ("target", "pairs", "source images", "target images", "removed from the source")
    caption = "Pairs of source and target images whose normalised correlation passes the threshold."
    counts = Table((*header, "correlation"), tuple(rows), caption)
    lines = sorted(analysis.duplicates, key=lambda n: -n.correlation)[:most]
    listed = tuple(
        (n.target, str(n.source_position), str(n.target_position), f"{n.correlation:.4f}",
         "yes" if n.removed else "no")
        for n in lines
    )  # fmt: skip
    header = ("target", "source image", "target image", "correlation", "removed")
    caption = f"The {len(listed)} strongest of {len(analysis.duplicates)} pairs."
    return counts, Table(header, listed, caption, words=frozenset({0, 4}), folded=True)
