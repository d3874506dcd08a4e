"""What Huh et al. 2016 claim of pretraining data, decided by our own networks.

Transfer is the top-1 after fine-tuning, averaged over targets; for detection, VOC 2007's mean
average precision. Seeds are the units: each draws weights, order, halves, budgets and the targets'
images anew; networks of one seed are compared.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd

from transfer_jax.report import MINUS, Claim, Effect, Results, Verdict, all_of, paired
from transfer_jax.studies.settings import SCRATCH

LITTLE = 0.03
"""A change of transfer of less than three points is little; of the costs that the paper calls small
2.8 mAP is the larger."""

Way = tuple[str, float | None]
"""A way to pretrain within a question: its condition, and its amount where it has one."""

ALL: Way = ("all", None)


def name_of(way: Way) -> str:
    """What a way to pretrain is called."""
    return way[0] if pd.isna(way[1]) else f"{way[0]} {way[1]:g}"


def ways(results: Results, question: str, experiment: str = "fine_tuned") -> list[Way]:
    """What a question compares, by amount, as far as the networks are wanted."""
    rows = results.select(None, question=question, experiment=experiment)
    if rows.empty:
        return []
    rows = rows[["condition", "amount"]].drop_duplicates().sort_values("amount", kind="stable")
    return [(name, None if pd.isna(x) else x) for name, x in rows.itertuples(index=False)]


def networks(results: Results, question: str, way: Way, measure: str = "top1", **tags):
    """Rows of the networks of one way to pretrain; fine-tuned ones unless `tags` tell otherwise."""
    if way[1] is not None:
        tags["amount"] = way[1]
    tags = {"experiment": "fine_tuned", "question": question, "condition": way[0], **tags}
    return results.select(measure, **tags)


def gain(results: Results, question: str, treated: Way, reference: Way, measure="top1", **tags):
    """The effect of one way to pretrain minus another, of the same seed and target."""
    sides = [networks(results, question, way, measure, **tags) for way in (treated, reference)]
    return paired(results, *sides, on=("seed", "target"))


def over_scratch(results: Results, alone: str, condition: str, measure: str, **tags) -> Effect:
    """Transfer from a way to pretrain minus the same network trained on the target alone, in one of
    the ways `SCRATCH`."""
    tuned = results.select(measure, experiment="fine_tuned", condition=condition, **tags)
    scratch = results.select(measure, experiment="scratch", condition=alone, **tags)
    return paired(results, tuned, scratch, on=("seed", "target"))


def halved(results: Results) -> tuple[Way, Way] | None:
    """The ways of question 1 with most images of which one has 45 to 55 % of the other's."""
    found = ways(results, "images")[::-1]
    pairs = ((more, less) for more in found for less in found)
    return next((p for p in pairs if 0.45 <= p[1][1] / p[0][1] <= 0.55), None)


def fewer(results: Results, experiment: str = "fine_tuned") -> tuple[Way, Way] | None:
    """All classes, and the merged ones that claims are tested on: the fewest that are still an
    eighth of all (the paper's 127 of 1000), and at most half."""
    found = ways(results, "classes", experiment)
    for whole in (way for way in found if way[0] == "all"):
        merged = [way for way in found if whole[1] / 8 <= way[1] <= whole[1] / 2]
        return (whole, merged[0]) if merged else None


def _costs_little(question: str, choose: Callable) -> Callable[[Results], Verdict]:
    """A change on either side is within `LITTLE`; that it is holds only of networks that twice the
    steps would not improve by as much, for more steps make more of more data."""

    def test(results: Results) -> Verdict:
        pair = choose(results)
        change = gain(results, question, pair[1], pair[0]) if pair else Effect()
        name = f"{name_of(pair[1])} {MINUS} {name_of(pair[0])}" if pair else ""
        little = change.within(LITTLE, name)
        if little.outcome == "fails":
            return little
        longer = gain(results, "long", ("long", None), ALL).below(LITTLE)
        return little.supposing(longer, "more steps may improve transfer")

    return test


def _better(question: str, treated: Way, reference: Way, **tags) -> Callable[[Results], Verdict]:
    def test(results: Results) -> Verdict:
        effect = gain(results, question, treated, reference, **tags)
        return effect.above(0.0, f"{name_of(treated)} {MINUS} {name_of(reference)}")

    return test


def _halving_costs_pretraining_more(results: Results) -> Verdict:
    excess, pair = Effect(), halved(results)
    if pair:
        (own_more, own_less), (more, less) = (
            [networks(results, "images", way, experiment=experiment) for way in pair]
            for experiment in ("pretrained", "fine_tuned")
        )
        sides = pd.concat([own_more, less]), pd.concat([own_less, more])
        excess = paired(results, *sides, on=("seed", "experiment"))
        # That is the mean of two differences, and the claim is of their sum.
        noise = excess.noise and tuple((ids, 2 * part) for ids, part in excess.noise)
        twice = {"mean": 2 * excess.mean, "se": 2 * excess.se}
        excess = dataclasses.replace(excess, **twice, noise=noise)
    return excess.above(0.0, f"lost by pretraining {MINUS} lost by transfer")


def _neighbours_beat(results: Results, bar: str, name: str) -> Verdict:
    """Nearest neighbours in features of the coarse classes against a bar measured beside them."""

    effect, pair = Effect(), fewer(results, "pretrained")
    if pair:
        own = {"experiment": "pretrained", "way": pair[1]}
        sides = [networks(results, "classes", measure=m, **own) for m in ("neighbours", bar)]
        effect = paired(results, *sides)
    return effect.above(0.0, f"neighbours {MINUS} {name}")


def _coarse_teaches_fine(results: Results) -> Verdict:
    return all_of(
        _neighbours_beat(results, "guess", "a guess within the coarse class"),
        _neighbours_beat(results, "untrained_within", "an untrained network's within it"),
    )


def _siblings_become_neighbours(results: Results) -> Verdict:
    effect, pair = Effect(), fewer(results, "pretrained")
    if pair:
        own = {"measure": "siblings", "experiment": "pretrained", "level": name_of(pair[1])}
        sides = [networks(results, "classes", way, **own) for way in (ALL, ("untrained", None))]
        effect = paired(results, *sides)
    return effect.above(0.0, f"siblings nearest, trained {MINUS} untrained")


def _fewer_classes_of_more_images(results: Results) -> Verdict:
    found = ways(results, "budget")
    if len(found) < 2:
        return Effect().above(0.0)
    return _better("budget", found[0], found[-1])(results)


def _unrelated_add_little(results: Results) -> Verdict:
    effect = gain(results, "unrelated", ALL, ("natural", None), classes="held_out_natural")
    return effect.below(LITTLE, f"all {MINUS} natural, on natural targets")


def _detects_better(results: Results) -> Verdict:
    return all_of(
        *(
            over_scratch(results, name, "all", "map_voc07").above(0.0, f"all {MINUS} {name}, mAP")
            for name in SCRATCH
        )
    )


_LITTLE = "changes transfer by less than 3 points, where twice the steps would not add as much"
CLAIMS = (
    Claim(
        f"Halving the pretraining images of each class {_LITTLE}.",
        _costs_little("images", halved),
        f"{MINUS}1.5 mAP, detection",
    ),
    Claim(
        "Halving them costs pretraining's own accuracy more points than transfer.",
        _halving_costs_pretraining_more,
    ),
    Claim(
        f"Merging the classes to an eighth to a half {_LITTLE}.",
        _costs_little("classes", fewer),
        f"{MINUS}2.8 mAP, detection (127 of 1000)",
    ),
    Claim(
        "Training on coarse classes teaches to tell fine ones apart: within the coarse class that "
        "the network says, nearest neighbours find the fine one more often than a guess, and than "
        "an untrained network's.",
        _coarse_teaches_fine,
    ),
    Claim(
        "Training on the fine classes makes siblings neighbours: a class's nearest other class is "
        "a sibling more often than in an untrained network.",
        _siblings_become_neighbours,
    ),
    Claim(
        "Under one budget of images the fewest classes transfer better than the most.",
        _fewer_classes_of_more_images,
    ),
    Claim(
        "Pretraining on the target's classes, in place of as many others, helps.",
        _better("overlap", ("with target classes", None), ALL, classes="held_out"),
    ),
    Claim(
        "Adding the other half of the classes to a random half helps.",
        _better("halves", ALL, ("half, random", None)),
    ),
    Claim(
        "A far other half adds less than a random one: halves apart, which are added to the same "
        "whole, transfer better.",
        _better("halves", ("half, apart", None), ("half, random", None)),
    ),
    Claim(
        "More unrelated data do not always help: man-made classes added to natural ones gain less "
        "than 3 points on natural targets.",
        _unrelated_add_little,
    ),
    Claim(
        "Detectors on a pretrained network find more than the same trained from scratch, for the "
        "steps of detection alone and for those of pretraining and detection together.",
        _detects_better,
    ),
)
