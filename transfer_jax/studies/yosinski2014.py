"""Yosinski et al. 2014: the cells of "How transferable are features in deep neural networks?"."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from ml_collections import ConfigDict

from transfer_jax.data.datasets import Dataset
from transfer_jax.data.splits import man_made_natural, random_halves
from transfer_jax.data.tasks import Task, subset_task, whole_task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.imported_base import imported_base
from transfer_jax.grid.run import Entry
from transfer_jax.studies.settings import (
    Opener,
    Work,
    imported_from,
    integers,
    network_from,
    recipe_from,
)
from transfer_jax.training.recipe import Recipe
from transfer_jax.transfer import Treatment

TREATMENTS = (
    "selffer_frozen",
    "transfer_frozen",
    "selffer_finetuned",
    "transfer_finetuned",
)


def plan(config: ConfigDict, open_dataset: Opener) -> Work:
    """Every network that the config asks for, over its one dataset; see `entries`."""
    imported_from(config, config.network)  # A wrong file comes out before a dataset is prepared.
    dataset = open_dataset(config.dataset)
    return Work(tuple(entries(config, dataset)), (dataset,))


def entries(config: ConfigDict, dataset: Dataset) -> list[Entry]:
    """Every cell that the config asks for, with the experiment and split that it belongs to.

    Args:
      config: see configs/yosinski2014.py; its `experiments` say which cells.
      dataset: the dataset of all tasks.

    Returns:
      (experiment, split, cell), each once; bases come before the cells that copy them.

    Raises:
      ValueError: for a treatment, task or n that there is not.
    """
    recipe = recipe_from(config.recipe)
    found = [
        *_random_halves(config, dataset, recipe),
        *_man_natural(config, dataset, recipe),
        *_random_weights(config, dataset, recipe),
        *_images_per_class(config, dataset),
        *_imported(config, dataset, recipe),
    ]
    if not found:
        raise ValueError("config.experiments asks for no cell at all")
    return list(dict.fromkeys(found))


def _random_halves(config, dataset, recipe) -> Iterator[Entry]:
    """Section 4.1: halves of the classes drawn at random, once per split."""
    wanted = config.experiments.random_halves
    for split in integers(wanted.splits, "experiments.random_halves.splits"):
        tasks = _pair(dataset, random_halves(len(dataset.class_names), split))
        cells = _directions(config, tasks, recipe, split, wanted)
        yield from (("random_halves", str(split), cell) for cell in cells)


def _man_natural(config, dataset, recipe) -> Iterator[Entry]:
    """Section 4.2: A holds the man-made classes, B the natural ones."""
    wanted = config.experiments.man_natural
    if not wanted.targets:
        return
    csv_path = wanted.superclass_csv or None
    sides = man_made_natural(dataset.class_names, dataset.class_paths, csv_path)
    cells = _directions(config, _pair(dataset, sides), recipe, config.seed, wanted)
    yield from (("man_natural", "natman", cell) for cell in cells)


def _random_weights(config, dataset, recipe) -> Iterator[Entry]:
    """Section 4.3: lower layers frozen at random values; the task is the whole dataset, or a half
    of split 0."""
    wanted = config.experiments.random_weights
    if not wanted.ns:
        return
    letter = wanted.task
    task = _whole_or_half(dataset, letter, "random_weights")
    seed, split = (config.seed, "whole") if letter == "W" else (0, "0")
    for treatment in (f"base{letter}", *(f"R{n}{letter}" for n in wanted.ns)):
        yield "random_weights", split, _cell(config, task, treatment, recipe, seed)


def _images_per_class(config, dataset) -> Iterator[Entry]:
    """Supplement: bases trained on the first images of each class, by a recipe of their own."""
    wanted = config.experiments.images_per_class
    recipe = recipe_from(config.recipe, **dict(wanted.recipe))
    for count in integers(wanted.counts, "experiments.images_per_class.counts"):
        task = whole_task("W", dataset, images_per_class=count)
        cell = _cell(config, task, "baseW", recipe, config.seed)
        yield "images_per_class", str(count), cell


def _imported(config, dataset, recipe) -> Iterator[Entry]:
    """Not in the paper: base A comes from a file, and B is the whole dataset, or a half of split 0.

    Base B, trained from random weights, is what its copies are compared with.
    """
    found = imported_from(config, config.network)
    if found is None:
        return
    wanted, (imported, network) = config.experiments.imported, found
    _check_treatments(wanted.treatments)
    task = _whole_or_half(dataset, wanted.task, "imported")
    task = dataclasses.replace(task, name="B")
    split = "whole" if wanted.task == "W" else f"half {wanted.task}"
    own = whole_task("A", dataset) if config.imported.same_classes else None
    base_a = imported_base(imported, network, recipe, task=own, seed=config.seed)
    base_b = _cell(config, task, "baseB", recipe, config.seed)
    cells = _towards("B", task, {"A": base_a, "B": base_b}, config, recipe, wanted)
    for cell in (base_a, base_b, *cells):
        yield "imported", split, cell


def _whole_or_half(dataset: Dataset, letter: str, experiment: str) -> Task:
    if letter == "W":
        return whole_task("W", dataset)
    if letter in ("A", "B"):
        return _pair(dataset, random_halves(len(dataset.class_names), 0))[letter]
    raise ValueError(f"config.experiments.{experiment}.task={letter!r}: expected 'W', 'A' or 'B'")


def _pair(dataset: Dataset, halves) -> dict[str, Task]:
    return {
        name: subset_task(name, dataset, classes)
        for name, classes in zip(("A", "B"), halves, strict=True)
    }


def _directions(config, tasks: dict[str, Task], recipe: Recipe, seed: int, wanted):
    """Both bases, and the wanted treatments towards each wanted target."""
    _check_treatments(wanted.treatments)
    for target in wanted.targets:
        if target not in tasks:
            raise ValueError(
                f"config.experiments: target {target!r} is unknown; expected 'A' or 'B'"
            )
    bases = {t: _cell(config, tasks[t], f"base{t}", recipe, seed) for t in tasks}
    if wanted.targets:
        yield from bases.values()
    for target in wanted.targets:
        yield from _towards(target, tasks[target], bases, config, recipe, wanted)


def _check_treatments(treatments: Sequence[str]) -> None:
    for treatment in treatments:
        if treatment not in TREATMENTS:
            raise ValueError(
                f"config.experiments: treatment {treatment!r} is unknown; expected some of "
                f"{TREATMENTS}"
            )


def _towards(target: str, task: Task, bases: dict[str, Cell], config, recipe, wanted):
    """The wanted treatments towards one task, from the bases of both."""
    other, seed = "B" if target == "A" else "A", bases[target].seed
    for treatment in wanted.treatments:
        source = target if treatment.startswith("selffer") else other
        plus = "+" if treatment.endswith("finetuned") else ""
        for n in wanted.ns:
            name = f"{source}{n}{target}{plus}"
            yield _cell(config, task, name, recipe, seed, bases[source])


def _cell(config, task: Task, treatment: str, recipe: Recipe, seed: int, source=None) -> Cell:
    network = network_from(config.network, task.num_classes)
    return Cell(network, task, Treatment.parse(treatment), recipe, int(seed), source)
