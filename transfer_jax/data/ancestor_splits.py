"""Halves of the classes that share as few ancestors as can be (Huh et al. 2016, section 6).

A split that keeps whole subtrees together makes the other half's images as unrelated as the
hierarchy allows; `splits.random_halves` is what it is compared with.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from transfer_jax.data.hierarchy import Hierarchy

_NEVER = np.iinfo(np.int32).max // 2


def shared_ancestors(
    hierarchy: Hierarchy, classes_a: Sequence[str], classes_b: Sequence[str]
) -> set[str]:
    """The nodes that have classes of both halves under them.

    A class that is no leaf counts as lying under itself.

    Args:
      hierarchy: a tree in which the class names are nodes.
      classes_a: names of the classes of one half.
      classes_b: those of the other.

    Returns:
      Names of nodes, the root among them; their number is what `split_by_ancestors` makes small.

    Raises:
      ValueError: a class name is no node of the tree.

    Example:
      >>> tree = Hierarchy((("cat", "mammal"), ("dog", "mammal"), ("owl", "bird"),
      ...                   ("mammal", "animal"), ("bird", "animal")))
      >>> sorted(shared_ancestors(tree, ["cat", "owl"], ["dog"]))
      ['animal', 'mammal']
    """
    above_a, above_b = (
        {node for name in names for node in hierarchy.path(name)}
        for names in (classes_a, classes_b)
    )
    return above_a & above_b


def split_by_ancestors(
    hierarchy: Hierarchy, class_names: Sequence[str], seed: int = 0, *, tolerance: float = 0.0
) -> tuple[list[int], list[int]]:
    """Divides the classes into halves that share the fewest ancestors (Huh et al. 2016, section 6).

    The rule is exact: of all divisions of the wanted size this is one with the fewest nodes that
    have classes of both halves under them (`shared_ancestors`). A table for each node, from the
    leaves up, says for every k how many shared nodes it takes at least to give k of the classes
    under it to A. Where several divisions are equally good the seed decides between them.

    Args:
      hierarchy: a tree in which the class names are nodes.
      class_names: the dataset's class names, at least two.
      seed: an integer in 0 .. 2**32 - 1.
      tolerance: how far A may be from half of the classes, as a fraction of all of them, in
        0 .. 0.5. 0 makes A `len(class_names) // 2` classes, as `random_halves` does; of equally
        good sizes the one nearest to a half is taken.

    Returns:
      `(A, B)`: two sorted lists of class indices, disjoint and together complete.

    Raises:
      ValueError: fewer than two classes, a name twice or not in the tree, or an argument out of
        range.

    Example:
      >>> tree = Hierarchy((("cat", "mammal"), ("dog", "mammal"), ("owl", "bird"),
      ...                   ("hen", "bird"), ("mammal", "animal"), ("bird", "animal")))
      >>> sorted(split_by_ancestors(tree, ["cat", "hen", "dog", "owl"]))
      [[0, 2], [1, 3]]
    """
    num_classes = len(class_names)
    if num_classes < 2 or len(set(class_names)) < num_classes:
        raise ValueError(f"at least two classes are needed, each once; got {num_classes} names")
    if not 0 <= tolerance < 0.5:
        raise ValueError(f"tolerance must lie in 0 .. 0.5, got {tolerance}")
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed must lie in 0 .. 2**32 - 1, got {seed}")
    hierarchy.require(class_names)
    random = np.random.RandomState([seed])
    parts = _parts(hierarchy, class_names)
    prefixes = _fewest_shared(parts)
    costs = prefixes[hierarchy.root][-1]
    half = num_classes // 2
    slack = int(tolerance * num_classes)
    sizes = range(max(1, half - slack), min(num_classes - 1, num_classes - half + slack) + 1)
    size = min(sizes if slack else [half], key=lambda k: (costs[k], abs(2 * k - num_classes)))
    in_a = set(_traced_back(hierarchy.root, size, parts, prefixes, random))
    return sorted(in_a), sorted(set(range(num_classes)) - in_a)


def _parts(hierarchy: Hierarchy, class_names: Sequence[str]) -> dict[str, list[str | int]]:
    """What each node with classes under it consists of, nodes and classes; lower nodes first."""
    paths = {index: hierarchy.path(name) for index, name in enumerate(class_names)}
    parts: dict[str, list[str | int]] = {}
    depth: dict[str, int] = {}
    for index, path in paths.items():
        for above, node in itertools.pairwise(path):
            if node not in depth:
                parts.setdefault(above, []).append(node)
                depth[node] = len(depth)
        depth.setdefault(path[0], -1)
        parts.setdefault(path[-1], []).append(index)
    # A node is first met after the nodes above it.
    return {node: parts[node] for node in sorted(parts, key=depth.__getitem__, reverse=True)}


def _fewest_shared(parts: dict[str, list[str | int]]) -> dict[str, list[np.ndarray]]:
    """For each node the least number of shared nodes by how many classes go to A.

    A list of arrays over k: of the node's first 0, 1, 2, ... parts, and last of the whole node,
    which counts itself where it is shared.
    """
    prefixes: dict[str, list[np.ndarray]] = {}
    for node, of_node in parts.items():
        tables = [np.zeros(1, np.int32)]
        for part in of_node:
            tables.append(_min_plus(tables[-1], _costs(part, prefixes)))
        whole = tables[-1].copy()
        whole[1:-1] += 1
        prefixes[node] = [*tables, whole]
    return prefixes


def _costs(part: str | int, prefixes: dict[str, list[np.ndarray]]) -> np.ndarray:
    return prefixes[part][-1] if isinstance(part, str) else np.zeros(2, np.int32)


def _min_plus(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """out[k] = min over i + j = k of left[i] + right[j]."""
    if len(left) < len(right):
        left, right = right, left
    out = np.full(len(left) + len(right) - 1, _NEVER, np.int32)
    for shift, cost in enumerate(right):
        window = out[shift : shift + len(left)]
        np.minimum(window, left + cost, out=window)
    return out


def _traced_back(
    root: str,
    size: int,
    parts: dict[str, list[str | int]],
    prefixes: dict[str, list[np.ndarray]],
    random: np.random.RandomState,
) -> list[int]:
    """Classes of one best choice of `size` classes; ties are broken at random."""
    chosen: list[int] = []
    open_parts: list[tuple[str | int, int]] = [(root, size)]
    while open_parts:
        part, count = open_parts.pop()
        if count == 0:
            continue
        if isinstance(part, int):
            chosen.append(part)
            continue
        for place in reversed(range(len(parts[part]))):
            before, own = prefixes[part][place], _costs(parts[part][place], prefixes)
            fewest, most = max(0, count - len(before) + 1), min(count, len(own) - 1)
            totals = own[fewest : most + 1] + before[count - most : count - fewest + 1][::-1]
            best = np.flatnonzero(totals == totals.min())
            taken = fewest + int(best[random.randint(len(best))])
            open_parts.append((parts[part][place], taken))
            count -= taken
    return chosen
