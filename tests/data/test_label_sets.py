import itertools

import numpy as np
from hypothesis import given, settings, strategies as st

from tests.data import trees
from transfer_jax.data.hierarchy import class_hierarchy
from transfer_jax.data.label_sets import (
    HUH2016_BOTTOM_UP,
    HUH2016_TOP_DOWN,
    bottom_up,
    published,
    read_label_sets,
    top_down,
)
from transfer_jax.data.splits import ilsvrc_indices

WNIDS = tuple(ilsvrc_indices())
few = settings(max_examples=30, deadline=None)


def naive_bottom_up(paths):
    """Replaces the classes at the deepest level by their parents, again and again."""
    parents, nodes, partitions = trees.edges_of(paths), [path[-1] for path in paths], []
    while len(set(nodes)) > 1:
        depths, before = [len(trees.upwards(parents, node)) for node in nodes], len(set(nodes))
        nodes = [
            parents[node] if depth == max(depths) else node
            for node, depth in zip(nodes, depths, strict=True)
        ]
        if 1 < len(set(nodes)) < before:
            partitions.append(nodes)
    return partitions


def naive_top_down(paths):
    """Lifts every class by one, lets upper classes take those under them, again and again."""
    parents, nodes, partitions = trees.edges_of(paths), [path[-1] for path in paths], []
    while all(node in parents for node in nodes):
        before = len(set(nodes))
        nodes = [parents[node] for node in nodes]
        for upper in set(nodes):
            nodes = [upper if upper in trees.upwards(parents, node) else node for node in nodes]
        if 1 < len(set(nodes)) < before:
            partitions.append(nodes)
    return partitions


@given(trees.trees(), st.data())
@few
def test_levels_equal_the_procedure_done_step_by_step(paths, data):
    """On all classes, or on some: the others are in no group."""
    classes = sorted(data.draw(st.sets(st.sampled_from(range(len(paths))), min_size=2)))
    for merge, naive in ((bottom_up, naive_bottom_up), (top_down, naive_top_down)):
        levels = merge(paths, classes)
        for level in levels:
            assert [i for i, group in enumerate(level.class_map) if group >= 0] == classes
        found = [[level.class_names[level.class_map[i]] for i in classes] for level in levels]
        assert found == naive([paths[i] for i in classes])


def test_the_published_label_sets():
    table = read_label_sets()
    assert tuple(table.index) == WNIDS
    sizes = (977, 918, 877, 820, 753, 694, 596, 486, 345, 206, 79, 36, 17, 9, 5, 2, 127, 10, 2)
    for column, size in zip(table.columns, sizes, strict=True):
        assert np.unique(table[column]).tolist() == list(range(size))
    for columns in (HUH2016_BOTTOM_UP, HUH2016_TOP_DOWN):
        for fine, coarse in itertools.pairwise(columns):
            assert (table.groupby(fine)[coarse].nunique() == 1).all()
        found = published(WNIDS, columns)
        assert [level.num_classes for level in found] == [int(c.split("_")[-1]) for c in columns]
    # Bony fish are one class where a hen is another.
    fish = table["down_up_918"]
    assert fish["n01440764"] == fish["n01443537"] != fish["n01514859"]


def test_merging_the_tree_that_the_columns_make_gives_the_columns():
    assert bottom_up(class_hierarchy(trees.dataset(WNIDS))) == published(WNIDS, HUH2016_BOTTOM_UP)


def test_the_published_label_sets_on_part_of_the_classes():
    # Two dogs and two fish, in the dataset's order whatever the table's numbers are.
    wnids = ["n02085620", "n01443537", "n01440764", "n02085782"]
    levels = published(wnids, HUH2016_BOTTOM_UP)
    assert levels[0].class_map == (0, 1, 1, 2) and levels[0].class_names[0].startswith(
        "down_up_918="
    )
    assert levels[-1].class_map == (0, 1, 1, 0)
    assert published(wnids, HUH2016_BOTTOM_UP, [0, 1, 2])[0].class_map == (0, 1, 1, -1)
