"""The ways to pretrain of Huh et al. 2016, question by question."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

from ml_collections import ConfigDict

from transfer_jax.data.ancestor_splits import split_by_ancestors
from transfer_jax.data.label_sets import HUH2016_TOP_DOWN, read_label_sets
from transfer_jax.data.relabelling import (
    Relabelling,
    bottom_up,
    distinct,
    label_set_tasks,
    top_down,
)
from transfer_jax.data.splits import random_halves
from transfer_jax.data.subsets import budget_task
from transfer_jax.data.tasks import Task, subset_task, whole_task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.imported_base import imported_base
from transfer_jax.studies.huh2016_source import Source, everything
from transfer_jax.studies.settings import imported_from, integers, recipe_from


@dataclasses.dataclass(frozen=True)
class Condition:
    """One way to pretrain.

    Attributes:
      question: which question of the paper it belongs to, a key of `QUESTIONS`.
      name: what the report calls it.
      value: its place on the question's axis (images per class, classes), or None.
      task: what the network is pretrained on.
      base: the network itself, where it comes from a file; None where it is pretrained here.
    """

    question: str
    name: str
    value: float | None
    task: Task
    base: Cell | None = None


def all_conditions(config: ConfigDict, source: Source) -> list[Condition]:
    """All pretraining tasks, question by question; the same task may answer several."""
    return [
        condition
        for question, declare in QUESTIONS.items()
        for condition in declare(config, source, question)
    ]


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


def _imported(config, source, question) -> Iterator[Condition]:
    """Not in the paper: a network that was pretrained elsewhere, from a file."""
    found = imported_from(config, config.network)
    if found is not None:
        own = whole_task("A", source.dataset) if config.imported.same_classes else None
        base = imported_base(*found, recipe_from(config.recipe), task=own)
        yield Condition(question, "imported", None, base.task, base)


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
    "imported": _imported,
}
