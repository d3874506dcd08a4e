"""Trees for tests: random ones, and a dataset that is nothing but class names."""

import types

from hypothesis import strategies as st

from transfer_jax.data.hierarchy import Hierarchy


def dataset(names, class_paths=None, name="toy/1.0.0"):
    return types.SimpleNamespace(name=name, class_names=tuple(names), class_paths=class_paths)


@st.composite
def trees(draw, max_nodes=24, max_classes=24):
    """`(hierarchy, class names)`: any tree; any two or more of its nodes are classes."""
    size = draw(st.integers(3, max_nodes))
    parents = [draw(st.integers(0, node - 1)) for node in range(1, size)]
    edges = tuple((f"n{i + 1}", f"n{parent}") for i, parent in enumerate(parents))
    names = [f"n{i}" for i in range(size)]
    chosen = draw(st.permutations(names))[: draw(st.integers(2, min(size, max_classes)))]
    return Hierarchy(edges), chosen


def upwards(hierarchy, node):
    """The node and all above it, read from the edges alone."""
    parents = dict(hierarchy.edges)
    way = [node]
    while way[-1] in parents:
        way.append(parents[way[-1]])
    return way
