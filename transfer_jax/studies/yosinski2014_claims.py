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


def effect(results: Results, treated: str, reference: str, **where) -> Effect:
    """Top-1 of one treatment minus that of another, of the same split, seed, target and n (bases
    have none), averaged over n; `where` are ns and experiment of `networks`."""
    sides = [networks(results, side, **where) for side in (treated, reference)]
    whole = {"base", "long"} & {treated, reference}
    return paired(results, *sides, on=(*UNIT, "target", *(() if whole else ("n",))), cluster=UNIT)


def over_layers(results: Results, treatment: str, upper, lower, **where) -> Effect:
    """Top-1 of a treatment at some n minus at others, of the same split, seed and target."""
    sides = [networks(results, treatment, ns, **where) for ns in (upper, lower)]
    return paired(results, *sides, on=(*UNIT, "target"), cluster=UNIT)


def at(results: Results, treatment: str, **where) -> str:
    """' at n = 6, 7': those of some n at which a treatment was run; '' where it was at none."""
    run = sorted(set(networks(results, treatment, **where)["n"]))
    return f" at n = {', '.join(f'{n:g}' for n in run)}" if run else ""


def named(results: Results, treated: str, reference: str, **where) -> tuple[Effect, str]:
    """`effect`, and what it is called."""
    names = {**NAMES, "long": "long base"}
    name = f"{names[treated]} {MINUS} {names[reference]}{at(results, treated, **where)}"
    return effect(results, treated, reference, **where), name


def gains(results: Results, treatment: str, ns: Sequence[int] = LAYERS) -> pd.DataFrame:
    """Top-1 of each network minus that of the base of its own half, and minus the mean base, by
    split."""
    treated, bases = networks(results, treatment, ns), networks(results, "base")
    both = treated.merge(bases, on=[*UNIT, "target"], suffixes=("", "_base"))
    own = both["value"] - both["value_base"]
    of_mean = both["value"] - bases["value"].mean()
    return pd.DataFrame({"own base": own, "mean base": of_mean}).set_index(both["split"])


def lower_layers_transfer(results: Results) -> Verdict:
    """conv1 and conv2 transfer almost perfectly: at n = 1, 2 AnB stays within 1 point of BnB, and
    loses no more than 1 against a converged base."""
    (same_surgery, same), (total, whole) = (
        named(results, "transfer_frozen", reference, ns=(1, 2))
        for reference in ("selffer_frozen", "base")
    )
    loss = total.above(-MARGIN, whole)
    return all_of(
        same_surgery.within(MARGIN, same),
        loss.supposing(converged(results), "bases are still learning, or may be"),
    )


def selffer_dips(results: Results) -> Verdict:
    """BnB dips in the middle, where co-adapted layers are parted: at n = 3 to 6 it lies more than 1
    point below n = 1, 2, 7, and below n = 7 alone."""
    middle, kind = (3, 4, 5, 6), "selffer_frozen"
    dip = f"BnB{at(results, kind, ns=middle)} {MINUS}"
    return all_of(
        *(
            over_layers(results, kind, middle, ns).below(-MARGIN, dip + at(results, kind, ns=ns))
            for ns in ((1, 2, 7), (7,))
        )
    )


def finetuned_selffer_recovers(results: Results) -> Verdict:
    """BnB+ recovers: over all n it loses no more than 1 point against a base that trained as long
    (a gain is no loss)."""
    gain, name = named(results, "selffer_finetuned", "long")
    return gain.above(-MARGIN, name)


def upper_layers_are_specific(results: Results) -> Verdict:
    """Upper layers are specific to their task: at n = 6, 7 AnB falls more than 1 point below
    BnB."""
    gain, name = named(results, "transfer_frozen", "selffer_frozen", ns=(6, 7))
    return gain.below(-MARGIN, name)


def transfer_boosts(results: Results) -> Verdict:
    """AnB+ is boosted: over all n it gains more than 1 point on BnB+, and on a base that trained as
    long."""
    references = ("selffer_finetuned", "long")
    found = (named(results, "transfer_finetuned", reference) for reference in references)
    return all_of(*(gain.above(MARGIN, name) for gain, name in found))


def distance_matters(results: Results) -> Verdict:
    """The loss grows faster between dissimilar tasks: from n = 1, 2 to n = 6, 7 AnB falls by more
    than 1 point more between man-made and natural than between random halves, at those of these n
    that both were run at."""
    kind, both = "transfer_frozen", ("man_natural", "random_halves")
    run = [set(networks(results, kind, experiment=experiment)["n"]) for experiment in both]
    upper, lower = (sorted(set(ns).intersection(*run)) for ns in ((6, 7), (1, 2)))
    far, near = (over_layers(results, kind, upper, lower, experiment=name) for name in both)
    return (far - near).below(-MARGIN, f"fall of AnB, dissimilar {MINUS} similar")


def distant_beats_random(results: Results) -> Verdict:
    """Features of a distant task beat random ones: over all n AnB between man-made and natural
    exceeds RnB on the same task by more than 1 point."""
    lead, name = named(results, "transfer_frozen", "random_frozen", experiment="man_natural")
    return lead.above(MARGIN, name)


CLAIMS = tuple(
    Claim(" ".join(test.__doc__.split()), test, paper)
    for test, paper in (
        (lower_layers_transfer, "+0.1 both"),
        (selffer_dips, f"{MINUS}1.5, {MINUS}1.4 (all these n)"),
        (finetuned_selffer_recovers, "+1.0 against own bases of half the steps"),
        (upper_layers_are_specific, f"{MINUS}6.1 (n = 6 and 7; at 7 {MINUS}8.2)"),
        (transfer_boosts, "+1.0 against own bases of half the steps; published as +1.6 against "
         "the mean base"),
        (distance_matters, f"{MINUS}14.0 (eight networks, one unit)"),
        (distant_beats_random, ""),
    )
)  # fmt: skip
"""Each is stated by the docstring of its test; the paper's figures are from the authors' logs."""
