"""The seven claims of Yosinski et al. 2014, each decided by our own numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from transfer_jax.report.analysis import compare, compare_layers, grid, means, ns_of, relative
from transfer_jax.report.claims import Claim, decide
from transfer_jax.report.results import Row
from transfer_jax.report.statistics import MINUS, layers

SMALL = 0.02
"""A loss below this share of the base's accuracy is called small."""

BLURRED = 0.10
"""Noise (2 standard errors) above this share of the base hides what a claim of no loss is about."""

ABSENT = "The networks that this needs are not in the store."


def claims(rows: Iterable[Row], num_eval: Mapping[str, int] | None = None) -> tuple[Claim, ...]:
    """Tests the paper's claims.

    Args:
      rows: all rows of results.csv.
      num_eval: hash -> number of validation images, where known.

    Returns:
      The seven claims in the paper's order.
    """
    rows, num_eval = tuple(rows), num_eval or {}
    similar = grid(rows, "random_halves")
    distant = grid(rows, "man_natural")
    random = grid(rows, "random_weights")
    return (
        _lower_layers_transfer(similar, num_eval),
        _selffer_dips(similar, num_eval),
        _finetuned_selffer_recovers(similar, num_eval),
        _specificity(similar, num_eval),
        _boost(similar, num_eval),
        _distance(similar, distant, num_eval),
        _better_than_random(distant, random, num_eval),
    )


def _within_noise(difference):
    """A closing sentence where an effect is neither a gain nor a drop."""
    return "" if difference.is_gain or difference.is_drop else " This is within the noise."


def _no_loss(difference, base):
    """(holds, decidable) of a claim that a difference is no loss worth the name."""
    if difference.is_drop and -difference.value > SMALL * base:
        return False, True
    return True, difference.threshold <= BLURRED * base


def _lower_layers_transfer(cells, num_eval):
    claim = "The first two layers transfer almost perfectly."
    rule = (
        f"Reproduced if AnB {MINUS} base at n = 1 and at n = 2 is no drop beyond 2 standard "
        f"errors, or one of less than {SMALL:.0%} of the base's accuracy. Not tested if 2 "
        f"standard errors exceed {BLURRED:.0%} of it."
    )
    ns = [n for n in ns_of(cells, "transfer_frozen", "base") if n <= 2]
    if not ns:
        return Claim(1, claim, ABSENT, rule, "not tested")
    base = means(cells)["base", 0]
    found = {n: compare(cells, "transfer_frozen", "base", [n], num_eval) for n in ns}
    checks = [_no_loss(difference, base) for difference in found.values()]
    finding = f"AnB {MINUS} base: " + ", ".join(
        f"{difference} points at n = {n}" for n, difference in found.items()
    )
    finding += "." if len(ns) == 2 else f" (the only one of the two that was run: n = {ns[0]})."
    if not all(holds for holds, _ in checks):
        return Claim(1, claim, finding, rule, "not reproduced")
    if not all(decidable for _, decidable in checks):
        return Claim(1, claim, finding + " Too noisy to tell.", rule, "not tested")
    return Claim(1, claim, finding, rule, "reproduced")


def _selffer_dips(cells, num_eval):
    claim = "BnB dips in the middle (n = 3 to 6): layers were co-adapted in a fragile way."
    rule = (
        f"Reproduced if BnB {MINUS} base, averaged over n = 3 to 6, is a drop beyond 2 standard "
        "errors, and BnB is there lower than at n = 1, 2, 7 by more than 2 standard errors."
    )
    run = ns_of(cells, "selffer_frozen", "base")
    middle = [n for n in run if 3 <= n <= 6]
    ends = [n for n in run if n not in middle]
    if not middle or not ends:
        return Claim(2, claim, ABSENT, rule, "not tested")
    dip = compare(cells, "selffer_frozen", "base", middle, num_eval)
    shape = compare_layers(cells, "selffer_frozen", middle, ends, num_eval)
    if shape is None:
        return Claim(2, claim, ABSENT, rule, "not tested")
    finding = (
        f"BnB {MINUS} base over {layers(middle)}: {dip} points; against BnB at {layers(ends)}: "
        f"{shape} points.{_within_noise(dip)}"
    )
    return Claim(2, claim, finding, rule, decide(dip.is_drop and shape.is_drop))


def _finetuned_selffer_recovers(cells, num_eval):
    claim = "BnB+ recovers to the base: fine-tuning prevents the dip."
    rule = (
        f"Reproduced if BnB+ {MINUS} base, averaged over all n, is no drop beyond 2 standard "
        f"errors, or one of less than {SMALL:.0%} of the base's accuracy. Not tested if 2 "
        f"standard errors exceed {BLURRED:.0%} of it."
    )
    ns = ns_of(cells, "selffer_finetuned", "base")
    if not ns:
        return Claim(3, claim, ABSENT, rule, "not tested")
    difference = compare(cells, "selffer_finetuned", "base", ns, num_eval)
    holds, decidable = _no_loss(difference, means(cells)["base", 0])
    finding = f"BnB+ {MINUS} base over {layers(ns)}: {difference} points."
    shared = ns_of(cells, "selffer_finetuned", "selffer_frozen")
    if shared:
        rescued = compare(cells, "selffer_finetuned", "selffer_frozen", shared, num_eval)
        finding += f" Against BnB over {layers(shared)}: {rescued} points."
    if holds and not decidable:
        return Claim(3, claim, finding + " Too noisy to tell.", rule, "not tested")
    return Claim(3, claim, finding, rule, decide(holds))


def _specificity(cells, num_eval):
    claim = "At n = 6 and 7 AnB falls further than BnB: the upper layers are specific to a task."
    rule = (
        f"Reproduced if AnB {MINUS} BnB, averaged over n = 6 and 7, is a drop beyond 2 standard "
        "errors."
    )
    shared = ns_of(cells, "selffer_frozen", "transfer_frozen")
    upper = [n for n in shared if n >= 6]
    if not upper:
        return Claim(4, claim, ABSENT, rule, "not tested")
    difference = compare(cells, "transfer_frozen", "selffer_frozen", upper, num_eval)
    finding = f"AnB {MINUS} BnB over {layers(upper)}: {difference} points"
    lower = [n for n in shared if 3 <= n <= 5]
    if lower:
        below = compare(cells, "transfer_frozen", "selffer_frozen", lower, num_eval)
        finding += f"; over {layers(lower)}: {below} points"
    return Claim(
        4, claim, f"{finding}.{_within_noise(difference)}", rule, decide(difference.is_drop)
    )


def _boost(cells, num_eval):
    claim = "AnB+ beats the base at every n: a boost that fine-tuning does not wash out."
    rule = (
        f"Reproduced if AnB+ {MINUS} base, averaged over all n, is a gain beyond 2 standard "
        "errors, and at no n a drop beyond 2 standard errors."
    )
    ns = ns_of(cells, "transfer_finetuned", "base")
    if not ns:
        return Claim(5, claim, ABSENT, rule, "not tested")
    overall = compare(cells, "transfer_finetuned", "base", ns, num_eval)
    found = {n: compare(cells, "transfer_finetuned", "base", [n], num_eval) for n in ns}
    worst = min(ns, key=lambda n: found[n].value)
    above = sum(difference.value > 0 for difference in found.values())
    finding = (
        f"AnB+ {MINUS} base over {layers(ns)}: {overall} points; above zero at {above} of "
        f"{len(ns)} n, least at n = {worst} ({found[worst]} points)."
    )
    shared = ns_of(cells, "transfer_finetuned", "selffer_finetuned")
    if shared:
        control = compare(cells, "transfer_finetuned", "selffer_finetuned", shared, num_eval)
        finding += f" Against BnB+, which trained as long: {control} points."
    holds = overall.is_gain and not any(difference.is_drop for difference in found.values())
    return Claim(5, claim, finding + _within_noise(overall), rule, decide(holds))


def _distance(similar, distant, num_eval):
    claim = "The loss grows faster with n between dissimilar tasks (8 against 25 points at n = 7)."
    rule = (
        "Reproduced if at the largest n run in both the loss (base - AnB) between man-made and "
        "natural exceeds that between random halves by more than 2 standard errors, and by more "
        "than at the smallest n run in both."
    ).replace(" - ", f" {MINUS} ")
    ns = sorted(
        set(ns_of(similar, "transfer_frozen", "base"))
        & set(ns_of(distant, "transfer_frozen", "base"))
    )
    if len(ns) < 2:
        return Claim(6, claim, ABSENT, rule, "not tested")
    gaps = []
    for n in (ns[0], ns[-1]):
        near = compare(similar, "base", "transfer_frozen", [n], num_eval)
        far = compare(distant, "base", "transfer_frozen", [n], num_eval)
        gaps.append(far - near)
    near_share = relative(-near, means(similar)["base", 0])
    far_share = relative(-far, means(distant)["base", 0])
    finding = (
        f"Change at n = {ns[-1]}: {-near} points between random halves ({near_share} of the "
        f"base), {-far} between man-made and natural ({far_share}). Loss larger by {gaps[1]} "
        f"points, by {gaps[0]} at n = {ns[0]}."
    )
    holds = gaps[1].is_gain and gaps[1].value > gaps[0].value
    return Claim(6, claim, finding + _within_noise(gaps[1]), rule, decide(holds))


def _better_than_random(distant, random, num_eval):
    claim = "Features from a distant task are better than random ones."
    rule = (
        f"Reproduced if, each against its own base, AnB (man-made/natural) {MINUS} RnB is a gain "
        "beyond 2 standard errors averaged over the n run in both, and at none of them a drop "
        "beyond 2 standard errors."
    )
    ns = sorted(
        set(ns_of(distant, "transfer_frozen", "base")) & set(ns_of(random, "random_frozen", "base"))
    )
    if not ns:
        return Claim(7, claim, ABSENT, rule, "not tested")

    def lead(ns):
        return compare(distant, "transfer_frozen", "base", ns, num_eval) - compare(
            random, "random_frozen", "base", ns, num_eval
        )

    overall, found = lead(ns), {n: lead([n]) for n in ns}
    worst = min(ns, key=lambda n: found[n].value)
    finding = (
        f"Distant features lead random ones by {overall} points over {layers(ns)}, "
        f"least at n = {worst} ({found[worst]} points)."
    )
    holds = overall.is_gain and not any(difference.is_drop for difference in found.values())
    return Claim(7, claim, finding + _within_noise(overall), rule, decide(holds))
