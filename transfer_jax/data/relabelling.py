"""Coarser labels for the same images (Huh et al. 2016, section 5.1).

Every function returns `Relabelling`s: a task over the same records, and what its classes are.
"""

import dataclasses
from collections.abc import Iterable, Sequence

from transfer_jax.data.hierarchy import Hierarchy
from transfer_jax.data.label_sets import LabelSets
from transfer_jax.data.tasks import HasClasses, Task


@dataclasses.dataclass(frozen=True)
class Relabelling:
    """A task whose classes are groups of a dataset's classes.

    Attributes:
      task: the task. Its classes are numbered in the order in which the dataset's classes first
        come to them, so that equal partitions make equal tasks, wherever they came from.
      class_names: what each class of the task is: the node of the hierarchy, or `column=label`.
    """

    task: Task
    class_names: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """How many classes the task tells apart."""
        return self.task.num_classes


def bottom_up(
    hierarchy: Hierarchy,
    dataset: HasClasses,
    *,
    classes: Iterable[int] | None = None,
    images_per_class: int | None = None,
    prefix: str = "bottom_up",
) -> list[Relabelling]:
    """Merges classes from the bottom of a tree up, level by level (Huh et al. 2016, section 5.1).

    In each step every class at the deepest level that still has one is replaced by its parent; the
    others stay. A step that merges nothing is passed over, and so is the last one, which leaves a
    single class.

    Args:
      hierarchy: a tree in which the class names are nodes.
      dataset: a `Dataset` (its `name` and `class_names` are read).
      classes: the dataset classes that take part; None takes all.
      images_per_class: see `Task`: it counts images of each dataset class, before merging.
      prefix: the tasks are called `<prefix>_<number of classes>`.

    Returns:
      From fine to coarse; each has fewer classes than the one before and is a coarsening of it. The
      classes themselves, before any step, are not among them.

    Raises:
      ValueError: a class name is no node of the tree.

    Example:
      for level in bottom_up(dataset_hierarchy(dataset), dataset):
          print(level.num_classes, level.class_names)
    """
    chosen = _paths(hierarchy, dataset, classes)
    deepest = max(map(len, chosen.values())) - 1
    # Steps 1 .. s together leave a class where it is, or lift it to depth deepest - s.
    levels = (
        _relabel(
            prefix,
            dataset,
            {index: path[min(depth, len(path) - 1)] for index, path in chosen.items()},
            images_per_class,
        )
        for depth in range(deepest, -1, -1)
    )
    return _named_by_size(prefix, distinct(levels)[1:])


def top_down(
    hierarchy: Hierarchy,
    dataset: HasClasses,
    *,
    classes: Iterable[int] | None = None,
    images_per_class: int | None = None,
    prefix: str = "top_down",
) -> list[Relabelling]:
    """Merges classes at a fixed height above them (Huh et al. 2016, section 5.1).

    At height h every class is replaced by its ancestor h steps up, whatever its depth; where one
    such ancestor lies below another, the upper one takes its classes. Heights 1, 2, ... are tried
    until a single class is left: a class of small depth ends this soon, which is why the paper has
    three such sets of the classes of ImageNet against sixteen bottom-up ones.

    Args:
      hierarchy: a tree in which the class names are nodes.
      dataset: a `Dataset` (its `name` and `class_names` are read).
      classes: the dataset classes that take part; None takes all.
      images_per_class: see `Task`: it counts images of each dataset class, before merging.
      prefix: the tasks are called `<prefix>_<number of classes>`.

    Returns:
      From fine to coarse; each has fewer classes than the one before and is a coarsening of it.

    Raises:
      ValueError: a class name is no node of the tree.
    """
    chosen = _paths(hierarchy, dataset, classes)
    shallowest = min(map(len, chosen.values())) - 1
    levels = []
    for height in range(1, shallowest):
        heads = {path[-1 - height] for path in chosen.values()}
        # The first head on the way down is the uppermost.
        nodes = {
            index: next(node for node in path if node in heads) for index, path in chosen.items()
        }
        levels.append(_relabel(prefix, dataset, nodes, images_per_class))
    return [
        level
        for level in _named_by_size(prefix, distinct(levels))
        if level.num_classes < len(chosen)
    ]


def cut_at_depth(
    name: str,
    hierarchy: Hierarchy,
    dataset: HasClasses,
    depth: int,
    *,
    classes: Iterable[int] | None = None,
    images_per_class: int | None = None,
) -> Relabelling:
    """Labels every class by its ancestor at one depth, or by itself where it is not that deep.

    Args:
      name: what reports call the task.
      hierarchy: a tree in which the class names are nodes.
      dataset: a `Dataset` (its `name` and `class_names` are read).
      depth: in steps below the root, at least 0; 0 makes one class of everything.
      classes: the dataset classes that take part; None takes all.
      images_per_class: see `Task`.

    Raises:
      ValueError: a negative depth, or a class name is no node of the tree.

    Example:
      kingdoms = cut_at_depth("kingdoms", dataset_hierarchy(world), world, 1)
    """
    if depth < 0:
        raise ValueError(f"depth must be at least 0, got {depth}")
    chosen = _paths(hierarchy, dataset, classes)
    nodes = {index: path[min(depth, len(path) - 1)] for index, path in chosen.items()}
    return _relabel(name, dataset, nodes, images_per_class)


def label_set_tasks(
    label_sets: LabelSets,
    dataset: HasClasses,
    *,
    classes: Iterable[int] | None = None,
    images_per_class: int | None = None,
) -> dict[str, Relabelling]:
    """A task for every column of a table of label sets.

    Args:
      label_sets: the table; classes of it that the dataset does not have are passed over, so that
        a column may have fewer classes here than its name says.
      dataset: a `Dataset` whose class names are those of the table (wnids); of Tiny ImageNet's 200
        classes the table of Huh et al. 2016 makes 199, 199, 192, ..., 2, 1.
      classes: the dataset classes that take part; None takes all.
      images_per_class: see `Task`: it counts images of each dataset class, before merging.

    Returns:
      By column name, in the table's order; the task is called like the column. On part of the
      classes two columns may be the same, or have a single class: `distinct` drops those.

    Raises:
      ValueError: the table lacks a class that takes part.

    Example:
      levels = distinct(label_set_tasks(read_label_sets(), dataset).values())
    """
    chosen = _chosen(dataset, classes)
    row = {name: index for index, name in enumerate(label_sets.classes)}
    missing = [name for name in chosen.values() if name not in row]
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"the label sets lack {len(missing)} of the {len(chosen)} classes of "
            f"{dataset.name}: {shown}"
        )
    return {
        column: _relabel(
            column,
            dataset,
            {index: f"{column}={labels[row[name]]}" for index, name in chosen.items()},
            images_per_class,
        )
        for column, labels in zip(label_sets.columns, label_sets.values, strict=True)
    }


def distinct(levels: Iterable[Relabelling]) -> list[Relabelling]:
    """Leaves out relabellings with a single class, and those that repeat an earlier one.

    Args:
      levels: in any order, which is kept.
    """
    kept: dict[tuple[int, ...], Relabelling] = {}
    for level in levels:
        if level.num_classes > 1:
            kept.setdefault(level.task.class_map, level)
    return list(kept.values())


def _named_by_size(prefix: str, levels: Sequence[Relabelling]) -> list[Relabelling]:
    return [
        dataclasses.replace(
            level, task=dataclasses.replace(level.task, name=f"{prefix}_{level.num_classes}")
        )
        for level in levels
    ]


def _chosen(dataset: HasClasses, classes: Iterable[int] | None) -> dict[int, str]:
    """Names of the classes that take part, by index."""
    names = dataset.class_names
    if classes is None:
        return dict(enumerate(names))
    chosen = sorted({int(index) for index in classes})
    outside = [index for index in chosen if not 0 <= index < len(names)]
    if not chosen or outside:
        raise ValueError(
            f"classes must be some of the {len(names)} classes (0 .. {len(names) - 1}) of "
            f"{dataset.name!r}, got {outside[0] if outside else 'none'}"
        )
    return {index: names[index] for index in chosen}


def _paths(
    hierarchy: Hierarchy, dataset: HasClasses, classes: Iterable[int] | None
) -> dict[int, tuple[str, ...]]:
    chosen = _chosen(dataset, classes)
    hierarchy.require(chosen.values())
    return {index: hierarchy.path(name) for index, name in chosen.items()}


def _relabel(
    name: str, dataset: HasClasses, nodes: dict[int, str], images_per_class: int | None
) -> Relabelling:
    numbers: dict[str, int] = {}
    class_map = [-1] * len(dataset.class_names)
    for index in sorted(nodes):
        class_map[index] = numbers.setdefault(nodes[index], len(numbers))
    task = Task(name, dataset.name, tuple(class_map), images_per_class)
    return Relabelling(task, tuple(numbers))
