import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data import trees
from transfer_jax.data import world
from transfer_jax.data.hierarchy import dataset_hierarchy, hierarchy_from_paths
from transfer_jax.data.label_sets import (
    HUH2016_BOTTOM_UP,
    HUH2016_TOP_DOWN,
    read_label_sets,
)
from transfer_jax.data.relabelling import (
    bottom_up,
    cut_at_depth,
    distinct,
    label_set_tasks,
    top_down,
)

WORLD = trees.dataset(world.class_names(), world.class_paths(), "world")


def groups(level, names):
    """The relabelling as {class name: its dataset classes}."""
    found = {name: "" for name in level.class_names}
    for name, target in zip(names, level.task.class_map, strict=True):
        if target >= 0:
            found[level.class_names[target]] += name
    return found


def naive_bottom_up(hierarchy, names):
    """Replaces the classes at the deepest level by their parents, again and again."""
    parents, nodes, partitions = dict(hierarchy.edges), dict(zip(names, names, strict=True)), []
    while len(set(nodes.values())) > 1:
        depths = {name: len(trees.upwards(hierarchy, node)) for name, node in nodes.items()}
        before = len(set(nodes.values()))
        nodes = {
            name: parents[node] if depths[name] == max(depths.values()) else node
            for name, node in nodes.items()
        }
        if 1 < len(set(nodes.values())) < before:
            partitions.append(nodes)
    return partitions


def naive_top_down(hierarchy, names):
    """Lifts every class by one, lets upper classes take those under them, again and again."""
    parents, nodes, partitions = dict(hierarchy.edges), dict(zip(names, names, strict=True)), []
    while all(node in parents for node in nodes.values()):
        before = len(set(nodes.values()))
        nodes = {name: parents[node] for name, node in nodes.items()}
        for upper in set(nodes.values()):
            for name, node in nodes.items():
                if upper in trees.upwards(hierarchy, node):
                    nodes[name] = upper
        if 1 < len(set(nodes.values())) < before:
            partitions.append(nodes)
    return partitions


def test_bottom_up_by_hand():
    paths = ["rasuA", "rasuB", "rasE", "raF", "rbtC", "rbtD", "rbthiH", "rG"]
    names = "ABCDEFGH"
    levels = bottom_up(hierarchy_from_paths(paths), trees.dataset(names))
    # H -> i, at depth 5, merges nothing; then A, B -> u and i -> h; then all of depth 3; then 2.
    assert [groups(level, names) for level in levels] == [
        {"u": "AB", "C": "C", "D": "D", "E": "E", "F": "F", "G": "G", "h": "H"},
        {"s": "ABE", "t": "CDH", "F": "F", "G": "G"},
        {"a": "ABEF", "b": "CDH", "G": "G"},
    ]
    assert [level.task.name for level in levels] == ["bottom_up_7", "bottom_up_4", "bottom_up_3"]
    assert levels[1].task.class_map == (0, 0, 1, 1, 0, 2, 3, 1)


def test_top_down_by_hand():
    paths = ["rxpiK", "rxpiL", "rxpjM", "rxqkN", "rxqkO", "ryzmS", "ryzmT", "ryzU"]
    names = "KLMNOSTU"
    levels = top_down(hierarchy_from_paths(paths), trees.dataset(names))
    # U is lifted to z and then to y, above the S and T that go one step at a time.
    assert [groups(level, names) for level in levels] == [
        {"i": "KL", "j": "M", "k": "NO", "z": "STU"},
        {"p": "KLM", "q": "NO", "y": "STU"},
    ]
    assert [level.task.name for level in levels] == ["top_down_4", "top_down_3"]


@given(trees.trees())
def test_levels_equal_the_procedure_done_step_by_step(tree):
    hierarchy, names = tree
    for levels, wanted in (
        (bottom_up(hierarchy, trees.dataset(names)), naive_bottom_up(hierarchy, names)),
        (top_down(hierarchy, trees.dataset(names)), naive_top_down(hierarchy, names)),
    ):
        found = [[level.class_names[target] for target in level.task.class_map] for level in levels]
        assert found == [[nodes[name] for name in names] for nodes in wanted]


@given(trees.trees(), st.data())
def test_levels_are_ever_coarser_partitions(tree, data):
    hierarchy, names = tree
    classes = data.draw(st.sets(st.sampled_from(range(len(names))), min_size=2))
    for relabel in (bottom_up, top_down):
        levels = relabel(hierarchy, trees.dataset(names), classes=classes)
        finer, size = tuple(range(len(names))), len(classes)
        for level in levels:
            class_map = level.task.class_map
            assert {i for i, target in enumerate(class_map) if target >= 0} == classes
            assert set(class_map) - {-1} == set(range(level.num_classes))
            assert len(level.class_names) == level.num_classes == len(set(level.class_names))
            assert 1 < level.num_classes < size
            assert level.task.name.endswith(f"_{level.num_classes}")
            above = {}
            for i in classes:
                assert above.setdefault(finer[i], class_map[i]) == class_map[i]
                assert level.class_names[class_map[i]] in trees.upwards(hierarchy, names[i])
            finer, size = class_map, level.num_classes


def test_the_embedded_world():
    tree = dataset_hierarchy(WORLD)
    levels = bottom_up(tree, WORLD, images_per_class=7)
    assert [level.num_classes for level in levels] == [10, 2]
    assert set(levels[1].class_names) == {"natural", "man_made"}
    assert {level.task.images_per_class for level in levels} == {7}
    # All classes lie at one depth, so that both ways come to the same levels.
    assert [level.task.class_map for level in top_down(tree, WORLD)] == [
        level.task.class_map for level in levels
    ]


def test_cut_at_depth():
    tree = hierarchy_from_paths(["rab", "rac", "rd"])
    toy = trees.dataset("bcd")
    assert groups(cut_at_depth("T", tree, toy, 1), "bcd") == {"a": "bc", "d": "d"}
    assert groups(cut_at_depth("T", tree, toy, 9), "bcd") == {"b": "b", "c": "c", "d": "d"}
    assert cut_at_depth("T", tree, toy, 0).num_classes == 1
    assert cut_at_depth("T", tree, toy, 1, classes=[2, 1]).task.class_map == (-1, 0, 1)
    with pytest.raises(ValueError, match="depth must be at least 0, got -1"):
        cut_at_depth("T", tree, toy, -1)
    with pytest.raises(ValueError, match="does not know 1 name: 'z'"):
        cut_at_depth("T", tree, trees.dataset("bz"), 1)
    for classes, wrong in (([0, 3], "3"), ([], "none")):
        with pytest.raises(ValueError, match=rf"3 classes \(0 .. 2\) of 'toy/1.0.0', got {wrong}"):
            cut_at_depth("T", tree, toy, 1, classes=classes)


def test_a_relabelled_task_selects_every_image():
    labels = np.arange(40).repeat(3)
    level = bottom_up(dataset_hierarchy(WORLD), WORLD, images_per_class=2)[-1]
    indices, task_labels = level.task.select(labels)
    assert len(indices) == 80 and np.bincount(task_labels).tolist() == [40, 40]


def test_the_papers_label_sets():
    label_sets = read_label_sets()
    ilsvrc = trees.dataset(label_sets.classes)
    tasks = label_set_tasks(label_sets, ilsvrc)
    assert tuple(tasks) == HUH2016_BOTTOM_UP + HUH2016_TOP_DOWN
    for column, level in tasks.items():
        assert level.task.name == column and column.endswith(f"_{level.num_classes}")
    # Merging the tree that the columns make gives the columns.
    levels = bottom_up(dataset_hierarchy(ilsvrc), ilsvrc)
    for column, level in zip(HUH2016_BOTTOM_UP, levels, strict=True):
        assert level.task.class_map == tasks[column].task.class_map
        assert level.class_names == tasks[column].class_names


def test_the_papers_label_sets_on_part_of_the_classes():
    label_sets = read_label_sets()
    wnids = ["n02085620", "n01443537", "n01440764", "n02085782"]
    tasks = label_set_tasks(label_sets, trees.dataset(wnids))
    # Two dogs and two fish, in the dataset's order whatever the table's numbers are.
    assert tasks["down_up_977"].task.class_map == (0, 1, 2, 3)
    assert tasks["down_up_918"].task.class_map == (0, 1, 1, 2)
    assert tasks["down_up_486"].task.class_map == (0, 1, 1, 0)
    assert tasks["down_up_2"].num_classes == 1
    sizes = [level.num_classes for level in distinct(tasks.values())]
    assert sizes[0] == 4 and all(a > b > 1 for a, b in itertools.pairwise(sizes))
    held_out = label_set_tasks(label_sets, trees.dataset(wnids), classes=[1, 2])
    assert held_out["down_up_977"].task.class_map == (-1, 0, 1, -1)
    with pytest.raises(ValueError, match=r"lack 1 of the 2 classes of toy/1.0.0: poodle"):
        label_set_tasks(label_sets, trees.dataset(["n01440764", "poodle"]))
    # A class that takes no part need not be in the table.
    label_set_tasks(label_sets, trees.dataset(["n01440764", "poodle"]), classes=[0])
