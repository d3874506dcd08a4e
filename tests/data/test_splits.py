import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer_jax.data import splits


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


@pytest.mark.parametrize("seed", range(4))
def test_the_papers_halves(seed):
    half_a, half_b = splits.random_halves(1000, seed)
    assert half_a == independent_half(1000, seed)
    assert half_a == sorted(half_a) and half_b == sorted(half_b)
    assert len(half_a) == len(half_b) == 500
    assert sorted(half_a + half_b) == list(range(1000))


def test_the_first_classes_of_the_papers_first_half():
    half_a, half_b = splits.random_halves(1000, 0)
    assert half_a[:10] == [0, 1, 2, 5, 9, 10, 15, 16, 17, 19]
    assert half_b[:10] == [3, 4, 6, 7, 8, 11, 12, 13, 14, 18]


@given(st.integers(2, 300), st.integers(0, 2**32 - 1))
def test_halves_are_a_partition(num_classes, seed):
    half_a, half_b = splits.random_halves(num_classes, seed)
    assert half_a == independent_half(num_classes, seed)
    assert half_b == sorted(set(range(num_classes)) - set(half_a))
    assert len(half_a) == num_classes // 2


def test_halves_take_numpy_integers_and_give_plain_ones():
    half_a, half_b = splits.random_halves(np.int64(7), np.int32(1))
    assert (half_a, half_b) == splits.random_halves(7, 1)
    assert all(type(index) is int for index in half_a + half_b)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((1, 0), ValueError, "num_classes must be at least 2 to be halved, got 1"),
        ((10, -1), ValueError, r"seed must lie in 0 .. 2\*\*32 - 1, got -1"),
        ((10, 2**32), ValueError, "seed must lie in"),
        ((10.0, 0), TypeError, "num_classes must be an integer, got 10.0"),
        ((10, True), TypeError, "seed must be an integer, got True"),
    ],
)
def test_bad_arguments_of_random_halves(arguments, error, message):
    with pytest.raises(error, match=message):
        splits.random_halves(*arguments)


def test_ilsvrc_man_made_and_natural():
    assert len(splits.NATURAL) == 449 and len(splits.MAN_MADE) == 551
    assert set(splits.NATURAL) | set(splits.MAN_MADE) == set(range(1000))
    for natural in (0, 397, 936, 958, 970, 972, 998):
        assert natural in splits.NATURAL
    for man_made in (398, 935, 959, 969, 971, 999):
        assert man_made in splits.MAN_MADE
    half_a, half_b = splits.man_made_natural_from_indices()
    assert (half_a, half_b) == (list(splits.MAN_MADE), list(splits.NATURAL))


def test_wnids_are_indexed_in_sorted_order():
    wnids = list(splits.ilsvrc_indices())
    assert wnids == sorted(wnids) and len(wnids) == 1000
    # tench, toilet tissue, English setter, web site
    known = {"n01440764": 0, "n15075141": 999, "n02100735": 212, "n06359193": 916}
    assert {wnid: splits.ilsvrc_indices()[wnid] for wnid in known} == known


def test_wnids_need_no_table():
    names = ["n06359193", "n01440764", "n15075141", "n02100735"]
    half_a, half_b = splits.man_made_natural(names)
    indices = [splits.ilsvrc_indices()[name] for name in names]
    assert [indices[i] in splits.MAN_MADE for i in half_a] == [True] * len(half_a)
    assert [indices[i] in splits.NATURAL for i in half_b] == [True] * len(half_b)
    assert sorted(half_a + half_b) == [0, 1, 2, 3]


def test_hierarchy():
    paths = [
        ("object", "man_made", "vehicle", "car"),
        ("natural", "flower", "daisy"),
        ("object", "thing", "Man-Made", "chair"),
    ]
    assert splits.man_made_natural_from_paths(paths) == ([0, 2], [1])
    assert splits.man_made_natural(["car", "daisy", "chair"], paths) == ([0, 2], [1])


@pytest.mark.parametrize(
    "path", [("object", "car"), ("natural", "man_made", "garden"), ("naturalist",)]
)
def test_hierarchy_that_does_not_tell(path):
    with pytest.raises(ValueError, match="the path of class 1 should have exactly one of"):
        splits.man_made_natural_from_paths([("natural", "tree"), path])


def test_table(tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text(
        "index,wnid,superclass,note\n0,a,natural,x\n1,b,man-made,\n2,unused,man-made,\n3,c,natural,"
    )
    assert splits.man_made_natural_from_csv(["c", "b", "a"], table) == ([1], [0, 2])
    # The table has the last word over a hierarchy.
    paths = [("man_made",), ("natural",), ("man_made",)]
    assert splits.man_made_natural(["c", "b", "a"], paths, table) == ([1], [0, 2])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the header must name the columns wnid and superclass"),
        ("a,natural\nb,man-made\n", "missing wnid and superclass, found 'a,natural'"),
        ("wnid,kind\na,natural\n", "missing superclass, found 'wnid,kind'"),
        (
            "wnid,superclass\na,natural\nb,artificial\n",
            "line 3: the superclass of b must be man-made or natural, got 'artificial'",
        ),
        ("wnid,superclass\na\n", "line 2: the superclass of a must be"),
        ("wnid,superclass\na,natural\n,natural\n", "line 3: the wnid is empty"),
        ("wnid,superclass\na,natural\nb,natural\na,man-made\n", "line 4: a is said to be both"),
        ("wnid,superclass\na,natural\n", "lacks 1 of the dataset's 2 classes: b"),
        ("wnid,superclass\na,natural\nb,natural\n", "none of the 2 classes is man-made"),
    ],
)
def test_bad_tables(tmp_path, text, message):
    table = tmp_path / "classes.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        splits.man_made_natural_from_csv(["a", "b"], table)


def test_missing_classes_are_named_but_not_all_of_them(tmp_path):
    table = tmp_path / "classes.csv"
    table.write_text("wnid,superclass\na,natural\n")
    with pytest.raises(ValueError, match=r"lacks 9 .* b, c, d, e, f, \.\.\.$"):
        splits.man_made_natural_from_csv(list("abcdefghij"), table)


def test_nothing_tells_the_classes_apart():
    with pytest.raises(ValueError, match="1 of its 2 class names are not ILSVRC2012 wnids"):
        splits.man_made_natural(["n01440764", "poodle"])


def test_indices_outside_ilsvrc():
    with pytest.raises(ValueError, match=r"lie in 0 \.\. 999, got 1000"):
        splits.man_made_natural_from_indices([3, 1000])
