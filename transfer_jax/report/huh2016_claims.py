"""What Huh et al. 2016 claim of pretraining data, each decided by our own numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from transfer_jax.report import huh2016_numbers as numbers
from transfer_jax.report.claims import ABSENT, Claim, Verdict
from transfer_jax.report.huh2016_feature_claims import coarse_tell_fine_apart, siblings_together
from transfer_jax.report.huh2016_files import ALL, MEASURES, Analysis
from transfer_jax.report.huh2016_numbers import LITTLE, SLIGHT
from transfer_jax.report.statistics import MINUS, Estimate, percent


def claims(analysis: Analysis) -> tuple[Claim, ...]:
    """Tests the ten claims, question by question."""
    return (
        _halving_costs_little(analysis),
        _less_than_pretraining(analysis),
        _fewer_classes(analysis),
        coarse_tell_fine_apart(analysis, 4),
        siblings_together(analysis, 5),
        _budget(analysis),
        _overlap(analysis),
        _other_half(analysis),
        _far_half(analysis),
        _unrelated(analysis),
    )


def remark(estimate: Estimate, verdict: Verdict) -> str:
    """A closing sentence where a difference decides nothing."""
    if estimate.units < 2:
        return " One seed only: nothing is known of the noise between trainings."
    if verdict == "not tested":
        return " Too noisy to tell."
    return "" if estimate.is_gain or estimate.is_drop else " This is within the noise."


def _measured(
    analysis: Analysis, weights: Mapping[str, float], targets: Sequence[str] | None = None
) -> dict[str, Estimate]:
    """Measure -> a weighted sum of conditions' transfer; the first one decides."""
    found = {m: numbers.transfer_contrast(analysis, weights, m, targets) for m in MEASURES}
    return {measure: estimate for measure, estimate in found.items() if estimate}


def _listed(found: Mapping[str, Estimate]) -> str:
    return ", ".join(f"{estimate} points ({MEASURES[m]})" for m, estimate in found.items())


def _accuracy(
    analysis: Analysis, condition: str, measure: str, targets: Sequence[str] | None = None
) -> float:
    return numbers.transfer_contrast(analysis, {condition: 1.0}, measure, targets).value


def _halving_costs_little(analysis: Analysis) -> Claim:
    claim = "Halving the pretraining images costs transfer little (1.5 mAP on detection)."
    rule = (
        f"Reproduced if half of the images cost less than {LITTLE:.0%} of the accuracy, not "
        "reproduced if more, either by more than 2 standard errors; in between not tested. The "
        "pair is the largest of which one has 45 to 55 % of the other's images of each class."
    )
    pair = numbers.halved(analysis)
    found = pair and _measured(analysis, {pair[1].condition: 1.0, pair[0].condition: -1.0})
    if not found:
        return Claim(1, claim, ABSENT, rule, "not tested")
    more, less = pair
    measure, change = next(iter(found.items()))
    accuracy = _accuracy(analysis, more.condition, measure)
    verdict = numbers.verdict_of_little(-change, accuracy)
    finding = (
        f"{less.value:g} images of each class in place of {more.value:g}: {_listed(found)}. The "
        f"bound is {percent(LITTLE * accuracy)} points.{remark(change, verdict)}"
    )
    return Claim(1, claim, finding, rule, verdict)


def _less_than_pretraining(analysis: Analysis) -> Claim:
    claim = "Halving the images costs transfer less than it costs pretraining's own accuracy."
    rule = (
        "Each loss is taken as a share of the accuracy with all of the pair's images. Reproduced "
        "if pretraining's exceeds that of transfer by more than 2 standard errors."
    )
    pair = numbers.halved(analysis)
    found = pair and _measured(analysis, {pair[1].condition: 1.0, pair[0].condition: -1.0})
    own = pair and numbers.pretraining_difference(analysis, pair[1].condition, pair[0].condition)
    if not found or not own:
        return Claim(2, claim, ABSENT, rule, "not tested")
    more, less = (line.condition for line in pair)
    measure, change = next(iter(found.items()))
    accuracy = _accuracy(analysis, more, measure)
    own_accuracy = numbers.contrast([(1, numbers.pretraining(analysis, more))]).value
    if not accuracy or not own_accuracy:
        return Claim(2, claim, "An accuracy is zero: it has no share to lose.", rule, "not tested")
    excess = numbers.contrast(
        [
            (1 / own_accuracy, numbers.pretraining(analysis, more)),
            (-1 / own_accuracy, numbers.pretraining(analysis, less)),
            *numbers.transfer_terms(
                analysis, {more: -1 / accuracy, less: 1 / accuracy}, measure
            ),
        ]
    )  # fmt: skip
    if excess is None:
        return Claim(2, claim, ABSENT, rule, "not tested")
    verdict = numbers.verdict_of_gain(excess, 1.0)
    finding = (
        f"Pretraining loses {percent(-own.value / own_accuracy)} % of its accuracy ({own} points), "
        f"transfer {percent(-change.value / accuracy)} % ({change} points, {MEASURES[measure]}): "
        f"a difference of {excess} % of the accuracy.{remark(excess, verdict)}"
    )
    return Claim(2, claim, finding, rule, verdict)


def _fewer_classes(analysis: Analysis) -> Claim:
    claim = (
        "Fewer classes suffice: merging them costs transfer little (127 classes in place of 1000: "
        "2.8 mAP on detection)."
    )
    rule = (
        f"Reproduced if the merged classes cost less than {LITTLE:.0%} of the accuracy, not "
        "reproduced if more, either by more than 2 standard errors; in between not tested. Tested "
        "where the fewest classes are left that are still an eighth of all, and at most half."
    )
    lines = analysis.question("classes")
    total = lines[ALL].num_classes if ALL in lines else 0
    sizes = {name: line.num_classes for name, line in lines.items() if name != ALL}
    changes = {name: _measured(analysis, {name: 1.0, ALL: -1.0}) for name in sizes}
    changes = {name: found for name, found in changes.items() if found}
    chosen = numbers.fewer({name: sizes[name] for name in changes}, total)
    if chosen is None:
        return Claim(3, claim, ABSENT, rule, "not tested")
    measure, change = next(iter(changes[chosen].items()))
    accuracy = _accuracy(analysis, ALL, measure)
    verdict = numbers.verdict_of_little(-change, accuracy)
    finding = (
        f"{chosen} in place of {total}: {_listed(changes[chosen])}. The bound is "
        f"{percent(LITTLE * accuracy)} points."
    )
    run = {name: found[measure] for name, found in changes.items() if measure in found}
    best = max(run, key=lambda name: run[name].value)
    coarsest = min(run, key=sizes.__getitem__)
    for word, name in (("Best", best), ("Coarsest", coarsest)):
        if name != chosen:
            finding += f" {word}, {MEASURES[measure]}: {name} {run[name]}."
    return Claim(3, claim, finding + remark(change, verdict), rule, verdict)


def _budget(analysis: Analysis) -> Claim:
    claim = "Under one budget of images, fewer classes with more images each do slightly better."
    rule = (
        "A line is fitted by least squares to transfer over the logarithm of the number of "
        "classes. Reproduced if it rises towards fewer classes by more than 2 standard errors."
    )
    lines = analysis.question("budget")
    run = {line.condition for line in analysis.transfer}
    sizes = {name: line.num_classes for name, line in lines.items() if name in run}
    weights = numbers.slope_weights(sizes) if len(sizes) > 1 else {}
    slopes = _measured(analysis, weights) if weights else {}
    if not slopes:
        return Claim(6, claim, ABSENT, rule, "not tested")
    gains = {measure: -slope for measure, slope in slopes.items()}
    measure, gain = next(iter(gains.items()))
    accuracies = {name: _accuracy(analysis, name, measure) for name in sizes}
    best = max(accuracies, key=accuracies.__getitem__)
    verdict = numbers.verdict_of_gain(gain, accuracies[best], SLIGHT)
    finding = (
        f"Halving the number of classes, {min(sizes.values())} to {max(sizes.values())}, changes "
        f"transfer by {_listed(gains)}. Best, {MEASURES[measure]}: {best} "
        f"({percent(accuracies[best])} %).{remark(gain, verdict)}"
    )
    return Claim(6, claim, finding, rule, verdict)


def _overlap(analysis: Analysis) -> Claim:
    claim = "Pretraining on the target's classes helps."
    rule = (
        f"Reproduced if, on targets whose classes are added, transfer with them {MINUS} without "
        "them is a gain beyond 2 standard errors."
    )
    ours = [line.target for line in analysis.targets if line.from_pretraining_dataset]
    weights = {"with target classes": 1.0, ALL: -1.0}
    found = _measured(analysis, weights, ours) if "overlap" in _questions(analysis) else {}
    if not found:
        return Claim(7, claim, ABSENT, rule, "not tested")
    measure, gain = next(iter(found.items()))
    verdict = numbers.verdict_of_gain(gain, _accuracy(analysis, ALL, measure, ours))
    finding = f"With the target's classes: {_listed(found)}."
    others = [target for target in analysis.target_names() if target not in ours]
    control = _measured(analysis, weights, others)
    if control:
        finding += f" On targets that have none of them: {_listed(control)}."
    return Claim(7, claim, finding + remark(gain, verdict), rule, verdict)


def _questions(analysis: Analysis) -> set[str]:
    return {line.question for line in analysis.conditions}


def _halves(analysis: Analysis, kind: str) -> list[str]:
    """The halves of a kind, 'random' or 'apart', that were transferred."""
    run = {line.condition for line in analysis.transfer}
    names = analysis.question("halves")
    return [name for name in names if name.startswith(f"half {kind}") and name in run]


def _added(analysis: Analysis, kind: str) -> dict[str, Estimate]:
    """Measure -> what adding the other half gives, averaged over the halves of a kind."""
    halves = _halves(analysis, kind)
    return _measured(analysis, {ALL: 1.0} | {h: -1 / len(halves) for h in halves}) if halves else {}


def _other_half(analysis: Analysis) -> Claim:
    claim = "Adding the other half of the classes helps (halves drawn at random)."
    rule = (
        f"Reproduced if transfer from all classes {MINUS} from a random half, averaged over the "
        "halves, is a gain beyond 2 standard errors."
    )
    found = _added(analysis, "random")
    if not found:
        return Claim(8, claim, ABSENT, rule, "not tested")
    measure, gain = next(iter(found.items()))
    verdict = numbers.verdict_of_gain(gain, _accuracy(analysis, ALL, measure))
    singly = [
        f"{half} {numbers.difference(analysis, ALL, half, measure)}"
        for half in _halves(analysis, "random")
    ]
    finding = f"The other half adds {_listed(found)}; {MEASURES[measure]}, {', '.join(singly)}."
    return Claim(8, claim, finding + remark(gain, verdict), rule, verdict)


def _far_half(analysis: Analysis) -> Claim:
    claim = "A far other half (halves apart in the tree) helps less than a random one."
    rule = (
        "Reproduced if what the other half adds is less between halves that share few ancestors "
        "than between random ones, both averaged over their halves, by more than 2 standard "
        f"errors. As all classes are the same ones, that is transfer from halves apart {MINUS} "
        "from random halves."
    )
    apart, random = _halves(analysis, "apart"), _halves(analysis, "random")
    found = {}
    if apart and random:
        weights = {h: 1 / len(apart) for h in apart} | {h: -1 / len(random) for h in random}
        found = _measured(analysis, weights)
    if not found:
        return Claim(9, claim, ABSENT, rule, "not tested")
    measure, less = next(iter(found.items()))
    verdict = numbers.verdict_of_gain(less, _accuracy(analysis, random[0], measure))
    finding = f"Halves apart {MINUS} random halves: {_listed(found)}."
    added = {kind: _added(analysis, kind).get(measure) for kind in ("apart", "random")}
    if all(added.values()):
        finding += (
            f" The far half adds {added['apart']} points, the random one {added['random']} "
            f"({MEASURES[measure]})."
        )
    return Claim(9, claim, finding + remark(less, verdict), rule, verdict)


def _unrelated(analysis: Analysis) -> Claim:
    claim = "More unrelated data does not always help."
    rule = (
        "Man-made classes are added to natural ones for targets of natural classes (so named), "
        "and the reverse. Without such a target, every addition counts on every target. "
        "Reproduced if at least one addition is no gain, not reproduced if all are gains beyond 2 "
        "standard errors."
    )
    kinds = [name for name in analysis.question("unrelated") if name != ALL]
    targets = analysis.target_names()
    every = [(kind, target) for kind in kinds for target in targets]
    related = [(k, t) for k, t in every if _same_kind(k, t)]
    gains = {
        (kind, target): gain
        for kind, target in related or every
        for gain in (numbers.difference(analysis, ALL, kind, None, [target]),)
        if gain
    }
    if not gains:
        return Claim(10, claim, ABSENT, rule, "not tested")
    verdicts = {
        (kind, target): numbers.verdict_of_no_gain(
            gain, numbers.transfer_contrast(analysis, {ALL: 1.0}, None, [target]).value
        )
        for (kind, target), gain in gains.items()
    }
    found = set(verdicts.values())
    verdict: Verdict = "reproduced" if "reproduced" in found else "not tested"
    if found == {"not reproduced"}:
        verdict = "not reproduced"
    finding = "Adding the other kind: "
    finding += "; ".join(f"to {k}, on {t}, {gain} points" for (k, t), gain in gains.items()) + "."
    if not related:
        finding += " No target is of one kind alone: what is added is only partly unrelated."
    if verdict == "not tested":
        finding += remark(next(g for key, g in gains.items() if verdicts[key] == verdict), verdict)
    return Claim(10, claim, finding, rule, verdict)


def _same_kind(condition: str, target: str) -> bool:
    """Whether a target's name says that its classes are of the kind that a condition keeps."""
    kind = condition.removesuffix(" only")
    return kind in target.lower().replace("_", "-").replace(" ", "-")
