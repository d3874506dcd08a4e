import hashlib
import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from transfer_jax.data.splits import (
    NATURAL,
    ilsvrc_indices,
    man_made_natural,
    random_classes,
    random_halves,
)

few = settings(max_examples=25, deadline=None)


def independent_half(num_classes, seed):
    """The draw without NumPy: Python's generator is the same Mersenne Twister, seeded alike."""
    twister = random.Random(seed)
    order = list(range(num_classes))
    for last in range(num_classes - 1, 0, -1):
        mask = (1 << last.bit_length()) - 1
        while (other := twister.getrandbits(32) & mask) > last:
            pass
        order[last], order[other] = order[other], order[last]
    return sorted(order[: num_classes // 2])


@pytest.mark.parametrize(
    "seed, md5_a, md5_b",
    [
        (0, "0b8df30d3dbc201b482c55609120084e", "2b1e881418fbf41617838f499d00dfb3"),
        (1, "3ad1e27c8481c08da08879b40f80b524", "0a6a1f892e2f5e92325619bfe8d4715b"),
        (2, "6d705216deeb7abe91e962c943867ba1", "f74aa9d2e116badfa55b880e2b9a8b83"),
        (3, "9779ce7b18e23b57a021dfe64ddb9e7f", "b72b311f897d69dbc5f16bea5bccc26a"),
    ],
)
def test_the_papers_halves(seed, md5_a, md5_b):
    halves = random_halves(1000, seed)
    sums = [hashlib.md5(",".join(map(str, half)).encode()).hexdigest() for half in halves]
    assert sums == [md5_a, md5_b]
    assert halves[0] == independent_half(1000, seed)


@given(st.integers(2, 300), st.integers(0, 2**32 - 1))
@few
def test_halves_are_a_partition(num_classes, seed):
    half_a, half_b = random_halves(num_classes, seed)
    assert half_a == independent_half(num_classes, seed)
    assert half_b == sorted(set(range(num_classes)) - set(half_a))
    assert (half_a, half_b) == random_halves(np.int64(num_classes), seed)


@given(st.sets(st.integers(0, 99), min_size=1), st.integers(0, 2**32 - 1))
@few
def test_draws_of_one_seed_are_nested(pool, seed):
    draws = [random_classes(pool, count, seed) for count in range(len(pool) + 1)]
    assert set(draws[-1]) == pool
    for few_classes, more in itertools.pairwise(draws):
        assert set(few_classes) < set(more) and more == sorted(more)


def test_the_classes_of_ilsvrc():
    known = {"n01440764": 0, "n15075141": 999, "n02100735": 212, "n06359193": 916}
    assert {wnid: ilsvrc_indices()[wnid] for wnid in known} == known
    assert list(ilsvrc_indices()) == sorted(ilsvrc_indices()) and len(ilsvrc_indices()) == 1000
    man_made, natural = man_made_natural(list(ilsvrc_indices()))
    assert (len(man_made), len(natural)) == (551, 449) and natural == list(NATURAL)
    assert sorted(man_made + natural) == list(range(1000))
    # web site, tench, toilet tissue, English setter
    assert man_made_natural(list(known)[::-1]) == ([0, 2], [1, 3])


def test_a_hierarchy_tells():
    paths = [
        ("object", "man_made", "vehicle", "car"),
        ("natural", "flower", "daisy"),
        ("object", "thing", "Man-Made", "chair"),
    ]
    assert man_made_natural(["car", "daisy", "chair"], paths) == ([0, 2], [1])


def test_a_table_has_the_last_word(tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text(
        "index,wnid,superclass,note\n0,a,natural,x\n1,b,man-made,\n2,unused,man-made,\n3,c,Natural,\n",
        encoding="utf-8-sig",
    )
    paths = [("man_made",), ("natural",), ("man_made",)]
    assert man_made_natural(["c", "b", "a"], paths, table) == ([1], [0, 2])


@pytest.mark.parametrize("rows", ["", "b,artificial\n", "b,natural\nb,man-made\n"])
def test_what_does_not_tell(tmp_path, rows):
    table = tmp_path / "classes.csv"
    table.write_text("wnid,superclass\na,natural\n" + rows)
    with pytest.raises(ValueError, match="class 'b'"):
        man_made_natural(["a", "b"], None, table)
    for paths in (None, [("natural",), ("naturalist",)], [("natural",), ("natural", "man made")]):
        with pytest.raises(ValueError, match="class 'poodle'"):
            man_made_natural(["n01440764", "poodle"], paths)
