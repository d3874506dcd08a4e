"""The tables of Huh et al. 2016: each question's conditions, targets, features, and the paper's."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from transfer_jax.report import huh2016_numbers as numbers
from transfer_jax.report.huh2016_feature_claims import neighbour_lines, sibling_excess
from transfer_jax.report.huh2016_files import ALL, IMPORTED, MEASURES, SCRATCH, Analysis
from transfer_jax.report.huh2016_numbers import Series
from transfer_jax.report.published import read_published_table
from transfer_jax.report.statistics import MINUS, Estimate, mean_and_spread, percent
from transfer_jax.report.tables import Table

DETECTION = "VOC 2007 detection"
NOT_BUILT = "not built"
NOT_RUN = "not run"


def condition_tables(analysis: Analysis, question: str) -> tuple[Table, ...]:
    """A question's conditions: what they pretrain on and what it gives; then the changes."""
    lines = analysis.question(question)
    if not lines:
        return ()
    columns = _columns(analysis)
    rows = []
    for name, line in lines.items():
        own = numbers.pretraining(analysis, name)
        seeds = {n.seed for n in analysis.transfer if n.condition == name} if not own else own
        images = "not known" if line.num_images is None else f"{line.num_images:,}"
        row = [name, f"{line.num_classes:,}", images, str(len(seeds))]
        row.append(_mean(own) or (IMPORTED if name == IMPORTED else NOT_RUN))
        row += [
            _mean(numbers.transfer(analysis, name, target, measure)) or NOT_RUN
            for target, measure in columns
        ]
        rows.append((*row, NOT_BUILT))
    header = ("pretrained on", "classes", "images", "seeds", "pretraining, own task (%)")
    header += tuple(f"{target}, {MEASURES[measure]} (%)" for target, measure in columns)
    caption = (
        "Accuracy, mean ± standard deviation over seeds. Pretraining: top-1 on the condition's own "
        "task, whose difficulty changes with its classes. Transfer: mean of the classes' "
        "accuracies on the target's test images."
    )
    table = Table((*header, f"{DETECTION} (mAP)"), tuple(rows), caption)
    return (table, *_changes(analysis, question, columns))


def reference(analysis: Analysis, question: str) -> str:
    """What a question's conditions are compared with: 'all', else the one of most classes."""
    lines = analysis.question(question)
    return ALL if ALL in lines else max(lines, key=lambda name: lines[name].num_classes)


def _changes(analysis: Analysis, question: str, columns) -> tuple[Table, ...]:
    against, rows = reference(analysis, question), []
    for name in analysis.question(question):
        if name != against:
            own = numbers.pretraining_difference(analysis, name, against)
            found = [own]
            found += [numbers.difference(analysis, name, against, m, [t]) for t, m in columns]
            rows.append((name, *map(_points, found)))
    if not any(any(row[1:]) for row in rows):
        return ()
    header = ("pretrained on", "pretraining, own task")
    header += tuple(f"{target}, {MEASURES[measure]}" for target, measure in columns)
    caption = (
        f"Change against “{against}” in points, ± one standard error, paired by seed (see the "
        "rule at the claims)."
    )
    return (Table(header, tuple(rows), caption),)


def targets_table(analysis: Analysis) -> Table:
    """What was transferred to, and what became of the paper's own targets."""
    rows = [
        (
            line.target,
            line.dataset,
            f"{line.num_classes:,}",
            _images(line.train_per_class),
            _images(line.test_per_class if line.train_per_class else None),
            "held-out classes of the pretraining dataset"
            if line.from_pretraining_dataset
            else "another dataset",
            line.kind,
        )
        for line in analysis.targets
    ]
    run = {line.dataset for line in analysis.targets}
    kinds = {line.kind for line in analysis.targets}
    if not any("sun397" in name.lower() for name in run):
        rows.append(("SUN397 scenes", NOT_RUN, "397", "", "", "the paper's", "classification"))
    if "actions" not in kinds:
        rows.append(("VOC 2012 actions", NOT_RUN, "10", "", "", "the paper's", "actions"))
    rows.append((DETECTION, NOT_BUILT, "20", "", "", "the paper's", "detection"))
    header = ("target", "dataset", "classes", "train a class", "test a class", "images of", "kind")
    caption = (
        "Targets. Images are drawn anew for each seed; “own” are the dataset's training and "
        "validation images. Detection needs a detector around the network, which is not built."
    )
    return Table(header, tuple(rows), caption, words=frozenset({0, 1, 5, 6}))


def scratch_tables(analysis: Analysis, condition: str = ALL) -> tuple[Table, ...]:
    """Transfer from all pretraining data, or another condition, beside the network trained on the
    target alone."""
    rows = []
    for target in analysis.target_names():
        scratch = numbers.transfer(analysis, SCRATCH, target, "fine_tuned")
        for measure in analysis.measures(target):
            ours = numbers.transfer(analysis, condition, target, measure)
            gain = numbers.over_scratch(analysis, target, measure, condition)
            if gain:
                texts = (_mean(ours), _mean(scratch), str(gain), str(gain.units))
                rows.append((target, MEASURES[measure], *texts))
    what = "pretrained on all" if condition == ALL else condition
    header = ("target", "measure", f"{what} (%)", "from scratch (%)")
    header += ("difference (points)", "seeds")
    which = "Pretrained on all classes and images" if condition == ALL else what.capitalize()
    caption = (
        f"{which} against the same network trained on the target "
        "alone, by the same recipe as the fine-tuned one. Mean ± standard deviation over seeds; "
        "difference ± one standard error."
    )
    return (Table(header, tuple(rows), caption, words=frozenset({0, 1})),) if rows else ()


def actions_tables(analysis: Analysis) -> tuple[Table, ...]:
    """Average precision of each action by condition."""
    lines = analysis.actions
    actions = list(dict.fromkeys(n.action for n in lines))
    if not lines:
        return ()
    rows = []
    for condition in dict.fromkeys(n.condition for n in lines):
        mine = [n for n in lines if n.condition == condition]
        by_seed = [
            statistics.fmean(n.ap_area for n in mine if n.seed == seed)
            for seed in sorted({n.seed for n in mine})
        ]
        each = (mean_and_spread(n.ap_area for n in mine if n.action == a) for a in actions)
        rows.append((condition, mean_and_spread(by_seed), *each))
    caption = (
        "VOC 2012 actions: average precision (area under the curve, %) of each action after "
        "fine-tuning, mean ± standard deviation over seeds."
    )
    return (Table(("pretrained on", "mean AP", *actions), tuple(rows), caption, folded=True),)


def neighbour_tables(analysis: Analysis) -> tuple[Table, ...]:
    """Question 3: nearest neighbours over the fine classes."""
    rows = []
    for condition, lines in neighbour_lines(analysis).items():
        line = lines[0]
        row = [condition, f"{line.num_classes:,}", str(len(lines))]
        row += [mean_and_spread(n.top1 for n in lines), mean_and_spread(n.top5 for n in lines)]
        rows.append((*row, percent(min(1.0, line.num_classes / line.fine_classes))))
    if not rows:
        return ()
    first = analysis.neighbours[0]
    header = ("pretrained on", "classes", "seeds", "top-1 (%)", "top-5 (%)")
    header += ("right by guessing within the class (%)",)
    caption = (
        f"Nearest neighbours over {first.fine_classes:,} fine classes on the last hidden layer's "
        f"features: {first.queries:,} validation images look for their class among the training "
        f"images. Chance: top-1 {percent(1 / first.fine_classes)} %, top-5 "
        f"{percent(min(1.0, 5 / first.fine_classes))} %. Guessing: the top-1 of someone who knows "
        "the class that the network was trained on, and nothing else. Mean ± standard deviation "
        "over seeds."
    )
    return (Table(header, tuple(rows), caption),)


def sibling_tables(analysis: Analysis) -> tuple[Table, ...]:
    """The reverse of question 3: the share of siblings by level, for every condition."""
    lines = [n for n in analysis.siblings if n.share is not None and n.chance is not None]
    levels = dict.fromkeys((n.level, n.level_classes) for n in lines)
    conditions = dict.fromkeys(
        n.condition for n in sorted(lines, key=lambda n: (n.condition != ALL, -n.num_classes))
    )
    if not lines:
        return ()
    excess = sibling_excess(analysis)
    rows = []
    for level, _ in sorted(levels, key=lambda pair: -pair[1]):
        mine = [n for n in lines if n.level == level]
        chance = statistics.fmean(n.chance for n in mine)
        each = (mean_and_spread(n.share for n in mine if n.condition == c) for c in conditions)
        rows.append((level, percent(chance), _points(excess.get(level)), *each))
    header = ("level", "chance (%)", f"“{ALL}” {MINUS} chance (points)")
    header += tuple(f"{condition} (%)" for condition in conditions)
    caption = (
        "Share of the fine classes with a sibling whose nearest other class (by the mean features "
        "of its validation images) has the same parent at a level of the hierarchy, by what the "
        "network was pretrained on. Mean ± standard deviation over seeds; difference ± one "
        "standard error."
    )
    return (Table(header, tuple(rows), caption),)


def published_tables(analysis: Analysis) -> tuple[Table, ...]:
    """What the paper's numbers say, beside the changes here that come closest."""
    pair, lines = numbers.halved(analysis), analysis.question("classes")
    sizes = {n: line.num_classes for n, line in lines.items()}
    chosen = numbers.fewer(sizes, sizes.get(ALL, 0))
    ours: Mapping[str, tuple[str, str] | None] = {
        "images": pair and (pair[1].condition, pair[0].condition),
        "classes": (chosen, ALL) if chosen else None,
    }
    rows = []
    for line in read_published_table("huh2016", "costs"):
        compared = ours[line["question"]]
        theirs = f"{MINUS}{line['cost']} {line['measure']}"
        row = [line["change"], f"{theirs}, {line['target']}"]
        if compared is None:
            row += [NOT_RUN] * 2 + [""] * len(MEASURES)
        else:
            own = numbers.pretraining_difference(analysis, *compared)
            row += [f"{compared[0]} in place of {compared[1]}", _points(own)]
            row += [_points(numbers.difference(analysis, *compared, m)) for m in MEASURES]
        rows.append(tuple(row))
    header = ("change in pretraining", "the paper", "here", "pretraining, own task (points)")
    header += tuple(f"transfer, {name} (points)" for name in MEASURES.values())
    caption = (
        "The paper's own costs (AlexNet, ImageNet) and the nearest change here, averaged over "
        "targets, ± one standard error. Targets, tasks and sizes differ: only the direction and "
        "rough size compare."
    )
    run = any(ours.values())
    return (Table(header, tuple(rows), caption, words=frozenset({0, 1, 2})),) if run else ()


def _columns(analysis: Analysis) -> list[tuple[str, str]]:
    """(target, measure) pairs that were run."""
    return [(target, m) for target in analysis.target_names() for m in analysis.measures(target)]


def _mean(series: Series) -> str:
    return mean_and_spread(_values(series))


def _values(series: Series) -> Iterable[float]:
    return [share.value for share in series.values()]


def _points(estimate: Estimate | None) -> str:
    return "" if estimate is None else str(estimate)


def _images(count: int | None) -> str:
    return f"{count:,}" if count else "own"
