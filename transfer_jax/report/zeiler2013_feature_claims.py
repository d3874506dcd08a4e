"""What Zeiler & Fergus 2013 claim of features: filters, transfer, layers, occlusion, training."""

from __future__ import annotations

import itertools
import math
import statistics

from transfer_jax.report import zeiler2013_numbers as numbers
from transfer_jax.report.claims import Claim, decide, decide_all
from transfer_jax.report.statistics import MINUS, Estimate, binomial_error, percent
from transfer_jax.report.zeiler2013_files import Analysis, by_depth, depth
from transfer_jax.report.zeiler2013_lines import FilterNumbers

DOMINANT = 2.0
"""How many times its share with the filter rule the strongest filter must hold without it."""

LATE = 0.05
"""Least difference of mean overlaps that tells lower from upper layers."""

TIMES = 10
ABSENT = "The files that this needs are not in the store."


def feature_claims(analysis: Analysis) -> tuple[Claim, ...]:
    """Claims 8 to 15."""
    return (
        _dominant_filters(analysis),
        _dead_filters(analysis),
        _pretraining(analysis),
        _few_images(analysis),
        _higher_layers(analysis),
        _occlusion(analysis),
        _convergence(analysis),
        _sigmoid(analysis),
    )


def _first_layer(analysis: Analysis, network: str) -> FilterNumbers | None:
    found = (line for line in analysis.filters if line.network == network)
    return next((line for line in found if depth(line.layer) == 1), None)


def _dominant_filters(analysis: Analysis) -> Claim:
    claim = "Without the filter rule a few filters dominate the first layer."
    rule = (
        "Reproduced if the strongest filter's share of the first layer's energy (squared weights) "
        f"is without the rule at least {DOMINANT:.0f} times what it is with it; not tested if both "
        "are the same, as the rule then never acted."
    )
    kept, free = (_first_layer(analysis, n) for n in ("zfnet", "zfnet no filter rule"))
    shares = [line.strongest_energy_share for line in (kept, free) if line]
    if len(shares) < 2 or None in shares:
        return Claim(8, claim, ABSENT, rule, "not tested")
    finding = (
        f"Strongest filter: {percent(shares[1])} % of the energy without the rule, "
        f"{percent(shares[0])} % with it; an equal share would be "
        f"{percent(1 / kept.filters)} %."
    )
    if math.isclose(*shares, abs_tol=1e-6):
        return Claim(8, claim, finding, rule, "not tested")
    return Claim(8, claim, finding, rule, decide(shares[1] >= DOMINANT * shares[0]))


def _dead_filters(analysis: Analysis) -> Claim:
    claim = "alexnet's first layer has more dead filters than zfnet's."
    rule = (
        "Reproduced if the share of dead filters is larger in alexnet by more than 2 standard "
        "errors (binomial, with one dead and one living filter added to each); not reproduced if "
        "it is not larger; in between not tested."
    )
    ours, theirs = (_first_layer(analysis, name) for name in ("zfnet", "alexnet"))
    if not ours or not theirs:
        return Claim(9, claim, ABSENT, rule, "not tested")
    noise = math.hypot(
        *(
            binomial_error((n.dead_share * n.filters + 1) / (n.filters + 2), n.filters + 2)
            for n in (ours, theirs)
        )
    )
    excess = Estimate(theirs.dead_share - ours.dead_share, noise, 1, 2)
    finding = (
        f"Dead: {theirs.dead_share * theirs.filters:.0f} of {theirs.filters} filters in alexnet, "
        f"{ours.dead_share * ours.filters:.0f} of {ours.filters} in zfnet ({excess} points)."
    )
    return Claim(9, claim, finding, rule, numbers.verdict_of_excess(excess))


def _pretraining(analysis: Analysis) -> Claim:
    claim = "Pretrained features beat training from scratch on small targets (74.2 against 38.8 %)."
    rule = (
        f"Reproduced if accuracy pretrained {MINUS} from scratch, averaged over the sizes run "
        "with both and then over targets, is a gain beyond 2 standard errors, and nowhere a drop "
        "beyond them; not tested if it lies within them and they exceed the paper's least gain, "
        "35.4 points (Caltech-256, 60 a class)."
    )
    lines, found = analysis.transfer, {}
    for target in numbers.targets(lines):
        for size in numbers.sizes(lines, target, "scratch"):
            scratch = numbers.folds(lines, target, "scratch", None, size)
            difference = numbers.fold_difference(numbers.pretrained(lines, target, size), scratch)
            if difference:
                found[target, size] = difference
    if not found:
        return Claim(10, claim, ABSENT, rule, "not tested")
    # Sizes of one target share their folds, so their errors do not average out.
    by_target: dict[str, list[Estimate]] = {}
    for (target, _), difference in found.items():
        by_target.setdefault(target, []).append(difference)
    overall = numbers.average([numbers.average(e, shared=True) for e in by_target.values()])
    finding = f"Gain {overall} points; " + ", ".join(
        f"{target} with {size} a class {difference}" for (target, size), difference in found.items()
    )
    if any(difference.is_drop for difference in found.values()):
        return Claim(10, claim, f"{finding}.", rule, "not reproduced")
    return Claim(10, claim, f"{finding}.", rule, numbers.verdict_of_gain(overall, 0.354))


def _few_images(analysis: Analysis) -> Claim:
    claim = (
        "Pretrained features with 6 images per class beat ten times as many (the paper: the best "
        "earlier method with 60; here: training from scratch)."
    )
    rule = (
        f"For each target, the size nearest to 6 of which scratch was run with {TIMES} times as "
        f"many or more (the least such). Reproduced if accuracy pretrained {MINUS} from scratch is "
        "there, averaged over targets, a gain beyond 2 standard errors; not reproduced if a drop "
        "beyond them; in between not tested."
    )
    lines, found = analysis.transfer, {}
    for target in numbers.targets(lines):
        many = numbers.sizes(lines, target, "scratch")
        few = [n for n in numbers.sizes(lines, target, "softmax") if many and TIMES * n <= many[-1]]
        if few:
            small = min(few, key=lambda n: (abs(math.log(n / 6)), n))
            large = min(n for n in many if n >= TIMES * small)
            difference = numbers.fold_difference(
                numbers.pretrained(lines, target, small),
                numbers.folds(lines, target, "scratch", None, large),
            )
            if difference:
                found[target, small, large] = difference
    if not found:
        finding = f"No target was run from scratch with {TIMES} times a pretrained size."
        return Claim(11, claim, finding, rule, "not tested")
    overall = numbers.average(list(found.values()))
    finding = f"Lead {overall} points; " + ", ".join(
        f"{target}, {small} against {large} a class: {difference}"
        for (target, small, large), difference in found.items()
    )
    return Claim(11, claim, f"{finding}.", rule, numbers.verdict_of_gain(overall, None))


def _higher_layers(analysis: Analysis) -> Claim:
    claim = "Higher layers are more discriminative: the SVM's accuracy rises with the layer."
    rule = (
        "Reproduced if in every target the highest layer beats the lowest by more than 2 standard "
        "errors and no layer lies below the one under it by more than 2 standard errors, at the "
        "most images per class; not reproduced if a layer does, or the highest is the worse one; "
        "in between not tested."
    )
    verdicts, findings = [], []
    for target in numbers.targets(analysis.transfer):
        found = _svm_layers(analysis, target)
        if len(found) > 1:
            layers = list(found)
            whole = numbers.fold_difference(found[layers[-1]], found[layers[0]])
            steps = {
                upper: numbers.fold_difference(found[upper], found[lower])
                for lower, upper in itertools.pairwise(layers)
            }
            if whole is None or None in steps.values():
                continue
            worst = min(steps, key=lambda layer: steps[layer].value)
            findings.append(
                f"{target}: {layers[-1]} {MINUS} {layers[0]} {whole} points, least step at "
                f"{worst} ({steps[worst]})."
            )
            falls = whole.value <= 0 or any(step.is_drop for step in steps.values())
            verdicts.append("not reproduced" if falls else numbers.verdict_of_gain(whole, None))
    if not verdicts:
        return Claim(12, claim, ABSENT, rule, "not tested")
    return Claim(12, claim, " ".join(findings), rule, decide_all(verdicts))


def _svm_layers(analysis: Analysis, target: str):
    """Layer -> folds of the SVM at its most images per class, from the lowest layer up."""
    lines = [n for n in analysis.transfer if n.target == target and n.readout == "svm"]
    most = max((n.train_per_class for n in lines), default=0)
    return {
        layer: numbers.folds(lines, target, "svm", layer, most)
        for layer in by_depth(n.layer for n in lines if n.train_per_class == most)
    }


def _occlusion(analysis: Analysis) -> Claim:
    claim = "The probability of the true class falls most when the object itself is covered."
    rule = (
        "Reproduced if, over correctly classified images, the square's worst place lies inside the "
        "object's box more often than chance (the share of places inside it) by more than 2 "
        "standard errors; not reproduced if not more often; in between not tested."
    )
    result = numbers.inside_box(line for line in analysis.occlusion if line.correct)
    if result is None:
        return Claim(13, claim, ABSENT, rule, "not tested")
    share, chance, error, count = result
    excess = Estimate(share - chance, error, 1, 1)
    finding = (
        f"Inside in {percent(share)} % of {count} images, chance {percent(chance)} % "
        f"({excess} points)."
    )
    return Claim(13, claim, finding, rule, numbers.verdict_of_excess(excess))


def _convergence(analysis: Analysis) -> Claim:
    claim = "Lower layers converge within few epochs, upper layers late."
    rule = (
        "A map's overlap is the share of its nine strongest images at the last snapshot that are "
        "among its nine strongest already. Reproduced if the mean overlap over all snapshots "
        "before the last is lower in the upper half of the layers than in the lower half by more "
        f"than {percent(LATE, 0)} points (the middle layer of an odd number counts in neither)."
    )
    last = max((line.epoch for line in analysis.evolution), default=0)
    means = {}
    for layer in by_depth(line.layer for line in analysis.evolution):
        lines = [n for n in analysis.evolution if n.layer == layer and n.epoch < last]
        early = [n.overlap for n in lines if n.overlap is not None]
        if early:
            means[layer] = statistics.fmean(early)
    if len(means) < 2:
        return Claim(14, claim, ABSENT, rule, "not tested")
    half = len(means) // 2
    lower = statistics.fmean(list(means.values())[:half])
    upper = statistics.fmean(list(means.values())[-half:])
    finding = "Mean overlap before the last snapshot: " + ", ".join(
        f"{layer} {percent(value, 0)} %" for layer, value in means.items()
    )
    finding += f"; lower half {MINUS} upper half {percent(lower - upper)} points."
    return Claim(14, claim, finding, rule, decide(lower - upper > LATE))


def _sigmoid(analysis: Analysis) -> Claim:
    claim = "A loss made for several labels (sigmoid) does better than softmax on such images."
    rule = (
        f"Reproduced if average precision (area) of sigmoid {MINUS} softmax, averaged over classes "
        "(and targets), is a gain beyond 2 standard errors (between classes); not reproduced if a "
        "drop beyond them; in between not tested. The paper supposes it, and has no number."
    )
    found = []
    for target in dict.fromkeys(line.target for line in analysis.multilabel):
        of = {
            (n.readout, n.class_name): n.ap_area
            for n in analysis.multilabel
            if n.target == target and n.ap_area is not None
        }
        differences = [
            ap - of["softmax", name]
            for (readout, name), ap in of.items()
            if readout == "sigmoid" and ("softmax", name) in of
        ]
        if len(differences) > 1:
            count = len(differences)
            error = statistics.stdev(differences) / math.sqrt(count)
            found.append(Estimate(statistics.fmean(differences), error, count, 2))
    if not found:
        return Claim(15, claim, ABSENT, rule, "not tested")
    overall = numbers.average(found)
    finding = f"Sigmoid {MINUS} softmax: {overall} points over {overall.units} classes."
    return Claim(15, claim, finding, rule, numbers.verdict_of_gain(overall, None))
