"""Random trees for tests, and what is read from their edges alone."""

import itertools
import types

from hypothesis import strategies as st


def dataset(names, class_paths=None, name="toy/1.0.0"):
    """As much of a dataset as a hierarchy asks for."""
    return types.SimpleNamespace(name=name, class_names=tuple(names), class_paths=class_paths)


def edges_of(paths):
    """The parent of every node but the root."""
    return {child: parent for path in paths for parent, child in itertools.pairwise(path)}


def upwards(parents, node):
    """The node and all above it."""
    way = [node]
    while way[-1] in parents:
        way.append(parents[way[-1]])
    return way


@st.composite
def trees(draw, max_nodes=24, max_classes=24):
    """Paths to the classes of any tree: any two or more of its nodes, leaves or not."""
    size = draw(st.integers(3, max_nodes))
    parents = {f"n{i}": f"n{draw(st.integers(0, i - 1))}" for i in range(1, size)}
    chosen = draw(st.permutations([f"n{i}" for i in range(size)]))
    chosen = chosen[: draw(st.integers(2, min(size, max_classes)))]
    return [tuple(reversed(upwards(parents, name))) for name in chosen]
