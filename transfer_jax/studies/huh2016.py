"""Huh et al. 2016: the pretraining tasks of "What makes ImageNet good for transfer learning?".

Every condition is a task over one dataset. A network is pretrained on it and fine-tuned on each
target: its last layer is replaced, all layers learn. Conditions that are the same task, whatever
question asks for it, are one network.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

from ml_collections import ConfigDict

from transfer_jax.data.ancestor_splits import split_by_ancestors
from transfer_jax.data.dataset_spec import MULTILABEL_KINDS
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.folds import Fold, FoldedDataset, fold_dataset
from transfer_jax.data.hierarchy import Hierarchy, dataset_hierarchy
from transfer_jax.data.label_sets import HUH2016_TOP_DOWN, read_label_sets
from transfer_jax.data.relabelling import (
    Relabelling,
    bottom_up,
    distinct,
    label_set_tasks,
    top_down,
)
from transfer_jax.data.single_label import SingleLabelDataset
from transfer_jax.data.splits import man_made_natural, random_halves
from transfer_jax.data.subsets import budget_task, random_classes
from transfer_jax.data.tasks import Task, subset_task, whole_task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.run import Entry
from transfer_jax.studies.settings import (
    Opener,
    Work,
    asked_targets,
    integers,
    network_from,
    recipe_from,
)
from transfer_jax.transfer import Treatment


@dataclasses.dataclass(frozen=True)
class Condition:
    """One way to pretrain.

    Attributes:
      question: which question of the paper it belongs to, a key of `QUESTIONS`.
      name: what the report calls it.
      value: its place on the question's axis (images per class, classes), or None.
      task: what the network is pretrained on.
    """

    question: str
    name: str
    value: float | None
    task: Task


@dataclasses.dataclass(frozen=True)
class Target:
    """A task that pretrained networks are fine-tuned on.

    Attributes:
      name: as in the config.
      pool: the dataset that its images are drawn from.
      classes: classes of it that take part.
      settings: the target's fields of the config.
      splits: of the pool that images are drawn from; pretraining sees none of them.
    """

    name: str
    pool: Dataset | SingleLabelDataset
    classes: tuple[int, ...]
    settings: ConfigDict
    splits: tuple[str, ...]

    def asked_of(self, conditions: Sequence[Condition]) -> list[Condition]:
        """The conditions whose networks are tried on this target: those of its questions."""
        asked = self.settings.questions or tuple(QUESTIONS)
        return [condition for condition in conditions if condition.question in asked]

    def fold(self, seed: int) -> Dataset | FoldedDataset | SingleLabelDataset:
        """One draw of training and test images; the pool's own split where none are drawn."""
        if self.settings.train_per_class == 0:
            return self.pool
        return fold_dataset(
            self.pool,
            Fold(
                seed=seed,
                train_per_class=self.settings.train_per_class,
                test_per_class=self.settings.test_per_class,
                classes=self.classes,
                splits=self.splits,
            ),
        )


@dataclasses.dataclass(frozen=True)
class Source:
    """The pretraining dataset, and which of its classes are kept for targets.

    Attributes:
      dataset: what all pretraining tasks are over.
      hierarchy: in which its class names are nodes.
      pretraining: classes that pretraining may see.
      held_out: the others.
      natural, man_made: the same classes in two kinds; empty where that is not known.
      published: whether the hierarchy is that of the paper's label sets for ILSVRC2012.
    """

    dataset: Dataset
    hierarchy: Hierarchy
    pretraining: tuple[int, ...]
    held_out: tuple[int, ...]
    natural: frozenset[int]
    man_made: frozenset[int]
    published: bool = False


def source_of(config: ConfigDict, open_dataset: Opener) -> Source:
    """Opens the pretraining dataset and sets the held-out classes aside.

    Raises:
      ValueError: no hierarchy is known, or more classes are held out than there are.
    """
    dataset = open_dataset(config.dataset)
    hierarchy = dataset_hierarchy(dataset, config.hierarchy_csv or None)
    every = range(len(dataset.class_names))
    held_out = random_classes(len(every), config.held_out, config.seed) if config.held_out else []
    pretraining = tuple(sorted(set(every) - set(held_out)))
    if len(pretraining) < 2:
        raise ValueError(f"config.held_out={config.held_out} leaves {len(pretraining)} classes")
    man_made, natural = [], []
    if config.experiments.unrelated:
        csv_path = config.superclass_csv or None
        man_made, natural = man_made_natural(dataset.class_names, dataset.class_paths, csv_path)
    return Source(
        dataset=dataset,
        hierarchy=hierarchy,
        pretraining=pretraining,
        held_out=tuple(held_out),
        natural=frozenset(natural),
        man_made=frozenset(man_made),
        published=not config.hierarchy_csv and dataset.class_paths is None,
    )


def plan(config: ConfigDict, open_dataset: Opener) -> Work:
    """Every network that the config asks for: pretrained, fine-tuned, and trained from scratch.

    Args:
      config: see configs/huh2016.py.
      open_dataset: opens a dataset that the config describes.
    """
    source = source_of(config, open_dataset)
    wanted, seeds = list(targets(config, source, open_dataset)), integers(config.seeds, "seeds")
    declared = conditions(config, source)
    datasets = {source.dataset.name: source.dataset}
    entries: dict[tuple[str, str, str], Entry] = {}

    def add(experiment: str, split: str, cell: Cell) -> None:
        entries.setdefault((experiment, split, cell.name), (experiment, split, cell))

    for condition in declared:
        for seed in seeds:
            cell = base_cell(config, condition.task, seed)
            add("pretrained", f"{condition.name} seed {seed}", cell)
    for target in wanted:
        for seed in seeds:
            fold = target.fold(seed)
            datasets[fold.name] = fold
            for condition in target.asked_of(declared):
                base = base_cell(config, condition.task, seed)
                name = f"{condition.name} to {target.name} seed {seed}"
                add("fine_tuned", name, fine_tuned_cell(config, base, fold, seed))
            if config.experiments.scratch:
                add("scratch", f"{target.name} seed {seed}", scratch_cell(config, fold, seed))
    return Work(tuple(entries.values()), tuple(datasets.values()))


def base_cell(config: ConfigDict, task: Task, seed: int) -> Cell:
    """The network that is pretrained on a task."""
    network = network_from(config.network, task.num_classes)
    recipe = recipe_from(config.recipe)
    return Cell(network, task, Treatment.parse("baseA"), recipe, int(seed))


def fine_tuned_cell(config: ConfigDict, base: Cell, fold: Dataset, seed: int) -> Cell:
    """The pretrained network with a new last layer, all of it trained on a target (section 3)."""
    task = whole_task("B", fold)
    network = network_from(config.network, task.num_classes)
    recipe = recipe_from(config.recipe, **dict(config.fine_tune_recipe))
    treatment = Treatment("B", "A", len(network.layers) - 1, fine_tuned=True)
    return Cell(network, task, treatment, recipe, int(seed), base)


def scratch_cell(config: ConfigDict, fold: Dataset, seed: int) -> Cell:
    """The same network trained on the target alone, by the same recipe as the fine-tuned ones."""
    task = whole_task("B", fold)
    network = network_from(config.network, task.num_classes)
    recipe = recipe_from(config.recipe, **dict(config.fine_tune_recipe))
    return Cell(network, task, Treatment.parse("baseB"), recipe, int(seed))


def targets(config: ConfigDict, source: Source, open_dataset: Opener) -> Iterator[Target]:
    """The targets that the config asks for.

    Raises:
      ValueError: for a target or set of classes that there is not.
    """
    for name, settings in asked_targets(config):
        if unknown := set(settings.questions) - set(QUESTIONS):
            raise ValueError(
                f"config.targets.{name}.questions holds {sorted(unknown)}; expected some of "
                f"{sorted(QUESTIONS)}"
            )
        kinds = {
            "held_out": set(source.held_out),
            "held_out_natural": set(source.held_out) & source.natural,
        }
        if settings.classes == "held_out_natural" and not config.experiments.unrelated:
            raise ValueError(
                f"config.targets.{name}.classes='held_out_natural': expected "
                "config.experiments.unrelated=True, without which natural is not told from man-made"
            )
        if settings.classes in kinds:
            # Pretraining learns from 'train': the target's images are others, whatever the class.
            pool, classes, splits = source.dataset, kinds[settings.classes], ("val",)
        elif settings.classes == "all":
            if settings.dataset.kind in MULTILABEL_KINDS:
                pool = SingleLabelDataset(open_dataset(settings.dataset, multilabel=True))
            else:
                pool = open_dataset(settings.dataset)
            classes, splits = range(len(pool.class_names)), ("train", "val")
        else:
            raise ValueError(
                f"config.targets.{name}.classes={settings.classes!r}: expected 'all' or one of "
                f"{sorted(kinds)}"
            )
        if settings.train_per_class == 0 and settings.classes in kinds:
            raise ValueError(
                f"config.targets.{name}.train_per_class=0 takes a dataset's own splits: expected "
                f"at least 1 with classes={settings.classes!r}"
            )
        if len(classes) < 2:
            raise ValueError(
                f"config.targets.{name}: {len(classes)} classes of {pool.name} are left for it; "
                f"hold out more than config.held_out={config.held_out}"
            )
        yield Target(name, pool, tuple(sorted(classes)), settings, splits)


def conditions(config: ConfigDict, source: Source) -> list[Condition]:
    """All pretraining tasks, question by question; the same task may answer several."""
    return [
        condition
        for question, declare in QUESTIONS.items()
        for condition in declare(config, source, question)
    ]


def everything(source: Source) -> Task:
    """The task of all pretraining classes with all their images."""
    return subset_task("A", source.dataset, source.pretraining)


def _images(config, source, question) -> Iterator[Condition]:
    """Question 1, section 4: how many pretraining images are needed?"""
    for count in integers(config.experiments.images_per_class, "experiments.images_per_class"):
        task = subset_task("A", source.dataset, source.pretraining, images_per_class=count)
        yield Condition(question, f"{count} images a class", count, task)
    if config.experiments.images_per_class:
        yield Condition(question, "all", _images_each(source), everything(source))


def relabellings(source: Source, kind: str) -> list[Relabelling]:
    """The pretraining classes merged to fewer and fewer, by 'bottom_up' or 'top_down' merging.

    The tree of ILSVRC2012 is that of the paper's bottom-up label sets, from which its top-down ones
    do not follow: they are read from its table.
    """
    if kind == "top_down" and source.published:
        table = read_label_sets(columns=HUH2016_TOP_DOWN)
        levels = distinct(
            label_set_tasks(table, source.dataset, classes=source.pretraining).values()
        )
        return [level for level in levels if level.num_classes < len(source.pretraining)]
    merge = {"bottom_up": bottom_up, "top_down": top_down}[kind]
    return merge(source.hierarchy, source.dataset, classes=source.pretraining)


def _classes(config, source, question) -> Iterator[Condition]:
    """Questions 2 and 3, section 5.1: how many pretraining classes, and how fine, are needed?"""
    wanted = config.experiments.classes
    if not (wanted.bottom_up or wanted.top_down):
        return
    yield Condition(question, "all", len(source.pretraining), everything(source))
    for kind in ("bottom_up", "top_down"):
        sizes = {level.num_classes: level for level in relabellings(source, kind)}
        asked = tuple(sizes) if tuple(wanted[kind]) == ("all",) else wanted[kind]
        for size in asked:
            if size not in sizes:
                raise ValueError(
                    f"config.experiments.classes.{kind} holds {size!r}; there are {sorted(sizes)}"
                )
            label = kind.replace("_", "-")
            yield Condition(question, f"{size} classes {label}", size, sizes[size].task)


def _budget(config, source, question) -> Iterator[Condition]:
    """Question 4, section 5.5: more classes or more images of each?"""
    wanted = config.experiments.budget
    for count in integers(wanted.num_classes, "experiments.budget.num_classes"):
        name = f"{count} classes of {wanted.total_images // count} images"
        task = budget_task(
            "A", source.dataset, count, wanted.total_images, config.seed, classes=source.pretraining
        )
        yield Condition(question, name, count, task)


def _overlap(config, source, question) -> Iterator[Condition]:
    """Question 5, section 5.6: what if the target's classes are pretrained on?"""
    if config.experiments.overlap:
        yield Condition(question, "all", 0, everything(source))
        yield Condition(question, "with target classes", 1, whole_task("A", source.dataset))


def _halves(config, source, question) -> Iterator[Condition]:
    """Question 6, section 6: does the other half of the classes help, near or far?"""
    sides = config.experiments.halves
    if unknown := set(sides) - {"A", "B"}:
        raise ValueError(
            f"config.experiments.halves holds {sorted(unknown)}: expected some of 'A', 'B'"
        )
    if not sides:
        return
    names = [source.dataset.class_names[i] for i in source.pretraining]
    for kind, halves in (
        ("random", random_halves(len(names), config.seed)),
        ("apart", split_by_ancestors(source.hierarchy, names, config.seed)),
    ):
        for side in sides:
            half = halves["AB".index(side)]
            classes = [source.pretraining[i] for i in half]
            task = subset_task("A", source.dataset, classes)
            yield Condition(question, f"half {kind} {side}", None, task)
    yield Condition(question, "all", None, everything(source))


def _unrelated(config, source, question) -> Iterator[Condition]:
    """Question 7, section 6: do unrelated classes help a target of natural things?"""
    if not config.experiments.unrelated:
        return
    for kind, members in (("natural", source.natural), ("man-made", source.man_made)):
        classes = [c for c in source.pretraining if c in members]
        yield Condition(question, f"{kind} only", None, subset_task("A", source.dataset, classes))
    yield Condition(question, "all", None, everything(source))


def _images_each(source: Source) -> float:
    labels = source.dataset.labels("train")
    return sum(int((labels == c).sum()) for c in source.pretraining) / len(source.pretraining)


QUESTIONS: dict[str, Callable[..., Iterator[Condition]]] = {
    "images": _images,
    "classes": _classes,
    "budget": _budget,
    "overlap": _overlap,
    "halves": _halves,
    "unrelated": _unrelated,
}
