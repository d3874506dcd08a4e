"""What Zeiler & Fergus 2013 claim of networks and their parts, decided by our own errors."""

from __future__ import annotations

import re

from transfer_jax.report.claims import ABSENT, Claim, decide_all
from transfer_jax.report.statistics import MINUS, percent
from transfer_jax.report.zeiler2013_feature_claims import feature_claims
from transfer_jax.report.zeiler2013_files import Analysis
from transfer_jax.report.zeiler2013_numbers import (
    ensemble_gain,
    error_contrast,
    seed_spread,
    verdict_of_bound,
    verdict_of_gain,
)
from transfer_jax.report.zeiler2013_tables import VARIANTS

LITTLE = 0.10
"""A cost below this share of the base's accuracy is little (the paper's: at most 8 %)."""

SLIGHT = 0.05
"""A change below this share of the base's accuracy is slight (the paper's: at most 3 %)."""


def claims(analysis: Analysis) -> tuple[Claim, ...]:
    """Tests the fifteen claims, in the order of the paper's sections."""
    return (
        _smaller_first_layer(analysis),
        _averaging(analysis),
        _removal(analysis, 3, "Removing fully connected layers (7; 6 and 7) costs little.",
                 ("without_7", "without_6_7")),
        _removal(analysis, 4, "Removing convolutional layers 3 and 4 costs relatively little.",
                 ("without_3_4",)),
        _depth(analysis),
        _fc_sizes(analysis),
        _wider(analysis),
        *feature_claims(analysis),
    )  # fmt: skip


def _smaller_first_layer(analysis: Analysis) -> Claim:
    claim = "A smaller, denser first layer (zfnet) beats alexnet (38.4 against 40.5 % top-1 error)."
    rule = (
        f"Reproduced if top-1 error of alexnet {MINUS} zfnet is a gain beyond 2 standard errors; "
        "not tested if it lies within them and they exceed the paper's 2.1 points."
    )
    ours, theirs = analysis.network("zfnet"), analysis.network("alexnet")
    if not ours or not theirs:
        return Claim(1, claim, ABSENT, rule, "not tested")
    gain = error_contrast(((1, theirs), (-1, ours)), seed_spread(analysis))
    finding = (
        f"zfnet {percent(ours.val_top1_error)} %, alexnet {percent(theirs.val_top1_error)} %: "
        f"{gain} points."
    )
    return Claim(1, claim, finding, rule, verdict_of_gain(gain, 0.021))


def _averaging(analysis: Analysis) -> Claim:
    claim = "Averaging the probabilities of several networks beats one (36.7 against 38.4 %)."
    rule = (
        f"Reproduced if mean top-1 error of the single zfnets {MINUS} that of the largest ensemble "
        "of them is a gain beyond 2 standard errors; not tested if it lies within them and they "
        "exceed the paper's 1.7 points."
    )
    pure = [e for e in analysis.ensembles if re.fullmatch(r"zfnet x \d+", e.name) and e.members > 1]
    largest = max(pure, key=lambda e: e.members, default=None)
    gain = largest and ensemble_gain(analysis, largest)
    if not gain:
        return Claim(2, claim, ABSENT, rule, "not tested")
    finding = (
        f"{largest.members} networks together: {percent(largest.val_top1_error)} %, "
        f"{percent(largest.val_top1_error + gain.value)} % alone on average: {gain} points."
    )
    return Claim(2, claim, finding, rule, verdict_of_gain(gain, 0.017))


def _costs(analysis: Analysis, architecture: str, variants):
    """Variant -> change of the top-1 error against the architecture's base, and that base."""
    base = analysis.network(architecture)
    found = {}
    for variant in variants:
        network = analysis.network(f"{architecture} {variant}")
        if base and network:
            found[variant] = error_contrast(((1, network), (-1, base)), seed_spread(analysis))
    return base, found


def _listed(costs, architecture="alexnet") -> str:
    words = (f"{VARIANTS[variant]} {cost}" for variant, cost in costs.items())
    return f"Change of the top-1 error of {architecture} (points): " + ", ".join(words) + "."


def _removal(analysis: Analysis, number: int, claim: str, variants) -> Claim:
    rule = (
        f"Reproduced if the top-1 error rises by less than {LITTLE:.0%} of the base's accuracy, "
        "not reproduced if by more, each by more than 2 standard errors; in between not tested."
    )
    base, costs = _costs(analysis, "alexnet", variants)
    if not costs:
        return Claim(number, claim, ABSENT, rule, "not tested")
    bound = LITTLE * (1 - base.val_top1_error)
    finding = f"{_listed(costs)} The bound is {percent(bound)} points."
    verdict = decide_all(verdict_of_bound(cost, bound) for cost in costs.values())
    missing = [VARIANTS[variant] for variant in variants if variant not in costs]
    if missing and verdict == "reproduced":
        finding, verdict = (
            f"{finding} Not run: {', '.join(missing)}.",
            "not tested",
        )
    return Claim(number, claim, finding, rule, verdict)


def _depth(analysis: Analysis) -> Claim:
    claim = "Removing both (3, 4, 6, 7) is much worse: depth matters (71.3 against 40.5 %)."
    rule = (
        "Reproduced if the top-1 error rises by more than the rises without 3 and 4 and without "
        "6 and 7 together, beyond 2 standard errors; not tested if it lies within them and they "
        "exceed the paper's 21.6 points."
    )
    variants = ("without_3_4", "without_6_7", "without_3_4_6_7")
    base, costs = _costs(analysis, "alexnet", variants)
    if len(costs) < 3:
        return Claim(5, claim, ABSENT, rule, "not tested")
    low, high, both = (analysis.network(f"alexnet {variant}") for variant in variants)
    terms = ((1, both), (-1, low), (-1, high), (1, base))
    excess = error_contrast(terms, seed_spread(analysis))
    finding = f"{_listed(costs)} More than both together: {excess} points."
    return Claim(5, claim, finding, rule, verdict_of_gain(excess, 0.216))


def _fc_sizes(analysis: Analysis) -> Claim:
    claim = "Changing the size of layers 6 and 7 makes little difference."
    rule = (
        f"Reproduced if halving and doubling them change the top-1 error by less than {SLIGHT:.0%} "
        "of the base's accuracy, not reproduced if by more, each by more than 2 standard errors; "
        "in between not tested."
    )
    verdicts, findings = [], []
    for architecture in ("alexnet", "zfnet"):
        base, costs = _costs(analysis, architecture, ("fc_half", "fc_double"))
        if costs:
            bound = SLIGHT * (1 - base.val_top1_error)
            sizes = [cost if cost.value >= 0 else -cost for cost in costs.values()]
            verdicts += [verdict_of_bound(size, bound) for size in sizes]
            findings.append(f"{_listed(costs, architecture)} The bound is {percent(bound)} points.")
    if not verdicts:
        return Claim(6, claim, ABSENT, rule, "not tested")
    return Claim(6, claim, " ".join(findings), rule, decide_all(verdicts))


def _wider(analysis: Analysis) -> Claim:
    claim = "Wider middle layers (conv3 to conv5) help (37.5 against 38.4 %)."
    rule = (
        f"Reproduced if top-1 error of zfnet {MINUS} the wide one is a gain beyond 2 standard "
        "errors; not tested if it lies within them and they exceed the paper's 0.9 points."
    )
    _, costs = _costs(analysis, "zfnet", ("conv345_wide",))
    if not costs:
        return Claim(7, claim, ABSENT, rule, "not tested")
    gain = -costs["conv345_wide"]
    finding = f"Top-1 error of zfnet {MINUS} that of the wide one: {gain} points."
    return Claim(7, claim, finding, rule, verdict_of_gain(gain, 0.009))
