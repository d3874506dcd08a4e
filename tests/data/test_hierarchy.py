import pickle

import pytest
from hypothesis import given

from tests.data import trees
from transfer_jax.data import world
from transfer_jax.data.hierarchy import (
    Hierarchy,
    dataset_hierarchy,
    hierarchy_from_label_sets,
    hierarchy_from_paths,
    read_hierarchy,
)
from transfer_jax.data.label_sets import HUH2016_TOP_DOWN, read_label_sets
from transfer_jax.data.splits import ilsvrc_indices

ANIMALS = Hierarchy(
    (
        ("cat", "mammal"),
        ("dog", "mammal"),
        ("poodle", "dog"),
        ("owl", "bird"),
        ("bird", "animal"),
        ("mammal", "animal"),
    )
)


def test_a_tree_by_hand():
    assert ANIMALS.root == "animal"
    assert ANIMALS.leaves == ("cat", "owl", "poodle")
    assert ANIMALS.path("poodle") == ("animal", "mammal", "dog", "poodle")
    assert ANIMALS.path("animal") == ("animal",)
    assert [ANIMALS.depth(node) for node in ("animal", "owl", "poodle")] == [0, 2, 3]
    assert ANIMALS.parent("dog") == "mammal" and ANIMALS.parent("animal") is None
    assert ANIMALS.children("mammal") == ("cat", "dog") and ANIMALS.children("cat") == ()
    assert "animal" in ANIMALS and "dog" in ANIMALS and "cow" not in ANIMALS


def test_classes_under_nodes():
    names = ["owl", "poodle", "dog", "cat"]
    assert ANIMALS.classes_under(names, "dog") == [1, 2]
    assert ANIMALS.classes_under(names, ["bird", "cat"]) == [0, 3]
    assert ANIMALS.classes_under(names, "animal") == [0, 1, 2, 3]
    assert ANIMALS.classes_under(["cat"], "bird") == []


def test_hierarchies_are_values():
    shuffled = Hierarchy((*reversed(ANIMALS.edges), ANIMALS.edges[0]))
    assert shuffled == ANIMALS and hash(shuffled) == hash(ANIMALS)
    assert pickle.loads(pickle.dumps(ANIMALS)).path("cat") == ANIMALS.path("cat")


@given(trees.trees())
def test_paths_follow_the_edges(tree):
    hierarchy, names = tree
    for name in names:
        assert list(hierarchy.path(name)) == trees.upwards(hierarchy, name)[::-1]
    again = hierarchy_from_paths(hierarchy.path(leaf) for leaf in hierarchy.leaves)
    assert again == hierarchy


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ((), "at least one edge"),
        ((("a", ""),), "a name is empty in the edge 'a' -> ''"),
        ((("a", "r"), ("b", "r"), ("a", "b")), "'a' has two parents: 'r' and 'b'"),
        ((("a", "r"), ("b", "s"), ("c", "s")), "the hierarchy has 2 roots: 'r', 's'"),
        ((("a", "a"),), "the hierarchy has a cycle: a -> a"),
        (
            (("z", "r"), ("x", "a"), ("a", "b"), ("b", "c"), ("c", "a")),
            "the hierarchy has a cycle: a -> b -> c -> a",
        ),
        # The way into the cycle is no part of it.
        ((("a", "p"), ("p", "q"), ("q", "p")), "the hierarchy has a cycle: p -> q -> p$"),
    ],
)
def test_what_is_no_tree(edges, message):
    with pytest.raises(ValueError, match=message):
        Hierarchy(edges)


def test_unknown_names():
    for call in (ANIMALS.path, ANIMALS.parent, ANIMALS.children, ANIMALS.depth):
        with pytest.raises(ValueError, match="under 'animal' does not know 1 name: 'cow'"):
            call("cow")
    with pytest.raises(ValueError, match="does not know 1 name: 'fish'"):
        ANIMALS.classes_under(["cat"], "fish")
    with pytest.raises(
        ValueError, match=r"does not know 6 names: 'a', 'b', 'c', 'd', 'e', \.\.\.$"
    ):
        ANIMALS.require(["cat", *"abcdef"])


def test_a_table_of_edges(tmp_path):
    table = tmp_path / "edges.csv"
    rows = "".join(f"x,{child}, {parent}\n" for child, parent in reversed(ANIMALS.edges))
    table.write_text("note,child,parent\n" + rows + "again,cat,mammal\n", encoding="utf-8-sig")
    assert read_hierarchy(table) == ANIMALS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: the header must name the columns child and parent; found ''"),
        ("cat,mammal\n", "found 'cat,mammal'"),
        ("child,parent\ncat,mammal\nmammal,\n", "line 3: child and parent must not be empty"),
        ("child,parent\ncat\n", "line 2: child and parent must not be empty"),
        ("child,parent\n", "edges.csv: a hierarchy needs at least one edge"),
        ("child,parent\na,b\na,c\n", "edges.csv: 'a' has two parents"),
    ],
)
def test_bad_tables_of_edges(tmp_path, text, message):
    table = tmp_path / "edges.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_hierarchy(table)


def test_the_embedded_worlds_tree():
    tree = hierarchy_from_paths(world.class_paths())
    assert tree.leaves == world.class_names()
    assert tree.children("world") == ("man_made", "natural")
    assert len(tree.classes_under(world.class_names(), "bird")) == 4
    named = trees.dataset(world.class_names(), world.class_paths())
    assert dataset_hierarchy(named) == tree


def test_paths_that_contradict_each_other():
    with pytest.raises(ValueError, match="class paths: 'ant' has two parents: 'tiny' and 'insect'"):
        hierarchy_from_paths([("all", "tiny", "ant"), ("all", "insect", "ant")])


def test_paths_that_end_above_the_class():
    named = trees.dataset(["ant", "owl"], [("animal", "insect"), ("animal", "bird", "owl")])
    assert dataset_hierarchy(named).path("ant") == ("animal", "insect", "ant")


def test_label_sets_as_a_tree(tmp_path):
    table = tmp_path / "sets.csv"
    table.write_text("wnid,fine_3,coarse_2\nw,a,x\nx,a,x\ny,b,x\nz,c,q\n")
    tree = hierarchy_from_label_sets(read_label_sets(table))
    assert tree.leaves == ("w", "x", "y", "z")
    assert tree.path("y") == ("all", "coarse_2=x", "fine_3=b", "y")
    assert hierarchy_from_label_sets(read_label_sets(table), ["coarse_2"]).depth("z") == 2
    with pytest.raises(ValueError, match=r"fine_3 is no coarsening of coarse_2.*is coarse_2=x"):
        hierarchy_from_label_sets(read_label_sets(table), ["coarse_2", "fine_3"])


def test_wnids_bring_the_tree_of_huh_2016():
    tree = dataset_hierarchy(trees.dataset(["n01440764", "n15075141"]))
    assert len(tree.leaves) == 1000 and set(tree.leaves) == set(ilsvrc_indices())
    assert {tree.depth(leaf) for leaf in tree.leaves} == {17}
    top_down = hierarchy_from_label_sets(read_label_sets(), HUH2016_TOP_DOWN)
    assert len(top_down.children("all")) == 2


def test_a_table_has_the_last_word(tmp_path):
    table = tmp_path / "edges.csv"
    table.write_text("child,parent\nn01440764,fish\n")
    tree = dataset_hierarchy(trees.dataset(["n01440764"], [("a", "n01440764")]), table)
    assert tree.path("n01440764") == ("fish", "n01440764")
    with pytest.raises(ValueError, match="does not know 1 name: 'n01443537'"):
        dataset_hierarchy(trees.dataset(["n01443537"]), table)


def test_nothing_tells_the_hierarchy():
    with pytest.raises(ValueError, match=r"1 of its 2 class names are .* wnids \('poodle'\)"):
        dataset_hierarchy(trees.dataset(["n01440764", "poodle"]))
