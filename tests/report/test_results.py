import csv
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transfer_jax.report.results import COLUMNS, ResultsError, Row, read_results, write_results

FRACTION = st.none() | st.floats(0, 1)
WORD = st.text("abcAB012,\"' ", min_size=1)


@st.composite
def some_rows(draw):
    keys = draw(st.lists(st.tuples(WORD, WORD, WORD), unique=True, max_size=5))
    rows = []
    for experiment, split, cell in keys:
        n = draw(st.integers(0, 7))
        treatment = "base" if n == 0 else draw(st.sampled_from(["selffer_frozen", "random_frozen"]))
        numbers = [draw(FRACTION), draw(FRACTION), draw(st.none() | st.integers(0, 10**6))]
        seconds = draw(st.none() | st.floats(0, 1e7))
        rows.append(Row(experiment, split, cell, "B", n, treatment, *numbers, seconds, 12.5, "ab"))
    return rows


@given(rows=some_rows())
def test_what_is_written_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("rows") / "results.csv"
    write_results(rows, path)
    assert read_results(path) == tuple(rows)
    assert [item.name for item in path.parent.iterdir()] == ["results.csv"]


def test_the_columns_stand_in_the_agreed_order(tmp_path):
    row = Row("random_halves", "0", "A3B+", "B", 3, "transfer_finetuned", 0.5, 0.51, 10, 2.0, 3.0)
    write_results([dataclasses.replace(row, hash="abc")], tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text() == (
        "experiment,split,cell,target,n,treatment,top1,top1_best_mean,steps,seconds,"
        "images_per_second,hash\n"
        "random_halves,0,A3B+,B,3,transfer_finetuned,0.5,0.51,10,2.0,3.0,abc\n"
    )


def test_a_base_from_a_file_has_not_failed_where_it_has_no_accuracy(tmp_path):
    row = Row("imported", "whole", "baseA", "A", 0, "imported", None, None)
    failed = dataclasses.replace(row, cell="baseB", treatment="base", steps=12)
    write_results([row, failed], tmp_path / "results.csv")
    rows = read_results(tmp_path / "results.csv")
    assert [(r.treatment, r.finished, r.failed) for r in rows] == [
        ("imported", False, False),
        ("base", False, True),
    ]
    with pytest.raises(ResultsError, match="n = 2 for treatment 'imported'; expected 0"):
        dataclasses.replace(row, n=2)


GOOD = ["random_halves", "0", "A3B", "B", "3", "transfer_frozen", "0.5", "0.5", "9", "1", "1", "x"]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("n", "three", "line 2: n = 'three'; expected a number"),
        ("n", "", "n = ''; expected a number"),
        ("n", "0", "n = 0 for treatment 'transfer_frozen'"),
        ("treatment", "frozen", "unknown treatment 'frozen'; expected one of base, "),
        ("top1", "61.5", "top1 = 61.5; expected a fraction between 0 and 1"),
        ("top1_best_mean", "nan", "top1_best_mean = nan"),
        ("steps", "many", "steps = 'many'; expected a number or nothing"),
        ("cell", "", "cell is empty"),
    ],
)
def test_bad_values_name_the_line_and_the_column(tmp_path, column, value, message):
    values = [value if name == column else good for name, good in zip(COLUMNS, GOOD, strict=True)]
    with (tmp_path / "results.csv").open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, values])
    with pytest.raises(ResultsError) as error:
        read_results(tmp_path / "results.csv")
    assert message in str(error.value)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "results.csv"
    with pytest.raises(FileNotFoundError, match=r"results\.csv that a run writes"):
        read_results(path)
    path.write_text("cell,top1\nbaseA,0.5\n")
    with pytest.raises(ResultsError, match="columns are cell, top1; expected exactly experiment"):
        read_results(path)
    path.write_text("")
    with pytest.raises(ResultsError, match="columns are missing"):
        read_results(path)
    path.write_text(",".join(COLUMNS) + "\n" + 2 * (",".join(GOOD) + "\n"))
    with pytest.raises(ResultsError, match="line 3: random_halves 0 A3B appears a second time"):
        read_results(path)


def test_figures_show_the_mean_of_the_best_evaluations():
    row = Row("e", "0", "baseA", "A", 0, "base", 0.60, 0.62)
    assert row.accuracy == 0.62 and row.finished
    assert dataclasses.replace(row, top1_best_mean=None).accuracy == 0.60
    assert not dataclasses.replace(row, top1=None, top1_best_mean=None).finished
