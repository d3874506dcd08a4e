import pytest

from transfer_jax.data.label_sets import HUH2016_BOTTOM_UP, HUH2016_TOP_DOWN, read_label_sets
from transfer_jax.data.splits import ilsvrc_indices

TABLE = read_label_sets()


def test_the_papers_table_has_the_papers_sizes():
    assert TABLE.columns == HUH2016_BOTTOM_UP + HUH2016_TOP_DOWN
    assert TABLE.classes == tuple(ilsvrc_indices())
    published = (977, 918, 877, 820, 753, 694, 596, 486, 345, 206, 79, 36, 17, 9, 5, 2, 127, 10, 2)
    for column, size in zip(TABLE.columns, published, strict=True):
        # Every class has one label, and every label is used: a partition.
        assert len(TABLE.column(column)) == 1000
        assert set(TABLE.column(column)) == {str(label) for label in range(size)}


def test_which_columns_are_coarsenings_of_which():
    TABLE.require_nested(HUH2016_BOTTOM_UP)
    TABLE.require_nested(HUH2016_TOP_DOWN)
    torn = [len(TABLE.torn_apart(column, "up_down_127")) for column in HUH2016_BOTTOM_UP]
    assert torn[:10] == [0, 0, 1, 1, 3, 4, 2, 6, 5, 10]
    torn = [len(TABLE.torn_apart(column, "up_down_10")) for column in HUH2016_BOTTOM_UP]
    assert torn[:13] == [0] * 12 + [1]
    assert not TABLE.torn_apart("up_down_2", "down_up_2")
    assert not TABLE.torn_apart("down_up_2", "up_down_2")


def test_known_siblings():
    row = {wnid: index for index, wnid in enumerate(TABLE.classes)}
    tench, goldfish, hen = (row[wnid] for wnid in ("n01440764", "n01443537", "n01514859"))
    bony_fish = TABLE.column("down_up_918")
    assert bony_fish[tench] == bony_fish[goldfish] != bony_fish[hen]


def test_a_table_of_ones_own(tmp_path):
    table = tmp_path / "sets.csv"
    table.write_text("note,name,kind,level_2\n,a,x, 0\n,b,y,1\n,c,x,1\n", encoding="utf-8-sig")
    sets = read_label_sets(table, key="name")
    assert (sets.classes, sets.columns) == (("a", "b", "c"), ("level_2",))
    assert sets.column("level_2") == ("0", "1", "1")
    both = read_label_sets(table, ["kind", "level_2"], key="name")
    assert both.torn_apart("kind", "level_2") == ["x"]
    with pytest.raises(ValueError, match="no label set 'level_3'; there are level_2"):
        sets.column("level_3")


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("", None, "line 1: the header must name wnid and the label sets; missing wnid"),
        ("wnid,kind\na,x\n", None, "missing <something>_<number>, found 'wnid,kind'"),
        ("wnid,kind\na,x\n", ["kind", "size"], "missing size"),
        ("wnid,l_1\na,x\n,x\n", None, "line 3: wnid is empty"),
        ("wnid,k_1,l_1\na,x,y\nb,x\n", None, "line 3: l_1 is empty"),
        ("wnid,l_1\na,x\nb,x\na,x\n", None, "line 4: a is there twice"),
        ("wnid,l_1\n", None, "no class in the table"),
        ("wnid,l_3\na,x\nb,y\n", None, "column l_3 has 2 different labels"),
    ],
)
def test_bad_tables(tmp_path, text, columns, message):
    table = tmp_path / "sets.csv"
    table.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_label_sets(table, columns)
