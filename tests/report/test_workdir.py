"""What all reports share: reading a workdir, clearing its report, reading its analysis."""

import dataclasses

import numpy as np
import pytest

from transfer_jax.report.analysis_files import (
    AnalysisError,
    Timing,
    read_arrays,
    read_lines,
    read_tables,
)
from transfer_jax.report.claims import decide_all
from transfer_jax.report.workdir import read_workdir, report_folder


def test_a_workdir_is_read_with_what_failed_and_what_is_missing(partial_store):
    directory, rows = partial_store
    found = read_workdir(directory)
    assert {row.key for row in found.rows} == {row.key for row in rows}
    assert [failure.cell for failure in found.failures] == ["A4B+"]
    assert {cell.cell for cell in found.missing} == {"A6B+", "B2A", "B4A", "B6A", "baseW"}


def test_only_the_pictures_of_an_earlier_report_go(tmp_path):
    folder = report_folder(tmp_path)
    assert folder == tmp_path / "report" and folder.is_dir()
    names = ("figure2.png", "mine.png", "claims.csv")
    for name in names:
        (folder / name).touch()
    report_folder(str(tmp_path), ("figure2.png", "absent.png"))
    assert {path.name for path in folder.iterdir()} == {"mine.png", "claims.csv"}
    report_folder(tmp_path)
    assert [path.name for path in folder.iterdir()] == ["claims.csv"]


@dataclasses.dataclass(frozen=True)
class Line:
    name: "str" = dataclasses.field(metadata={"column": "class"})
    known: "bool"
    share: "Fraction | None"  # noqa: F821
    late: "int | None" = None


def test_lines_are_read_by_column(tmp_path):
    path = tmp_path / "lines.csv"
    assert read_lines(path, Line) == ()
    path.write_text("share,other,class,known\n,x,cat,1\n1.000001,y,dog,False\n")
    assert read_lines(path, Line) == (Line("cat", True, None), Line("dog", False, 1.0))
    with pytest.raises(AnalysisError, match=r"timings\.csv: no column part, seconds"):
        path.rename(tmp_path / "timings.csv")
        read_tables(tmp_path, {"lines": Line, "timings": Timing})


def test_arrays_are_read_by_key(tmp_path):
    assert read_arrays(tmp_path / "none.npz") == {}
    np.savez(tmp_path / "some.npz", a=np.arange(3), b=np.eye(2))
    found = read_arrays(tmp_path / "some.npz")
    assert set(found) == {"a", "b"} and np.array_equal(found["b"], np.eye(2))


def test_what_must_hold_everywhere_is_as_good_as_its_worst_part():
    good, open_, bad = "reproduced", "not tested", "not reproduced"
    assert decide_all([good, good]) == good
    assert decide_all(iter([good, open_, good])) == open_
    assert decide_all([open_, good, bad]) == bad
