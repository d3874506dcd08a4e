"""The claims of Yosinski et al. 2014 as effects between trainings, and the authors' own numbers."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from transfer_jax.report import (
    MARGIN,
    MINUS,
    Claim,
    Effect,
    Results,
    Verdict,
    all_of,
    converged,
    paired,
    read_published,
)

NAMES = {
    "base": "base",
    "selffer_frozen": "BnB",
    "selffer_finetuned": "BnB+",
    "transfer_frozen": "AnB",
    "transfer_finetuned": "AnB+",
    "random_frozen": "RnB",
}
TREATMENTS = tuple(NAMES)[1:5]
LAYERS = range(1, 8)
UNIT = ("split", "seed")


def published() -> Results:
    """The authors' own networks, from their logs: top-1 as the mean of the 10 best evaluations."""
    frame = read_published("yosinski2014").rename(columns={"top1_best_mean": "value"})
    counts = pd.to_numeric(frame["split"], errors="coerce")
    frame["images_per_class"] = counts.where(frame["experiment"] == "images_per_class")
    more = {"measure": "top1", "condition": "standard", "seed": 0, "right": None, "hash": ""}
    return Results(frame.assign(**more))


def networks(
    results: Results,
    treatment: str,
    ns: Sequence[int] = LAYERS,
    experiment: str = "random_halves",
) -> pd.DataFrame:
    """Rows of top-1; `treatment` is one of `NAMES`, or 'long'."""
    condition = "long" if treatment == "long" else "standard"
    kind, ns = ("base", [0]) if treatment in ("base", "long") else (treatment, list(ns))
    return results.select(treatment=kind, n=ns, experiment=experiment, condition=condition)


def effect(
    results: Results,
    treated: str,
    reference: str,
    ns: Sequence[int] = LAYERS,
    experiment: str = "random_halves",
) -> Effect:
    """Top-1 of one treatment minus that of another, of the same split, seed, target and n (bases
    have none), averaged over n."""
    sides = [networks(results, side, ns, experiment) for side in (treated, reference)]
    whole = {"base", "long"} & {treated, reference}
    return paired(results, *sides, on=(*UNIT, "target", *(() if whole else ("n",))), cluster=UNIT)


def over_layers(
    results: Results,
    treatment: str,
    upper: Sequence[int],
    lower: Sequence[int],
    experiment: str = "random_halves",
) -> Effect:
    """Top-1 of a treatment at some n minus at others, of the same split, seed and target."""
    sides = [networks(results, treatment, ns, experiment) for ns in (upper, lower)]
    return paired(results, *sides, on=(*UNIT, "target"), cluster=UNIT)


def gains(results: Results, treatment: str, ns: Sequence[int] = LAYERS) -> pd.DataFrame:
    """Top-1 of each network minus that of the base of its own half, and minus the mean base."""
    treated, bases = networks(results, treatment, ns), networks(results, "base")
    both = treated.merge(bases, on=[*UNIT, "target"], suffixes=("", "_base"))
    own = both["value"] - both["value_base"]
    return pd.DataFrame({"own base": own, "mean base": both["value"] - bases["value"].mean()})


def lower_layers_transfer(results: Results) -> Verdict:
    """conv1 and conv2 transfer almost perfectly: at n = 1, 2 AnB stays within 1 point of BnB, and
    loses no more than 1 against a converged base."""
    same_surgery = effect(results, "transfer_frozen", "selffer_frozen", (1, 2))
    total = effect(results, "transfer_frozen", "base", (1, 2)).above(-MARGIN, f"AnB {MINUS} base")
    return all_of(
        same_surgery.within(MARGIN, f"AnB {MINUS} BnB"),
        total.supposing(converged(results), "bases are still learning, or may be"),
    )


def selffer_dips(results: Results) -> Verdict:
    """BnB dips in the middle, where co-adapted layers are parted: at n = 3 to 6 it lies more than 1
    point below n = 1, 2, 7, and below n = 7 alone."""
    middle, kind = (3, 4, 5, 6), "selffer_frozen"
    ends, last = (over_layers(results, kind, middle, ns) for ns in ((1, 2, 7), (7,)))
    return all_of(
        ends.below(-MARGIN, f"BnB at n = 3 to 6 {MINUS} at 1, 2, 7"),
        last.below(-MARGIN, f"BnB at n = 3 to 6 {MINUS} at 7"),
    )


def finetuned_selffer_recovers(results: Results) -> Verdict:
    """BnB+ recovers: over all n it loses no more than 1 point against a base that trained as long
    (a gain is no loss)."""
    gain = effect(results, "selffer_finetuned", "long")
    return gain.above(-MARGIN, f"BnB+ {MINUS} long base")


def upper_layers_are_specific(results: Results) -> Verdict:
    """Upper layers are specific to their task: at n = 6, 7 AnB falls more than 1 point below
    BnB."""
    gain = effect(results, "transfer_frozen", "selffer_frozen", (6, 7))
    return gain.below(-MARGIN, f"AnB {MINUS} BnB")


def transfer_boosts(results: Results) -> Verdict:
    """AnB+ is boosted: over all n it gains more than 1 point on BnB+, and on a base that trained as
    long."""
    kind = "transfer_finetuned"
    return all_of(
        effect(results, kind, "selffer_finetuned").above(MARGIN, f"AnB+ {MINUS} BnB+"),
        effect(results, kind, "long").above(MARGIN, f"AnB+ {MINUS} long base"),
    )


def distance_matters(results: Results) -> Verdict:
    """The loss grows faster between dissimilar tasks: from n = 1, 2 to n = 6, 7 AnB falls by more
    than 1 point more between man-made and natural than between random halves."""
    far, near = (
        over_layers(results, "transfer_frozen", (6, 7), (1, 2), experiment)
        for experiment in ("man_natural", "random_halves")
    )
    return (far - near).below(-MARGIN, f"fall of AnB, dissimilar {MINUS} similar")


def distant_beats_random(results: Results) -> Verdict:
    """Features of a distant task beat random ones: over all n AnB between man-made and natural
    exceeds RnB on the same task by more than 1 point."""
    lead = effect(results, "transfer_frozen", "random_frozen", experiment="man_natural")
    return lead.above(MARGIN, f"AnB {MINUS} RnB")


CLAIMS = tuple(
    Claim(number, " ".join(test.__doc__.split()), test, paper)
    for number, (test, paper) in enumerate(
        (
            (lower_layers_transfer, "+0.1 both"),
            (selffer_dips, f"{MINUS}1.5, {MINUS}1.4"),
            (finetuned_selffer_recovers, "+1.0 against bases of half the steps"),
            (upper_layers_are_specific, f"{MINUS}6.1"),
            (transfer_boosts, "+1.6 against bases of half the steps"),
            (distance_matters, f"{MINUS}14.0 (one network)"),
            (distant_beats_random, ""),
        ),
        start=1,
    )
)
"""Each is stated by the docstring of its test; the paper's figures are from the authors' logs."""
