"""The files that the analysis of Huh et al. 2016 leaves in a workdir's folder `analysis`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from transfer_jax.report import cell_files
from transfer_jax.report.analysis_files import Fraction, Timing, read_tables

ALL = "all"
"""The condition of all pretraining classes with all their images."""

IMPORTED = "imported"
"""The condition and the question of a network from a file."""

SCRATCH = "scratch"
"""In place of a condition: the same network trained on the target alone."""

MEASURES: Mapping[str, str] = {"fine_tuned": "fine-tuned", "svm": "linear SVM"}
"""What transfer.csv calls a measure of transfer -> what the report calls it; the first counts."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A network pretrained under one condition of one question; a line of conditions.csv.

    Attributes:
      question: 'images', 'classes', 'budget', 'overlap', 'halves', 'unrelated' or 'imported'.
      condition: such as '50 images a class', '10 classes bottom-up', 'all'.
      value: its place on the question's axis, where it has one.
      hash: names its folder in `cells`.
      num_classes, num_images: of its task; training images, where known.
      pretrain_top1: accuracy on its own task's validation images, where known.
    """

    question: str
    condition: str
    value: float | None
    seed: int
    hash: str
    num_classes: int
    num_images: int | None
    pretrain_top1: Fraction | None


@dataclasses.dataclass(frozen=True)
class Transferred:
    """A pretrained network on a target; a line of transfer.csv.

    Attributes:
      condition: as in conditions.csv, or 'scratch'.
      seed: of the pretraining and of the draw of the target's images.
      measure: a key of `MEASURES`.
      accuracy: mean of the classes' accuracies over num_test test images.
    """

    condition: str
    seed: int
    target: str
    measure: str
    accuracy: Fraction
    num_test: int


@dataclasses.dataclass(frozen=True)
class TargetTask:
    """What networks are transferred to; a line of targets.csv.

    Attributes:
      train_per_class, test_per_class: images drawn of each class; 0 or None for the dataset's own.
      from_pretraining_dataset: whether its classes are held-out ones of the pretraining dataset.
      kind: 'classification' or 'actions'.
    """

    target: str
    dataset: str
    num_classes: int
    train_per_class: int | None
    test_per_class: int | None
    from_pretraining_dataset: bool
    kind: str


@dataclasses.dataclass(frozen=True)
class Neighbours:
    """Nearest neighbours over the fine classes; a line of neighbours.csv.

    Attributes:
      num_classes: that the network was pretrained on.
      top1, top5: share of the queries whose class is that of the nearest training image, or of
        one of the five nearest.
    """

    condition: str
    num_classes: int
    seed: int
    top1: Fraction
    top5: Fraction
    fine_classes: int
    queries: int


@dataclasses.dataclass(frozen=True)
class Siblings:
    """Whether classes of one parent lie side by side; a line of siblings.csv.

    Attributes:
      num_classes: that the network was pretrained on.
      level: of the hierarchy, such as 'bottom-up 10'; level_classes its number of parents.
      share: of the classes with a sibling, those whose nearest other class has the same parent.
      chance: what a random other class would give.
    """

    condition: str
    num_classes: int
    seed: int
    level: str
    level_classes: int
    share: Fraction | None
    chance: Fraction | None


@dataclasses.dataclass(frozen=True)
class ActionPrecision:
    """Average precision of one action of VOC 2012, fine-tuned; a line of actions.csv."""

    condition: str
    seed: int
    action: str = dataclasses.field(metadata={"column": "class"})
    ap_area: Fraction


@dataclasses.dataclass(frozen=True)
class Analysis:
    """All tables of an analysis, each empty where its file is missing.

    Attributes:
      num_eval: hash -> validation images that a pretrained network is measured on, where known.
      others: the lines of the file of that name.
    """

    conditions: tuple[Pretrained, ...]
    transfer: tuple[Transferred, ...]
    targets: tuple[TargetTask, ...]
    neighbours: tuple[Neighbours, ...]
    siblings: tuple[Siblings, ...]
    actions: tuple[ActionPrecision, ...]
    timings: tuple[Timing, ...]
    num_eval: Mapping[str, int]

    def question(self, name: str) -> dict[str, Pretrained]:
        """The conditions of a question, in file order: name -> its first seed's line."""
        found: dict[str, Pretrained] = {}
        for line in self.conditions:
            if line.question == name:
                found.setdefault(line.condition, line)
        return found

    def target_names(self) -> list[str]:
        """Targets that something was transferred to: in the order of targets.csv, then others."""
        used = dict.fromkeys(line.target for line in self.transfer)
        declared = [line.target for line in self.targets if line.target in used]
        return list(dict.fromkeys([*declared, *used]))

    def measures(self, target: str) -> list[str]:
        """Measures of a target's transfer that were run, in the order of `MEASURES`."""
        run = {n.measure for n in self.transfer if n.target == target and n.condition != SCRATCH}
        return [measure for measure in MEASURES if measure in run]


def read_analysis(workdir: str | os.PathLike[str]) -> Analysis:
    """Reads all tables of a workdir's analysis; missing files leave theirs empty.

    Raises:
      AnalysisError: a column is missing or a value cannot be read; the message names the file,
        the line and what was expected.
    """
    kinds = {
        "conditions": Pretrained,
        "transfer": Transferred,
        "targets": TargetTask,
        "neighbours": Neighbours,
        "siblings": Siblings,
        "actions": ActionPrecision,
        "timings": Timing,
    }
    tables = read_tables(Path(workdir, "analysis"), kinds)
    num_eval = cell_files.read_integers(workdir, tables["conditions"], "num_eval")
    return Analysis(**tables, num_eval=num_eval)
