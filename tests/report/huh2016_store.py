"""A workdir of the Huh et al. study, made without training: it behaves as the paper says."""

import json
import math

import numpy as np

from tests.report.conftest import first_layer, learning_curve, network
from tests.report.reading import write_lines
from transfer_jax.grid.cell import to_json
from transfer_jax.networks import build
from transfer_jax.report.results import write_results

COLUMNS = {
    "conditions": "question condition value seed hash num_classes num_images pretrain_top1",
    "transfer": "condition seed target measure accuracy num_test",
    "targets": "target dataset num_classes train_per_class test_per_class "
    "from_pretraining_dataset kind",
    "neighbours": "condition num_classes seed top1 top5 fine_classes queries",
    "siblings": "condition num_classes seed level level_classes share chance",
    "actions": "condition seed class ap_area",
    "timings": "part seconds",
}
SEEDS = (0, 1, 2)
CLASSES, IMAGES = 160, 400
TARGETS = {"held_out": 0.62, "held_out_natural": 0.66, "world": 0.83}

# (question, condition, value, classes, images, own accuracy, change of transfer against 'all')
CONDITIONS = [
    ("images", "50 images a class", 50, CLASSES, 50 * CLASSES, 0.17, -0.120),
    ("images", "100 images a class", 100, CLASSES, 100 * CLASSES, 0.28, -0.051),
    ("images", "200 images a class", 200, CLASSES, 200 * CLASSES, 0.40, -0.012),
    ("images", "all", IMAGES, CLASSES, CLASSES * IMAGES, 0.48, 0.0),
    ("classes", "all", CLASSES, CLASSES, CLASSES * IMAGES, 0.48, 0.0),
    ("classes", "118 classes bottom-up", 118, 118, CLASSES * IMAGES, 0.50, 0.002),
    ("classes", "61 classes bottom-up", 61, 61, CLASSES * IMAGES, 0.57, -0.004),
    ("classes", "22 classes bottom-up", 22, 22, CLASSES * IMAGES, 0.68, -0.020),
    ("classes", "5 classes bottom-up", 5, 5, CLASSES * IMAGES, 0.82, -0.080),
    ("classes", "20 classes top-down", 20, 20, CLASSES * IMAGES, 0.66, -0.012),
    ("classes", "2 classes top-down", 2, 2, CLASSES * IMAGES, 0.93, -0.140),
    ("budget", "40 classes of 500 images", 40, 40, 20_000, 0.61, -0.050),
    ("budget", "80 classes of 250 images", 80, 80, 20_000, 0.50, -0.060),
    ("budget", "160 classes of 125 images", 160, 160, 20_000, 0.33, -0.071),
    ("overlap", "all", 0, CLASSES, CLASSES * IMAGES, 0.48, 0.0),
    ("overlap", "with target classes", 1, 200, 200 * IMAGES, 0.46, 0.035),
    ("halves", "half random A", "", 80, 80 * IMAGES, 0.55, -0.041),
    ("halves", "half random B", "", 80, 80 * IMAGES, 0.56, -0.039),
    ("halves", "half apart A", "", 81, 81 * IMAGES, 0.60, -0.021),
    ("halves", "half apart B", "", 79, 79 * IMAGES, 0.49, -0.025),
    ("halves", "all", "", CLASSES, CLASSES * IMAGES, 0.48, 0.0),
    ("unrelated", "natural only", "", 62, 62 * IMAGES, 0.58, -0.060),
    ("unrelated", "man-made only", "", 98, 98 * IMAGES, 0.52, -0.055),
    ("unrelated", "all", "", CLASSES, CLASSES * IMAGES, 0.48, 0.0),
]
NEIGHBOURS = {"all": (0.21, 0.47), "118 classes bottom-up": (0.205, 0.46),
              "61 classes bottom-up": (0.19, 0.45), "22 classes bottom-up": (0.17, 0.41),
              "5 classes bottom-up": (0.11, 0.31), "20 classes top-down": (0.174, 0.42),
              "2 classes top-down": (0.07, 0.22)}  # fmt: skip
LEVELS = {"bottom-up 118": (118, 0.31, 0.004), "bottom-up 61": (61, 0.48, 0.013),
          "bottom-up 22": (22, 0.66, 0.05), "bottom-up 5": (5, 0.81, 0.24),
          "top-down 20": (20, 0.64, 0.055), "top-down 2": (2, 0.95, 0.52)}  # fmt: skip
ACTIONS = ("jumping", "phoning", "riding horse", "running")


def tables(*, seeds=SEEDS, changes=None, num_test=5000, queries=8000):
    """Every table as lists of lines, in the order of `COLUMNS`.

    changes maps a condition, or a (condition, target), to another change of its transfer.
    """
    changes = changes or {}
    sizes = {name: classes for _, name, _, classes, *_ in CONDITIONS}
    effect = {c[1]: c[6] for c in CONDITIONS} | {"scratch": -0.25}
    found = {name: [] for name in COLUMNS}
    for question, name, value, classes, images, top1, _ in CONDITIONS:
        found["conditions"] += [
            [question, name, value, s, hash_of(name, s), classes, images, wobble(top1, name, s)]
            for s in seeds
        ]
    for name, change in effect.items():
        for target, level in TARGETS.items():
            here = change
            if (name, target) == ("natural only", "held_out_natural"):
                here = 0.004
            if name == "with target classes" and target == "world":
                here = 0.003
            here = changes.get((name, target), changes.get(name, here))
            for seed in seeds:
                tuned = wobble(level + here, name + target, seed)
                found["transfer"].append([name, seed, target, "fine_tuned", tuned, num_test])
                if name != "scratch":
                    svm = wobble(level - 0.09 + 1.4 * here, name + target + "svm", seed)
                    found["transfer"].append([name, seed, target, "svm", svm, num_test])
    found["targets"] = [["held_out", "photographs", 40, 20, 50, 1, "classification"],
                        ["held_out_natural", "photographs", 17, 20, 50, 1, "classification"],
                        ["world", "world", 40, 0, 0, 0, "classification"]]  # fmt: skip
    for name, (top1, top5) in NEIGHBOURS.items():
        for s in seeds:
            found["neighbours"].append([name, sizes[name], s, wobble(top1, name, s),
                                        wobble(top5, name, s), CLASSES, queries])  # fmt: skip
            found["siblings"] += [
                [name, sizes[name], s, level, k, wobble(share, name + level, s), chance]
                for level, (k, share, chance) in LEVELS.items()
            ]
    found["siblings"].append(["all", CLASSES, 0, "bottom-up 160", 160, "nan", "nan"])
    found["actions"] = [[name, s, action, wobble(0.5 + 0.05 * i, name + action, s)]
                        for name in ("all", "scratch")
                        for i, action in enumerate(ACTIONS) for s in seeds]  # fmt: skip
    found["timings"] = [["conditions", 3.0], ["neighbours", 125.5]]
    return found


def small_tables():
    """The same with one question of two conditions, and one target."""
    found = tables()
    names = ("all", "with target classes", "scratch")
    found["conditions"] = [line for line in found["conditions"] if line[0] == "overlap"]
    found["transfer"] = [n for n in found["transfer"] if n[0] in names and n[2] == "held_out"]
    return found


def wobble(value, name, seed):
    """A value with a deviation of a few tenths of a point that its name and the seed decide."""
    phase = sum(ord(letter) * (i + 1) for i, letter in enumerate(name)) % 97
    return round(value + 0.003 * math.sin(phase + 2.1 * seed) + 0.004 * (seed - 1), 6)


def hash_of(name, seed):
    return f"{sum(ord(c) * 31**i for i, c in enumerate(name)) % 2**56:014x}{seed:02d}"


def write_tables(directory, found):
    """Writes the .csv files of an analysis."""
    write_lines(directory, COLUMNS, found)


def write_workdir(directory, found=None, *, num_eval=8000, files=True):
    """results.csv, cells and analysis of the tables."""
    found = tables() if found is None else found
    rng = np.random.default_rng(0)
    description = to_json(build("alexnet_mini", num_classes=CLASSES))
    accuracy = {(n, s, t): a for n, s, t, m, a, _ in found["transfer"] if m == "fine_tuned"}
    rows = []
    for _, name, _, _, _, seed, hash, top1 in _bases(found):
        folder = directory / "cells" / hash
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cell.json").write_text(
            json.dumps({"num_eval": num_eval, "network": description})
        )
        if files and seed == 0:
            np.save(folder / "conv1.npy", first_layer(rng))
            _write_metrics(folder, rng, top1)
        rows.append(network("pretrained", f"{name} seed {seed}", "", 0, "A", "base", top1,
                            hash=hash))  # fmt: skip
    for (name, seed, target), top1 in accuracy.items():
        scratch = name == "scratch"
        hash = hash_of(name + target, seed)
        fields = ("scratch", f"{target} seed {seed}", "", 0, "B", "base") if scratch else (
            "fine_tuned", f"{name} to {target} seed {seed}", "A", 7, "B", "transfer_finetuned",
        )  # fmt: skip
        rows.append(network(*fields, top1, hash=hash))
        if files and (name, seed, target) in (("all", 0, "held_out"), ("scratch", 0, "held_out")):
            folder = directory / "cells" / hash
            folder.mkdir(parents=True)
            _write_metrics(folder, rng, top1)
    write_results(rows, directory / "results.csv")
    write_tables(directory, found)
    return rows


def _bases(found):
    seen = {}
    for question, name, value, seed, hash, classes, images, top1 in found["conditions"]:
        seen.setdefault(hash, (question, name, value, classes, images, seed, hash, top1))
    return seen.values()


def _write_metrics(folder, rng, top1):
    lines = learning_curve(rng, top1, CLASSES, 2000)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
