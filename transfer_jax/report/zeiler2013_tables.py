"""Tables 1 to 6 of Zeiler & Fergus 2013, ours beside the paper's."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

from transfer_jax.report import zeiler2013_numbers as numbers
from transfer_jax.report.published import read_published_table
from transfer_jax.report.statistics import (
    EN_DASH,
    binomial_error,
    mean_and_spread,
    percent,
    points,
)
from transfer_jax.report.tables import Table
from transfer_jax.report.zeiler2013_files import Analysis, by_depth, depth
from transfer_jax.report.zeiler2013_lines import NetworkErrors

STUDY = "zeiler2013"
Lines = Sequence[Mapping[str, str]]
TOP1, TOP5 = "top\u20111", "top\u20115"
"""With hyphens that no line breaks at, for narrow columns."""

VARIANTS = {
    "without_3_4": f"without conv3{EN_DASH}4",
    "without_7": "without fc7",
    "without_6_7": f"without fc6{EN_DASH}7",
    "without_3_4_6_7": f"without conv3{EN_DASH}4, fc6{EN_DASH}7",
    "fc_half": f"fc6{EN_DASH}7 halved",
    "fc_double": f"fc6{EN_DASH}7 doubled",
    "conv345_wide": f"wide conv3{EN_DASH}5",
    "fc_double_conv345_wide": "both",
}
"""What was changed, in words."""


def published(table: str, wanted: bool = True) -> Lines:
    """The lines of one of the paper's tables; none unless wanted."""
    return read_published_table(STUDY, table) if wanted else ()


def _like(name: str) -> str:
    """What the paper's table calls such networks: 'zfnet x 3 and wide' -> 'zfnet x n and wide'."""
    return re.sub(r" x \d+", " x n", name)


def table1(analysis: Analysis, theirs: Lines) -> tuple[Table, ...]:
    """Errors of single networks and ensembles, then the paper's table as printed."""
    paper = {line["like"]: line for line in theirs if line["like"]}
    variants = ("base", "conv345_wide")
    lines = [(n.name, 1, n) for n in analysis.networks if n.variant in variants]
    lines += [(e.name, e.members, e) for e in analysis.ensembles]
    rows = []
    for name, members, line in lines:
        error = binomial_error(line.val_top1_error, line.num_val)
        top1 = f"{percent(line.val_top1_error)} ± {percent(error)}"
        row = [name, str(members), top1, percent(line.val_top5_error), f"{line.num_val:,}"]
        if theirs:
            beside = paper.get(_like(name), {})
            row += [beside.get("network", ""), beside.get("val_top1", "")]
            row += [beside.get("val_top5", "")]
        rows.append(tuple(row))
    if not rows:
        return ()
    header = ("network", "members", f"{TOP1} error (%)", f"{TOP5} error (%)", "images")
    header += ("in the paper", f"its {TOP1} (%)", f"its {TOP5} (%)") if theirs else ()
    caption = (
        "Validation errors; an ensemble averages its members' probabilities. ±: one standard "
        "error that the finite number of validation images leaves."
    )
    ours = Table(header, tuple(rows), caption, words=frozenset({0, 5}))
    header = ("network", "top-1, validation", "top-5, validation", "top-5, test")
    printed = tuple(
        tuple(line[column] for column in ("network", "val_top1", "val_top5", "test_top5"))
        for line in theirs
    )
    caption = "Table 1 as the paper prints it: errors (%) on ImageNet 2012."
    return (ours, Table(header, printed, caption, folded=True)) if theirs else (ours,)


def table2(analysis: Analysis, theirs: Lines) -> tuple[Table, ...]:
    """Each variant against its own base: errors, change, parameters, cost."""
    paper = {(line["architecture"], line["variant"]): line for line in theirs}
    ours = {
        (n.architecture, n.variant): n
        for n in reversed(analysis.networks)
        if n.name in (n.architecture, f"{n.architecture} {n.variant}")
    }
    if not any(variant != "base" for _, variant in ours):
        return ()
    order = list(dict.fromkeys([*paper, *reversed(ours)]))
    architectures = list(dict.fromkeys(architecture for architecture, _ in order))
    order.sort(key=lambda key: architectures.index(key[0]))
    rows = tuple(_table2_row(analysis, ours, paper, key, bool(theirs)) for key in order)
    header = ("network", "variant", "parameters", "GFLOP an image", f"train {TOP1} (%)")
    header += (f"{TOP1} (%)", "change (points)", f"{TOP5} (%)")
    header += (f"paper: {TOP1} (%)", "paper: change", f"paper: {TOP5} (%)") if theirs else ()
    caption = (
        "Errors on training and validation images, and the change of the validation top-1 error "
        "against the network's own base, ± one standard error. GFLOP: one training step divided "
        "by its images. The paper's halved and doubled layers have 2048 and 8192 units, its wide "
        "ones 512, 1024 and 512 maps; both: doubled and wide."
    )
    return (Table(header, rows, caption, words=frozenset({0, 1})),)


def _table2_row(analysis, ours, paper, key, beside: bool) -> tuple[str, ...]:
    architecture, variant = key
    network: NetworkErrors | None = ours.get(key)
    base = ours.get((architecture, "base"))
    words = VARIANTS.get(variant, variant)
    if network is None:
        row = [architecture, words, "not run", "", "", "", "", ""]
    else:
        change = ""
        if base is not None and variant != "base":
            terms = ((1, network), (-1, base))
            change = str(numbers.error_contrast(terms, numbers.seed_spread(analysis)))
        cost = network.train_gflop_per_image
        row = [
            architecture,
            words,
            "" if network.params is None else f"{network.params / 1e6:.3g} M",
        ]
        row += ["" if cost is None else f"{cost:.3g}", percent(network.train_top1_error)]
        row += [percent(network.val_top1_error), change, percent(network.val_top5_error)]
    if beside:
        line, its_base = paper.get(key, {}), paper.get((architecture, "base"), {})
        its_change = ""
        if line and variant != "base":
            its_change = points((float(line["val_top1"]) - float(its_base["val_top1"])) / 100)
        row += [line.get("val_top1", ""), its_change, line.get("val_top5", "")]
    return tuple(row)


def tables_3_and_4(analysis: Analysis, caltech101: Lines, caltech256: Lines) -> tuple[Table, ...]:
    """Pretrained against scratch on every target, then the paper's two tables."""
    lines, rows = analysis.transfer, []
    for target in numbers.targets(lines):
        scratch_sizes = numbers.sizes(lines, target, "scratch")
        run = sorted({*scratch_sizes, *numbers.sizes(lines, target, "softmax")[-1:]})
        for size in run:
            ours = numbers.pretrained(lines, target, size)
            scratch = numbers.folds(lines, target, "scratch", None, size)
            any_line = next(iter({**scratch, **ours}.values()))
            difference = numbers.fold_difference(ours, scratch)
            rows.append(
                (
                    target,
                    any_line.dataset,
                    str(any_line.num_classes),
                    str(size),
                    str(len({*ours, *scratch})),
                    mean_and_spread(n.accuracy for n in ours.values()),
                    mean_and_spread(n.accuracy for n in scratch.values()),
                    "" if difference is None else str(difference),
                )
            )
    if not rows:
        return ()
    header = ("target", "dataset", "classes", "images a class", "folds", "pretrained (%)")
    header += ("from scratch (%)", "difference (points)")
    caption = (
        "Mean of the classes' accuracies, ± standard deviation over folds. Pretrained: a softmax "
        "on the last hidden layer of the source network. From scratch: the same network trained "
        "on the fold alone. Difference: ± one standard error."
    )
    found = [Table(header, tuple(rows), caption, words=frozenset({0, 1}))]
    for number, name, theirs in ((3, "Caltech-101", caltech101), (4, "Caltech-256", caltech256)):
        if theirs:
            found.append(_accuracies_by_size(theirs, f"Table {number} of the paper, {name}"))
    return tuple(found)


def _accuracies_by_size(theirs: Lines, what: str) -> Table:
    sizes = sorted({int(line["train_per_class"]) for line in theirs})
    of = {(line["method"], int(line["train_per_class"])): _printed(line) for line in theirs}
    methods = dict.fromkeys(line["method"] for line in theirs)
    rows = tuple((method, *(of.get((method, n), "") for n in sizes)) for method in methods)
    header = ("method", *(f"{n} a class" for n in sizes))
    return Table(header, rows, f"{what}: accuracy (%), ± as printed there.")


def _printed(line: Mapping[str, str], column: str = "accuracy", spread: str = "spread") -> str:
    return f"{line[column]} ± {line[spread]}" if line[spread] else line[column]


def table5(analysis: Analysis, theirs: Lines) -> tuple[Table, ...]:
    """Average precision by class, one table a target, with the paper's for VOC classes."""
    paper = {line["voc_name"]: line["zeiler_fergus"] for line in theirs}
    found = []
    for target in dict.fromkeys(line.target for line in analysis.multilabel):
        lines = [n for n in analysis.multilabel if n.target == target]
        of = {(n.class_name, n.readout): n for n in lines}
        names = list(dict.fromkeys(n.class_name for n in lines))
        beside = bool(theirs) and any(name in paper for name in names)
        run = {n.readout for n in lines}
        readouts = [r for r in ("softmax", "sigmoid", "scratch") if r in run]
        measures = [(r, m) for m in ("ap_area", "ap_voc2007") for r in readouts]
        rows = []
        for name in names:
            some = next(of[name, r] for r in readouts if (name, r) in of)
            values = [getattr(of.get((name, r)), m, None) for r, m in measures]
            row = [name, str(some.positives), *map(percent, values)]
            rows.append((*row, paper.get(name, "")) if beside else tuple(row))
        means = []
        for readout, measure in measures:
            values = [getattr(n, measure) for n in lines if n.readout == readout]
            values = [value for value in values if value is not None]
            means.append(percent(statistics.fmean(values)) if values else "")
        positives = str(sum(int(row[1]) for row in rows))
        last = ["mean", positives, *means] + ([paper.get("", "")] if beside else [])
        words = {"ap_area": "area", "ap_voc2007": "11 points"}
        header = ("class", "positives", *(f"{r}, {words[m]}" for r, m in measures))
        header += ("paper (VOC 2012, softmax)",) if beside else ()
        caption = (
            f"{target}: average precision (%) of each class, as the area under the "
            "precision-recall curve and as the mean precision at 11 recalls (VOC 2007); the "
            "last line is the mean of the classes. Softmax and sigmoid learn from the pretrained "
            "network's last hidden layer; scratch is the same network trained on the target's "
            "images of one class alone."
        )
        if theirs and not beside:
            mean = next(line for line in theirs if not line["voc_name"])
            caption += f" The paper's mean over the 20 classes of VOC 2012: {mean['zeiler_fergus']}"
            caption += f" (the competition's best: {mean['yan']}; Oquab et al.: {mean['oquab']})."
        found.append(Table(header, (*rows, tuple(last)), caption))
    if found and theirs:
        header = ("class", "Sande et al.", "Yan et al.", "Oquab et al.", "the paper")
        columns = ("class", "sande", "yan", "oquab", "zeiler_fergus")
        printed = tuple(tuple(line[column] for column in columns) for line in theirs)
        caption = "Table 5 as the paper prints it: PASCAL VOC 2012, average precision (%)."
        found.append(Table(header, printed, caption, folded=True))
    return tuple(found)


def table6(analysis: Analysis, theirs: Lines) -> tuple[Table, ...]:
    """SVM and softmax on the features of each layer, for every target."""
    paper = {(line["readout"], int(line["layer"])): line for line in theirs}
    found = []
    for target in numbers.targets(analysis.transfer):
        lines = [n for n in analysis.transfer if n.target == target and n.readout != "scratch"]
        most = max((n.train_per_class for n in lines), default=0)
        lines = [n for n in lines if n.train_per_class == most]
        rows = []
        for layer in by_depth(n.layer for n in lines):
            row = [layer]
            for readout in ("svm", "softmax"):
                folds = numbers.folds(lines, target, readout, layer, most)
                row.append(mean_and_spread(n.accuracy for n in folds.values()))
            for readout in ("svm", "softmax") if theirs else ():
                line = paper.get((readout, depth(layer)))
                for name in ("caltech101", "caltech256"):
                    row.append(_printed(line, name, f"{name}_spread") if line else "")
            rows.append(tuple(row))
        if not rows:
            continue
        header = ("layer", "SVM (%)", "softmax (%)")
        if theirs:
            header += tuple(
                f"paper: {r}, Caltech-{n}" for r in ("SVM", "softmax") for n in (101, 256)
            )
        caption = (
            f"{target}, {most} images a class: mean of the classes' accuracies with a linear SVM "
            "or a softmax on each layer's features, ± standard deviation over folds."
        )
        if theirs:
            caption += " The paper's: 30 (Caltech-101) and 60 (Caltech-256) images a class."
        found.append(Table(header, tuple(rows), caption))
    return tuple(found)
