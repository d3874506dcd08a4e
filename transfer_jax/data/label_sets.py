"""Coarser labels for the same images (Huh et al. 2016, section 5.1): classes merged along a
hierarchy, or as published for the 1000 classes of ILSVRC2012.

  for level in bottom_up(class_hierarchy(dataset)):
      task = relabelled_task(f"{level.num_classes} classes", dataset, *level)
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import NamedTuple

import pandas as pd

HUH2016_BOTTOM_UP: tuple[str, ...] = tuple(
    f"down_up_{size}"
    for size in (977, 918, 877, 820, 753, 694, 596, 486, 345, 206, 79, 36, 17, 9, 5, 2)
)
"""The published label sets that merge from the bottom of WordNet up, each a coarsening of the one
before."""

HUH2016_TOP_DOWN: tuple[str, ...] = ("up_down_127", "up_down_10", "up_down_2")
"""Those of a fixed height above the classes. `up_down_127` is a coarsening of the bottom-up sets of
977 and 918 classes, but tears 1 to 10 classes of each set of 877 to 206 apart; `up_down_10` is one
of all sets down to 36; `up_down_2` equals `down_up_2`."""


class Level(NamedTuple):
    """Groups of classes: for each dataset class its group or -1, and what each group is called.

    Groups are numbered in the order in which the classes first come to them, so that equal
    partitions are equal, wherever they came from.
    """

    class_map: tuple[int, ...]
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """How many groups there are."""
        return len(self.class_names)


@functools.cache
def read_label_sets() -> pd.DataFrame:
    """The label sets of Huh et al. 2016: one row a wnid, in the order of the wnids, one column a
    label set, with integers that are equal where classes are merged."""
    with (resources.files("transfer_jax.data") / "huh2016_label_sets.csv").open() as file:
        table = pd.read_csv(file, index_col="wnid")
    return table[[*HUH2016_BOTTOM_UP, *HUH2016_TOP_DOWN]]


def published(
    class_names: Sequence[str], columns: Sequence[str], classes: Iterable[int] | None = None
) -> list[Level]:
    """The published label sets on a dataset whose class names are wnids, `classes` of it or all.

    On part of the 1000 classes a set has fewer groups than its name says; those that repeat the one
    before, or leave the classes as they are, or merge all of them, are left out.
    """
    table = read_label_sets()
    chosen = _chosen(class_names, classes)
    steps = ({i: f"{name}={table.at[class_names[i], name]}" for i in chosen} for name in columns)
    return _distinct(len(class_names), len(chosen), steps)


def bottom_up(paths: Sequence[Sequence[str]], classes: Iterable[int] | None = None) -> list[Level]:
    """Merges classes from the bottom of a tree up, level by level, fine to coarse.

    In each step every class at the deepest level that still has one is replaced by its parent; the
    others stay. Steps that merge nothing are passed over, and the last, which leaves one class.
    `paths` are those of all classes of a dataset, `classes` the ones that take part (None: all).
    """
    chosen = _chosen(paths, classes)
    deepest = max(len(paths[i]) for i in chosen) - 1
    # Steps 1 .. s together leave a class where it is, or lift it to depth deepest - s.
    steps = (
        {i: paths[i][min(depth, len(paths[i]) - 1)] for i in chosen}
        for depth in range(deepest, -1, -1)
    )
    return _distinct(len(paths), len(chosen), steps)


def top_down(paths: Sequence[Sequence[str]], classes: Iterable[int] | None = None) -> list[Level]:
    """Merges classes at a fixed height above them, fine to coarse.

    At height h every class is replaced by its ancestor h steps up, whatever its depth; where one
    such ancestor lies below another, the upper one takes its classes.
    """
    chosen = _chosen(paths, classes)
    shallowest = min(len(paths[i]) for i in chosen) - 1
    steps = []
    for height in range(1, shallowest):
        heads = {paths[i][-1 - height] for i in chosen}
        # The first head on the way down is the uppermost.
        steps.append({i: next(node for node in paths[i] if node in heads) for i in chosen})
    return _distinct(len(paths), len(chosen), steps)


def _chosen(every: Sequence, classes: Iterable[int] | None) -> list[int]:
    return list(range(len(every))) if classes is None else sorted(classes)


def _distinct(num_dataset_classes: int, size: int, steps: Iterable[dict[int, str]]) -> list[Level]:
    levels: dict[tuple[int, ...], Level] = {}
    for nodes in steps:
        numbers: dict[str, int] = {}
        class_map = [-1] * num_dataset_classes
        for index, node in nodes.items():
            class_map[index] = numbers.setdefault(node, len(numbers))
        if 1 < len(numbers) < size:
            levels.setdefault(tuple(class_map), Level(tuple(class_map), tuple(numbers)))
    return list(levels.values())
