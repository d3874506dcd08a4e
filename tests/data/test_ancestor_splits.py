import itertools

from hypothesis import given, settings, strategies as st

from tests.data import trees
from transfer_jax.data.ancestor_splits import split_by_ancestors
from transfer_jax.data.hierarchy import label_set_paths
from transfer_jax.data.splits import ilsvrc_indices, random_halves


def num_shared(paths, half):
    """Counts node by node, from the edges alone."""
    parents, sides = trees.edges_of(paths), {}
    for index, path in enumerate(paths):
        for node in trees.upwards(parents, path[-1]):
            sides.setdefault(node, set()).add(index in half)
    return sum(len(side) == 2 for side in sides.values())


@given(trees.trees(max_nodes=16, max_classes=9), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_no_half_shares_fewer(paths, seed):
    half_a, half_b = split_by_ancestors(paths, seed)
    assert sorted(half_a + half_b) == list(range(len(paths)))
    assert half_a == sorted(half_a) and half_b == sorted(half_b)
    assert len(half_a) == len(paths) // 2
    every = itertools.combinations(range(len(paths)), len(paths) // 2)
    fewest = min(num_shared(paths, set(half)) for half in every)
    assert num_shared(paths, set(half_a)) == fewest


def test_the_seed_decides_between_equally_good_halves():
    drawn = [split_by_ancestors(["ra", "rb", "rc", "rd"], seed) for seed in range(60)]
    assert {tuple(half_a) for half_a, _ in drawn} == set(itertools.combinations(range(4), 2))
    assert drawn == [split_by_ancestors(["ra", "rb", "rc", "rd"], seed) for seed in range(60)]


def test_the_classes_of_ilsvrc_share_less_than_random_halves():
    paths = label_set_paths(list(ilsvrc_indices()))
    halves = split_by_ancestors(paths)
    assert [len(half) for half in halves] == [500, 500]
    assert num_shared(paths, set(halves[0])) == 5
    drawn = [random_halves(1000, seed)[0] for seed in range(4)]
    assert all(num_shared(paths, set(half)) > 300 for half in drawn)
