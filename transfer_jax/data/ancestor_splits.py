"""Halves of the classes that share as few ancestors as can be (Huh et al. 2016, section 6).

A split that keeps whole subtrees together makes the other half's images as unrelated as the
hierarchy allows; `splits.random_halves` is what it is compared with.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

Part = str | int  # a node, or a class by its index


def split_by_ancestors(
    paths: Sequence[Sequence[str]], seed: int = 0
) -> tuple[list[int], list[int]]:
    """Divides the classes into halves that share the fewest ancestors: `(A, B)`, sorted indices.

    `paths` lead from the root to each class. A node is shared that has classes of both halves under
    it; a class that is no leaf counts as lying under itself. The rule is exact: of all divisions in
    which A has `len(paths) // 2` classes this is one with the fewest shared nodes; the seed decides
    between equally good ones. A table for each node, from the leaves up, says for every k how many
    shared nodes it takes at least to give k of the classes under it to A.
    """
    parts = _parts(paths)
    tables = _fewest_shared(parts)
    random = np.random.RandomState([seed])
    in_a = set(_traced_back(paths[0][0], len(paths) // 2, parts, tables, random))
    return sorted(in_a), sorted(set(range(len(paths))) - in_a)


def _parts(paths: Sequence[Sequence[str]]) -> dict[str, list[Part]]:
    """What each node consists of, the nodes and classes right below it; lower nodes first."""
    met = {node: None for path in paths for node in path}
    parts: dict[str, list[Part]] = {node: [] for node in reversed(met)}
    linked = set()
    for index, path in enumerate(paths):
        for above, node in itertools.pairwise(path):
            if node not in linked:
                linked.add(node)
                parts[above].append(node)
        parts[path[-1]].append(index)
    return parts


def _fewest_shared(parts: dict[str, list[Part]]) -> dict[str, list[np.ndarray]]:
    """For each node the least number of shared nodes by how many classes go to A: arrays over k, of
    its first 0, 1, 2, ... parts, and last of the whole node, itself counted where it is shared."""
    tables: dict[str, list[np.ndarray]] = {}
    for node, of_node in parts.items():
        prefixes = [np.zeros(1, np.int32)]
        for part in of_node:
            prefixes.append(_min_plus(prefixes[-1], _costs(part, tables)))
        whole = prefixes[-1].copy()
        whole[1:-1] += 1
        tables[node] = [*prefixes, whole]
    return tables


def _costs(part: Part, tables: dict[str, list[np.ndarray]]) -> np.ndarray:
    return tables[part][-1] if isinstance(part, str) else np.zeros(2, np.int32)


def _min_plus(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """out[k] = min over i + j = k of left[i] + right[j]."""
    if len(left) < len(right):
        left, right = right, left
    out = np.full(len(left) + len(right) - 1, np.iinfo(np.int32).max, np.int32)
    for shift, cost in enumerate(right):
        window = out[shift : shift + len(left)]
        np.minimum(window, left + cost, out=window)
    return out


def _traced_back(root, size, parts, tables, random) -> list[int]:
    """Classes of one best choice of `size` classes; ties are broken at random."""
    chosen: list[int] = []
    open_parts: list[tuple[Part, int]] = [(root, size)]
    while open_parts:
        part, count = open_parts.pop()
        if count and isinstance(part, int):
            chosen.append(part)
        elif count:
            for place in reversed(range(len(parts[part]))):
                before, own = tables[part][place], _costs(parts[part][place], tables)
                fewest, most = max(0, count - len(before) + 1), min(count, len(own) - 1)
                totals = own[fewest : most + 1] + before[count - most : count - fewest + 1][::-1]
                best = np.flatnonzero(totals == totals.min())
                taken = fewest + int(best[random.randint(len(best))])
                open_parts.append((parts[part][place], taken))
                count -= taken
    return chosen
