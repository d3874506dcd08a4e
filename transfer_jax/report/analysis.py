"""From rows to the numbers of a transfer grid: paired differences, drops, boosts, means."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from transfer_jax.report.results import SYMBOLS, Row
from transfer_jax.report.statistics import Contrast, Estimate, estimate, mean, points

Unit = tuple[str, str]
"""(split, target): networks trained towards the same task, so their accuracies compare."""

Grid = Mapping[Unit, Mapping[tuple[str, int], Row]]
"""Unit -> (treatment, n) -> network."""

LAYER_RANGES = ((1, 7), (3, 7), (5, 7))
"""The layer ranges of the paper's Table 1."""


def grid(rows: Iterable[Row], experiment: str) -> dict[Unit, dict[tuple[str, int], Row]]:
    """Sorts an experiment's finished networks by (split, target), then by (treatment, n).

    A3B and B3A thereby become the same treatment towards two targets. A unit whose base was
    trained in another experiment on the same split and target borrows that base. Bases from files
    are left out: they are of tasks that nothing here is trained on.
    """
    rows = [row for row in rows if row.finished and row.treatment != "imported"]
    units: dict[Unit, dict[tuple[str, int], Row]] = {}
    for row in rows:
        if row.experiment == experiment:
            units.setdefault((row.split, row.target), {})[row.treatment, row.n] = row
    for row in rows:
        unit = (row.split, row.target)
        if row.treatment == "base" and row.experiment != "images_per_class" and unit in units:
            units[unit].setdefault(("base", 0), row)
    return dict(sorted(units.items(), key=lambda item: _natural(item[0])))


def treated(cells: Grid) -> dict[Unit, Mapping[tuple[str, int], Row]]:
    """The units that hold more than a base: the targets that were transferred to."""
    return {
        unit: networks
        for unit, networks in cells.items()
        if any(treatment != "base" for treatment, _ in networks)
    }


def ns_of(cells: Grid, *treatments: str) -> list[int]:
    """The n at which at least one unit holds all of the treatments (bases count at every n)."""
    wanted = [treatment for treatment in treatments if treatment != "base"]
    return sorted(
        {
            n
            for networks in cells.values()
            if "base" not in treatments or ("base", 0) in networks
            for _, n in networks
            if n and all((treatment, n) in networks for treatment in wanted)
        }
    )


def compare(
    cells: Grid,
    plus: str,
    minus: str,
    ns: Iterable[int],
    num_eval: Mapping[str, int],
) -> Estimate | None:
    """Mean of (plus - minus) over all pairs with the same split, target and n.

    Args:
      cells: what `grid` returned.
      plus, minus: treatments; 'base' stands for the unit's own base at every n.
      ns: layers to average over; those a unit lacks are left out.
      num_eval: hash -> number of validation images.

    Returns:
      The difference as a fraction, every pair counting alike; None where there is no pair.
    """
    contrasts = []
    for networks in cells.values():
        pairs = [
            (networks[_at(plus, n)], networks[_at(minus, n)])
            for n in ns
            if _at(plus, n) in networks and _at(minus, n) in networks
        ]
        if pairs:
            share = 1 / len(pairs)
            terms = [term for a, b in pairs for term in ((share, a), (-share, b))]
            contrasts.append(Contrast(tuple(terms), weight=len(pairs)))
    return estimate(contrasts, num_eval)


def compare_layers(
    cells: Grid,
    treatment: str,
    plus: Iterable[int],
    minus: Iterable[int],
    num_eval: Mapping[str, int],
) -> Estimate | None:
    """One treatment's mean accuracy over the layers `plus`, minus that over the layers `minus`."""
    contrasts = []
    for networks in cells.values():
        above = [networks[treatment, n] for n in plus if (treatment, n) in networks]
        below = [networks[treatment, n] for n in minus if (treatment, n) in networks]
        if above and below:
            terms = [(1 / len(above), row) for row in above]
            terms += [(-1 / len(below), row) for row in below]
            contrasts.append(Contrast(tuple(terms)))
    return estimate(contrasts, num_eval)


def means(cells: Grid) -> dict[tuple[str, int], float]:
    """(treatment, n) -> plain mean accuracy over splits and directions.

    Bases count only where something was transferred to their task.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for networks in treated(cells).values():
        for key, row in networks.items():
            found.setdefault(key, []).append(row.accuracy)
    return {key: mean(values) for key, values in sorted(found.items())}


@dataclasses.dataclass(frozen=True)
class Drop:
    """How far AnB falls below base at one n, in two parts (fractions, positive = a loss).

    coadaptation + specificity = total wherever one (split, target) holds all three networks;
    only such units are averaged if there are any. `means` holds the plain means
    (base, BnB, AnB), None where a treatment is absent.
    """

    n: int
    means: tuple[float | None, float | None, float | None]
    coadaptation: Estimate | None
    specificity: Estimate | None
    total: Estimate | None


def drops(cells: Grid, num_eval: Mapping[str, int]) -> list[Drop]:
    """Splits each drop into co-adaptation (base - BnB) and specificity (BnB - AnB), by n."""
    parts = ("base", "selffer_frozen", "transfer_frozen")
    plain = means(cells)
    table = []
    for n in sorted({n for treatment, n in plain if treatment in parts and n}):
        complete = {
            unit: networks
            for unit, networks in cells.items()
            if all(_at(part, n) in networks for part in parts)
        }
        used = complete or cells
        table.append(
            Drop(
                n,
                tuple(plain.get(_at(part, n)) for part in parts),
                compare(used, "base", "selffer_frozen", [n], num_eval),
                compare(used, "selffer_frozen", "transfer_frozen", [n], num_eval),
                compare(used, "base", "transfer_frozen", [n], num_eval),
            )
        )
    return table


@dataclasses.dataclass(frozen=True)
class Boost:
    """What AnB+ gains over base, averaged over the layers of one range (Table 1).

    Attributes:
      first, last: the range. ns: the layers of it that were run.
      paired: every AnB+ minus the base of its own split and target.
      pooled: mean of all AnB+ minus mean of all bases, as the paper computed it.
      pooled_over_selffer: mean of all AnB+ minus mean of all BnB+, likewise.
    """

    first: int
    last: int
    ns: tuple[int, ...]
    paired: Estimate | None
    pooled: float | None
    pooled_over_selffer: float | None


def boosts(cells: Grid, num_eval: Mapping[str, int]) -> list[Boost]:
    """The rows of Table 1, one per layer range of the paper."""
    targets = treated(cells)

    def pool(treatment, first, last):
        return mean(
            row.accuracy
            for networks in targets.values()
            for (name, n), row in networks.items()
            if name == treatment and first <= n <= last
        )

    def minus(a, b):
        return None if a is None or b is None else a - b

    table = []
    for first, last in LAYER_RANGES:
        ns = [n for n in ns_of(cells, "transfer_finetuned") if first <= n <= last]
        boosted = pool("transfer_finetuned", first, last)
        table.append(
            Boost(
                first,
                last,
                tuple(ns),
                compare(cells, "transfer_finetuned", "base", ns, num_eval),
                minus(boosted, pool("base", 0, 0)),
                minus(boosted, pool("selffer_finetuned", first, last)),
            )
        )
    return table


def interpretations(cells: Grid, num_eval: Mapping[str, int]) -> dict[str, str]:
    """Treatment -> what its line in Figure 2 shows, numbered as in the paper's section 4.1.

    The words follow from the numbers: an effect is named only where it exceeds the noise.
    """
    base = means(cells).get(("base", 0))
    texts = {}
    if base is not None:
        texts["base"] = f"1  base: {100 * base:.1f} % top-1"
    deepest = _lowest(cells, "selffer_frozen", num_eval)
    if deepest:
        n, effect = deepest
        name = "co-adaptation lost" if effect.is_drop else "no dip beyond noise"
        texts["selffer_frozen"] = f"2  BnB: {name}\n    {effect} at n = {n}"
    recovered = _over_all(cells, "selffer_finetuned", "base", num_eval)
    if recovered:
        name = "stays below base" if recovered.is_drop else "recovers to base"
        name = "exceeds base" if recovered.is_gain else name
        texts["selffer_finetuned"] = (
            f"3  BnB+: {name}\n    {recovered}, {_where(cells, 'selffer_finetuned')}"
        )
    control = "selffer_frozen" if ns_of(cells, "selffer_frozen", "transfer_frozen") else "base"
    ns = ns_of(cells, control, "transfer_frozen")
    if ns:
        effect = compare(cells, "transfer_frozen", control, ns[-1:], num_eval)
        name = "specificity" if control == "selffer_frozen" else "drop"
        name = name if effect.is_drop else f"no {name} beyond noise"
        against = SYMBOLS[control]
        texts["transfer_frozen"] = f"4  AnB: {name}\n    {effect} against {against}, n = {ns[-1]}"
    boost = _over_all(cells, "transfer_finetuned", "base", num_eval)
    if boost:
        name = "fine-tuning boost" if boost.is_gain else "no boost beyond noise"
        name = "below base" if boost.is_drop else name
        texts["transfer_finetuned"] = (
            f"5  AnB+: {name}\n    {boost}, {_where(cells, 'transfer_finetuned')}"
        )
    return texts


def relative(drop: Estimate, base: float) -> str:
    """A drop as percent of the accuracy it starts from."""
    return f"{points(drop.value / base)} %"


def _lowest(cells, treatment, num_eval):
    found = [
        (n, compare(cells, treatment, "base", [n], num_eval))
        for n in ns_of(cells, treatment, "base")
    ]
    return min(found, key=lambda item: item[1].value, default=None)


def _over_all(cells, plus, minus, num_eval):
    return compare(cells, plus, minus, ns_of(cells, plus, minus), num_eval)


def _where(cells, treatment):
    ns = ns_of(cells, treatment, "base")
    return "mean over n" if len(ns) > 1 else f"at n = {ns[0]}"


def _at(treatment: str, n: int) -> tuple[str, int]:
    return (treatment, 0 if treatment == "base" else n)


def _natural(unit: Unit):
    split, target = unit
    return (0, int(split), "", target) if split.isdigit() else (1, 0, split, target)
