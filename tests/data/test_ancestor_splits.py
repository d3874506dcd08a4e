import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data import trees
from transfer_jax.data import world
from transfer_jax.data.ancestor_splits import shared_ancestors, split_by_ancestors
from transfer_jax.data.hierarchy import dataset_hierarchy, hierarchy_from_paths
from transfer_jax.data.splits import ilsvrc_indices, random_halves

WORLD = hierarchy_from_paths(world.class_paths())


def num_shared(hierarchy, names, half):
    """Counts node by node, from the edges alone."""
    under = {}
    for index, name in enumerate(names):
        for node in trees.upwards(hierarchy, name):
            under.setdefault(node, set()).add(index in half)
    return sum(sides == {True, False} for sides in under.values())


def fewest_by_trying_all(hierarchy, names, sizes):
    every = range(len(names))
    return min(
        num_shared(hierarchy, names, set(half))
        for size in sizes
        for half in itertools.combinations(every, size)
    )


@given(trees.trees(max_nodes=16, max_classes=9), st.integers(0, 2**32 - 1))
def test_no_half_shares_fewer(tree, seed):
    hierarchy, names = tree
    half_a, half_b = split_by_ancestors(hierarchy, names, seed)
    assert sorted(half_a + half_b) == list(range(len(names)))
    assert half_a == sorted(half_a) and half_b == sorted(half_b)
    assert len(half_a) == len(names) // 2
    fewest = fewest_by_trying_all(hierarchy, names, [len(names) // 2])
    assert num_shared(hierarchy, names, set(half_a)) == fewest
    shared = shared_ancestors(hierarchy, [names[i] for i in half_a], [names[i] for i in half_b])
    assert len(shared) == fewest


@given(trees.trees(max_nodes=16, max_classes=8), st.sampled_from([0.13, 0.25, 0.4]))
def test_no_part_within_the_tolerance_shares_fewer(tree, tolerance):
    hierarchy, names = tree
    half_a, half_b = split_by_ancestors(hierarchy, names, tolerance=tolerance)
    size = len(names)
    slack = int(tolerance * size)
    assert half_a and half_b
    assert size // 2 - slack <= len(half_a) <= size - size // 2 + slack
    sizes = [k for k in range(1, size) if abs(k - size // 2) <= slack]
    assert num_shared(hierarchy, names, set(half_a)) <= fewest_by_trying_all(
        hierarchy, names, sizes
    )


def test_by_hand():
    # Of 2 + 3 + 3 classes a half is never without a cut: one of the threes gives two, or the two
    # gives one to a three.
    tree = hierarchy_from_paths(["rax", "ray", "rbp", "rbq", "rbs", "rct", "rcu", "rcv"])
    names = list("xypqstuv")
    for seed in range(8):
        halves = split_by_ancestors(tree, names, seed)
        shared = shared_ancestors(tree, *([names[i] for i in half] for half in halves))
        assert len(shared) == 2 and "r" in shared
    # With one class more or fewer nothing but the root is shared.
    half_a, half_b = split_by_ancestors(tree, names, tolerance=0.125)
    assert {len(half_a), len(half_b)} == {3, 5}
    assert shared_ancestors(tree, [names[i] for i in half_a], [names[i] for i in half_b]) == {"r"}


def test_a_class_that_is_no_leaf_lies_under_itself():
    tree = hierarchy_from_paths(["rdp", "rdq"])
    assert shared_ancestors(tree, ["d"], ["p"]) == {"r", "d"}
    assert shared_ancestors(tree, ["p"], ["q"]) == {"r", "d"}
    assert split_by_ancestors(tree, ["d", "p"], 3) in (([0], [1]), ([1], [0]))


def test_the_embedded_world_falls_into_its_kingdoms():
    names = world.class_names()
    kingdoms = [record.kingdom for record in world.CLASSES]
    sides = set()
    for seed in range(12):
        half_a, half_b = split_by_ancestors(WORLD, names, seed)
        assert len({kingdoms[i] for i in half_a}) == len({kingdoms[i] for i in half_b}) == 1
        sides.add(kingdoms[half_a[0]])
    assert sides == {"natural", "man_made"}


def test_the_seed_decides_between_equally_good_halves():
    tree, names = hierarchy_from_paths(["ra", "rb", "rc", "rd"]), "abcd"
    drawn = [split_by_ancestors(tree, names, seed) for seed in range(60)]
    assert {tuple(half_a) for half_a, _ in drawn} == set(itertools.combinations(range(4), 2))
    assert drawn == [split_by_ancestors(tree, names, seed) for seed in range(60)]


def test_the_classes_of_ilsvrc_share_less_than_random_halves():
    names = list(ilsvrc_indices())
    tree = dataset_hierarchy(trees.dataset(names))
    half_a, half_b = split_by_ancestors(tree, names)
    assert len(half_a) == len(half_b) == 500

    def shared(halves):
        return len(shared_ancestors(tree, *([names[i] for i in half] for half in halves)))

    assert shared((half_a, half_b)) == 5
    assert min(shared(random_halves(1000, seed)) for seed in range(4)) > 300


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["zebra"], {}, "at least two classes are needed, each once; got 1"),
        (["zebra", "zebra"], {}, "each once; got 2"),
        (["zebra", "unicorn"], {}, "does not know 1 name: 'unicorn'"),
        (["zebra", "owl"], {"tolerance": 0.5}, r"tolerance must lie in 0 \.\. 0\.5, got 0\.5"),
        (["zebra", "owl"], {"seed": -1}, "seed must lie in"),
    ],
)
def test_bad_arguments(names, options, message):
    with pytest.raises(ValueError, match=message):
        split_by_ancestors(WORLD, names, **options)
