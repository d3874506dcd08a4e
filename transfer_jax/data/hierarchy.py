"""A hierarchy of classes: for each class the path of names from the root down to its own.

Merging classes and splitting them by ancestors read the paths alone.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence

from transfer_jax.data.dataset import Dataset
from transfer_jax.data.label_sets import HUH2016_BOTTOM_UP, read_label_sets
from transfer_jax.data.splits import ilsvrc_indices, read_table

Paths = tuple[tuple[str, ...], ...]


def class_hierarchy(dataset: Dataset, csv_path: str | os.PathLike | None = None) -> Paths:
    """One path from root to class for every class of a dataset, by what is known of them.

    A table of the user's comes first, one row an edge, with the columns `child` and `parent`; then
    the dataset's own class paths, each lengthened by the class's name where it ends above it; then,
    if all class names are ILSVRC2012 wnids, the bottom-up label sets of Huh et al. 2016. ValueError
    where nothing tells the hierarchy, or what should makes no tree or lacks a class.
    """
    if csv_path:
        return _paths_from_table(dataset.class_names, csv_path)
    if dataset.class_paths is not None:
        paths = tuple(
            tuple(path) if path[-1] == name else (*path, name)
            for path, name in zip(dataset.class_paths, dataset.class_names, strict=True)
        )
        parents_of(paths)
        return paths
    if unknown := [name for name in dataset.class_names if name not in ilsvrc_indices()]:
        raise ValueError(
            f"{dataset.name} has no class hierarchy, and {unknown[0]!r} is no wnid of ILSVRC2012: "
            "give a CSV with the columns child,parent"
        )
    return label_set_paths(dataset.class_names)


def label_set_paths(wnids: Sequence[str]) -> Paths:
    """Paths whose levels are the published bottom-up label sets under a root `all`: a node is
    called `column=label`."""
    table = read_label_sets().loc[list(wnids)]
    named = [f"{column}=" + table[column].astype(str) for column in reversed(HUH2016_BOTTOM_UP)]
    return tuple(("all", *path) for path in zip(*named, wnids, strict=True))


def parents_of(paths: Sequence[Sequence[str]]) -> dict[str, str]:
    """The parent of every node but the root; ValueError where the paths make no tree."""
    parents: dict[str, str] = {}
    for path in paths:
        if path[0] != paths[0][0] or path[0] in parents or len(set(path)) < len(path):
            raise ValueError(f"no tree with the root {paths[0][0]!r}: {' > '.join(path)}")
        for parent, child in itertools.pairwise(path):
            if parents.setdefault(child, parent) != parent:
                raise ValueError(f"{child!r} has two parents: {parents[child]!r} and {parent!r}")
    return parents


def relatives(paths: Sequence[Sequence[str]], classes: Iterable[int], depth: int) -> list[int]:
    """The classes that share with one of `classes` an ancestor at `depth`, the root's being 0; at a
    depth below all classes these themselves."""
    nodes = {tuple(paths[index][: depth + 1]) for index in classes}
    return [index for index, path in enumerate(paths) if tuple(path[: depth + 1]) in nodes]


def _paths_from_table(class_names: Sequence[str], csv_path: str | os.PathLike) -> Paths:
    edges = read_table(csv_path, "child", "parent").dropna().drop_duplicates()
    if twice := edges.child[edges.child.duplicated()].tolist():
        raise ValueError(f"{csv_path}: {twice[0]!r} has two parents")
    parents = dict(zip(edges.child, edges.parent, strict=True))
    paths = []
    for name in class_names:
        if name not in parents:
            raise ValueError(f"{csv_path} lacks the class {name!r}")
        path = [name]
        while path[-1] in parents:
            path.append(parents[path[-1]])
            if path[-1] in path[:-1]:
                raise ValueError(f"{csv_path} has a cycle: {' > '.join(reversed(path))}")
        paths.append(tuple(reversed(path)))
    parents_of(paths)
    return tuple(paths)
