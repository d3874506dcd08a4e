import pytest
from hypothesis import given, settings

from tests.data import trees
from tests.data.trees import upwards
from transfer_jax.data.hierarchy import class_hierarchy, parents_of, relatives
from transfer_jax.data.label_sets import HUH2016_BOTTOM_UP
from transfer_jax.data.splits import ilsvrc_indices


@given(trees.trees())
@settings(max_examples=25, deadline=None)
def test_a_table_of_the_edges_gives_the_paths(tmp_path_factory, paths):
    table = tmp_path_factory.mktemp("tree") / "edges.csv"
    names = [path[-1] for path in paths if len(path) > 1]
    edges = parents_of(paths)
    assert edges == trees.edges_of(paths)
    rows = "".join(f"x,{child}, {parent}\n" for child, parent in [*edges.items()][::-1])
    table.write_text("note,child,parent\n" + rows + rows, encoding="utf-8-sig")
    found = class_hierarchy(trees.dataset(names, [("another", name) for name in names]), table)
    assert list(found) == [path for path in paths if len(path) > 1]


@given(trees.trees())
@settings(max_examples=40, deadline=None)
def test_relatives_share_an_ancestor_at_a_depth(paths):
    parents = trees.edges_of(paths)
    above = [upwards(parents, path[-1])[::-1] for path in paths]
    few, everything = [0, len(paths) - 1], list(range(len(paths)))
    assert relatives(paths, few, 0) == everything
    assert relatives(paths, few, 99) == few
    for depth in range(1, 4):
        wanted = {tuple(above[index][: depth + 1])[-1] for index in few}
        found = relatives(paths, few, depth)
        assert set(few) <= set(found) <= set(relatives(paths, few, depth - 1))
        for index in everything:
            # A class that is no leaf may lie above the depth: it is then its own ancestor there.
            at_depth = above[index][min(depth, len(above[index]) - 1)]
            assert (index in found) == (at_depth in wanted)


@pytest.mark.parametrize(
    "text, message",
    [
        ("cat,mammal\n", "no column child nor parent"),
        ("child,parent\na,b\na,c\n", "'a' has two parents"),
        ("child,parent\nb,r\n", "lacks the class 'a'"),
        ("child,parent\na,p\np,q\nq,p\n", "has a cycle: p > q > p > a"),
        ("child,parent\na,r\nb,s\n", "no tree with the root 'r'"),
    ],
)
def test_what_is_no_tree(tmp_path, text, message):
    table = tmp_path / "edges.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        class_hierarchy(trees.dataset(["a", "b"]), table)


def test_a_datasets_own_paths():
    named = trees.dataset(["ant", "owl"], [("animal", "insect"), ("animal", "bird", "owl")])
    assert class_hierarchy(named) == (("animal", "insect", "ant"), ("animal", "bird", "owl"))
    contradicting = [("all", "tiny", "ant"), ("all", "insect", "ant", "owl")]
    with pytest.raises(ValueError, match="'ant' has two parents: 'tiny' and 'insect'"):
        class_hierarchy(trees.dataset(["ant", "owl"], contradicting))
    with pytest.raises(ValueError, match="no tree"):
        parents_of([("all", "ant"), ("all", "ant", "owl", "all")])


def test_wnids_bring_the_tree_of_huh_2016():
    wnids = list(ilsvrc_indices())
    paths = class_hierarchy(trees.dataset(wnids))
    assert [path[-1] for path in paths] == wnids
    assert {len(path) for path in paths} == {1 + 16 + 1}
    for level, column in enumerate(reversed(HUH2016_BOTTOM_UP), start=1):
        assert f"{column.split('_')[-1]}" == str(len({path[level] for path in paths}))
    assert class_hierarchy(trees.dataset(wnids[:3:-1])) == paths[:3:-1]
    parents_of(paths)
    with pytest.raises(ValueError, match="'poodle' is no wnid"):
        class_hierarchy(trees.dataset(["n01440764", "poodle"]))
