"""A hierarchy of classes, as data: a tree over names, from a table or from a dataset.

`transfer_jax.data.wordnet` reads one from WordNet.
"""

import csv
import dataclasses
import functools
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

from transfer_jax.data.label_sets import HUH2016_BOTTOM_UP, LabelSets, read_label_sets
from transfer_jax.data.splits import ilsvrc_indices
from transfer_jax.data.tasks import HasClasses


@dataclasses.dataclass(frozen=True)
class Hierarchy:
    """A tree over names. Classes are nodes of it, mostly but not necessarily its leaves.

    Attributes:
      edges: one `(child, parent)` for every node but the root, in any order and kept sorted.

    Raises:
      ValueError: no edges, an empty name, a node with two parents, a cycle, or several roots; the
        message names them.

    Example:
      >>> tree = Hierarchy((("cat", "mammal"), ("dog", "mammal"), ("mammal", "animal")))
      >>> tree.path("cat")
      ('animal', 'mammal', 'cat')
      >>> tree.leaves
      ('cat', 'dog')
    """

    edges: tuple[tuple[str, str], ...]

    def __post_init__(self):
        parents: dict[str, str] = {}
        for child, parent in self.edges:
            if not child or not parent:
                raise ValueError(f"a name is empty in the edge {child!r} -> {parent!r}")
            if parents.setdefault(child, parent) != parent:
                raise ValueError(f"{child!r} has two parents: {parents[child]!r} and {parent!r}")
        if not parents:
            raise ValueError("a hierarchy needs at least one edge")
        cycle = _find_cycle(parents)
        if cycle:
            raise ValueError(f"the hierarchy has a cycle: {' -> '.join(cycle)}")
        roots = sorted(set(parents.values()) - parents.keys())
        if len(roots) > 1:
            raise ValueError(f"the hierarchy has {len(roots)} roots: {_few(roots)}")
        object.__setattr__(self, "edges", tuple(sorted(parents.items())))

    @functools.cached_property
    def _parents(self) -> dict[str, str]:
        return dict(self.edges)

    @functools.cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        children: dict[str, list[str]] = {}
        for child, parent in self.edges:
            children.setdefault(parent, []).append(child)
        return {parent: tuple(names) for parent, names in children.items()}

    @functools.cached_property
    def root(self) -> str:
        """The node that all others lie under."""
        return next(iter(self._children.keys() - self._parents.keys()))

    @functools.cached_property
    def leaves(self) -> tuple[str, ...]:
        """The nodes without children, in alphabetical order."""
        return tuple(sorted(self._parents.keys() - self._children.keys()))

    def __contains__(self, name: object) -> bool:
        return name in self._parents or name == self.root

    def parent(self, node: str) -> str | None:
        """The node right above, or None for the root; ValueError for a name that is no node."""
        self.require([node])
        return self._parents.get(node)

    def children(self, node: str) -> tuple[str, ...]:
        """The nodes right below, in alphabetical order; ValueError for a name that is no node."""
        self.require([node])
        return self._children.get(node, ())

    def path(self, node: str) -> tuple[str, ...]:
        """From the root down to the node itself; ValueError for a name that is no node."""
        self.require([node])
        upwards = [node]
        while upwards[-1] != self.root:
            upwards.append(self._parents[upwards[-1]])
        return tuple(reversed(upwards))

    def depth(self, node: str) -> int:
        """How many steps the node lies below the root."""
        return len(self.path(node)) - 1

    def require(self, names: Iterable[str]):
        """Raises ValueError if a name is no node of the tree, and names those that are not."""
        unknown = [name for name in names if name not in self]
        if unknown:
            raise ValueError(
                f"the hierarchy under {self.root!r} does not know {len(unknown)} "
                f"name{'s' if len(unknown) > 1 else ''}: {_few(unknown)}"
            )

    def classes_under(self, class_names: Sequence[str], nodes: str | Sequence[str]) -> list[int]:
        """Which classes are, or lie below, some nodes: a superclass, or what a target also has.

        Args:
          class_names: the dataset's class names.
          nodes: one name, or several.

        Returns:
          Sorted indices into `class_names`; empty if none lies there.

        Raises:
          ValueError: a name is no node of the tree.

        Example:
          >>> tree = Hierarchy((("cat", "mammal"), ("owl", "bird"),
          ...                   ("mammal", "animal"), ("bird", "animal")))
          >>> tree.classes_under(["owl", "cat"], "mammal")
          [1]
        """
        wanted = {nodes} if isinstance(nodes, str) else set(nodes)
        self.require([*sorted(wanted), *class_names])
        return [i for i, name in enumerate(class_names) if wanted.intersection(self.path(name))]


def read_hierarchy(csv_path: str | os.PathLike) -> Hierarchy:
    """Reads a tree from a table with one row per edge.

    Args:
      csv_path: a CSV file with a header that names at least the columns `child` and `parent`.
        Other columns are passed over; a row that is there twice counts once.

    Returns:
      The hierarchy.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the header or a line (named by number) is not as it should be, or the edges make
        no tree.
    """
    edges = []
    with open(csv_path, newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file, skipinitialspace=True)
        found = rows.fieldnames or []
        if not {"child", "parent"} <= set(found):
            raise ValueError(
                f"{csv_path}, line 1: the header must name the columns child and parent; "
                f"found {','.join(found)!r}"
            )
        for row in rows:
            edge = ((row["child"] or "").strip(), (row["parent"] or "").strip())
            if not all(edge):
                raise ValueError(
                    f"{csv_path}, line {rows.line_num}: child and parent must not be empty, got "
                    f"{','.join(edge)!r} (the root has no row of its own)"
                )
            edges.append(edge)
    return _made_from(csv_path, edges)


def hierarchy_from_paths(class_paths: Iterable[Sequence[str]]) -> Hierarchy:
    """The tree that some paths make.

    Args:
      class_paths: paths from the root down, as `Dataset.class_paths` and the embedded world's
        `class_paths()` are. All start at one root, and a name stands for one node.

    Raises:
      ValueError: the paths make no tree; the message names where they contradict each other.

    Example:
      >>> hierarchy_from_paths([("animal", "cat"), ("animal", "owl")]).leaves
      ('cat', 'owl')
    """
    edges = ((low, high) for path in class_paths for high, low in itertools.pairwise(path))
    return _made_from("class paths", edges)


def hierarchy_from_label_sets(
    label_sets: LabelSets, columns: Sequence[str] | None = None
) -> Hierarchy:
    """The tree whose levels are columns of a table of label sets.

    The classes are the leaves, all at one depth. Above each stands its value in the first column,
    above that its value in the second, ..., and above everything the root `all`. A node is called
    `column=value`.

    Args:
      label_sets: the table.
      columns: from fine to coarse; None takes all of the table in its order.

    Raises:
      ValueError: a column is not there, or is no coarsening of the one before it (the message names
        a class of the finer one that is torn apart).

    Example:
      tree = hierarchy_from_label_sets(read_label_sets(), HUH2016_BOTTOM_UP)
    """
    columns = label_sets.columns if columns is None else tuple(columns)
    label_sets.require_nested(columns)
    values = [label_sets.column(name) for name in columns]
    coarse_first = range(len(columns) - 1, -1, -1)
    return hierarchy_from_paths(
        ("all", *(f"{columns[c]}={values[c][i]}" for c in coarse_first), name)
        for i, name in enumerate(label_sets.classes)
    )


def dataset_hierarchy(dataset: HasClasses, csv_path: str | os.PathLike | None = None) -> Hierarchy:
    """The hierarchy that a dataset's classes are nodes of, by what is known of them.

    A CSV given by the user comes first, then the dataset's own class paths, then, if all class
    names are ILSVRC2012 wnids, the bottom-up label sets of Huh et al. 2016.

    Args:
      dataset: a `Dataset`; its `class_names` are read and, if it has them, its `class_paths`. A
        path that does not end in the class's name is lengthened by it.
      csv_path: a table as read by `read_hierarchy`, or None.

    Returns:
      A hierarchy in which every class name is a node.

    Raises:
      ValueError: nothing tells the hierarchy, or what should do so makes no tree or lacks classes.
    """
    if csv_path is not None and str(csv_path):
        hierarchy = read_hierarchy(csv_path)
        hierarchy.require(dataset.class_names)
        return hierarchy
    paths = getattr(dataset, "class_paths", None)
    if paths is not None:
        return hierarchy_from_paths(
            path if path[-1] == name else (*path, name)
            for path, name in zip(paths, dataset.class_names, strict=True)
        )
    unknown = [name for name in dataset.class_names if name not in ilsvrc_indices()]
    if unknown:
        raise ValueError(
            f"{dataset.name} has no class hierarchy, and {len(unknown)} of its "
            f"{len(dataset.class_names)} class names are not ILSVRC2012 wnids ({_few(unknown)}): "
            "give a CSV with the columns child,parent"
        )
    return _ilsvrc_hierarchy()


@functools.cache
def _ilsvrc_hierarchy() -> Hierarchy:
    return hierarchy_from_label_sets(read_label_sets(), HUH2016_BOTTOM_UP)


def _made_from(source: str | os.PathLike, edges: Iterable[tuple[str, str]]) -> Hierarchy:
    try:
        return Hierarchy(tuple(edges))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def _find_cycle(parents: Mapping[str, str]) -> list[str]:
    """A cycle as `[a, b, ..., a]`, child before parent, or an empty list."""
    sound: set[str] = set()
    for start in sorted(parents):
        way = list(_upwards(start, parents, sound))
        if way and way[-1] in way[:-1]:
            return way[way.index(way[-1]) :]
        sound.update(way)
    return []


def _upwards(node: str, parents: Mapping[str, str], sound: set[str]) -> Iterator[str]:
    """The way up to a root or a sound node; in a cycle it ends with the first repeated node."""
    passed: set[str] = set()
    while node in parents and node not in sound:
        yield node
        if node in passed:
            return
        passed.add(node)
        node = parents[node]


def _few(things: Sequence[str]) -> str:
    shown = ", ".join(repr(thing) for thing in things[:5])
    return shown if len(things) <= 5 else f"{shown}, ..."
