"""The whole report, drawn from workdirs."""

import ast
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import transfer_jax.report
from tests.report.reading import (
    assert_needs_nothing_else,
    pictures_on_page,
    read_csv,
    text_of,
    verdicts_in,
)
from transfer_jax.report.cell_files import read_failures, read_metrics, read_missing
from transfer_jax.report.results import write_results
from transfer_jax.report.yosinski2014 import write_report


def report_of(store, **fields):
    directory, _ = store
    path = write_report(directory, title="A <title> & more", **fields)
    assert path == directory / "report" / "index.html"
    return path.parent, text_of(path)


@pytest.fixture(scope="module")
def demo_report(demo_store):
    return report_of(demo_store)


def test_the_papers_networks_give_the_papers_report(published_store):
    folder, text = report_of(published_store, notes=["made by hand", "two < three"])
    assert verdicts_in(folder) == ["reproduced"] * 7
    rows = read_csv(folder / "table1.csv")
    assert [round(100 * float(row["boost_over_mean_base"]), 1) for row in rows] == [1.6, 1.8, 2.1]
    for row in rows:
        assert row["boost_over_mean_base"] == row["published_over_mean_base"]
    drop = {int(row["n"]): row for row in read_csv(folder / "drop.csv")}
    assert float(drop[5]["coadaptation_of_means"]) == pytest.approx(0.6251 - 0.5935, abs=1.1e-4)
    assert float(drop[7]["specificity_of_means"]) == pytest.approx(0.6232 - 0.5425, abs=1.1e-4)
    assert "7 of 7" in text and "two < three" in text and "All 148 networks" in text


def test_every_figure_is_a_real_picture_on_the_page(demo_report):
    folder, _ = demo_report
    assert pictures_on_page(folder) == {
        "figure2.png",
        "figure3.png",
        "figure2_published.png",
        "figure3_published.png",
        "filters.png",
        "learning_curves.png",
    }


def test_the_page_needs_nothing_but_itself(demo_store, tmp_path):
    shutil.copytree(demo_store[0], tmp_path, dirs_exist_ok=True)
    folder, _ = report_of((tmp_path, ()), published=False)
    assert not list(folder.glob("*_published.png"))
    assert read_csv(folder / "table1.csv")[0]["published_over_mean_base"] == ""
    assert_needs_nothing_else(folder)
    page = (folder / "index.html").read_text()
    assert "<title>A &lt;title&gt; &amp; more</title>" in page
    assert "paper (ImageNet)" not in page and "it prints 1.6" not in page


def test_one_target_is_measured_against_its_own_base(demo_report):
    folder, text = demo_report
    last = read_csv(folder / "drop.csv")[-1]
    assert float(last["coadaptation"]) == pytest.approx(0.755 - 0.749)
    assert float(last["specificity"]) == pytest.approx(0.749 - 0.489)
    assert float(last["base_mean"]) == pytest.approx(0.755)
    error = np.sqrt((0.749 * 0.251 + 0.489 * 0.511) / 800)
    assert float(last["specificity_se"]) == pytest.approx(error, abs=1e-6)
    assert verdicts_in(folder)[5:] == ["not tested", "not tested"]
    assert "failed" not in text


def test_a_partial_store_says_what_failed_and_what_is_missing(partial_store):
    folder, text = report_of(partial_store)
    assert "non-finite loss nan at step 1200 of A4B+ (peak_lr=0.4)" in text
    assert "1 failed" in text and "5 planned but not finished" in text
    assert (folder / "images_per_class.png").exists()
    assert [row["n"] for row in read_csv(folder / "drop.csv")] == ["2", "4", "6"]
    directory, rows = partial_store
    (failure,) = read_failures(directory, rows)
    assert (failure.cell, failure.step) == ("A4B+", "1200")
    missing = [cell.cell for cell in read_missing(directory, rows)]
    assert missing == ["A6B+", "B2A", "B4A", "B6A", "baseW"]


@pytest.mark.parametrize("kept", [0, 3])
def test_a_run_that_has_just_begun_has_a_report(demo_store, tmp_path, kept):
    write_results(demo_store[1][:kept], tmp_path / "results.csv")
    path = write_report(tmp_path, title="begun")
    assert set(verdicts_in(path.parent)) <= {"not tested", "reproduced"}
    assert ("No network has finished yet" in path.read_text()) == (kept == 0)


def test_networks_without_any_base_are_shown_and_not_compared(demo_store, tmp_path):
    rows = [row for row in demo_store[1] if row.treatment != "base"]
    write_results(rows, tmp_path / "results.csv")
    path = write_report(tmp_path, title="no base")
    assert set(verdicts_in(path.parent)) - {"not tested"} <= {"reproduced"}
    assert (path.parent / "figure2.png").exists()


def test_failures_of_another_grid_in_the_workdir_are_left_out(partial_store, tmp_path):
    directory, rows = partial_store
    shutil.copytree(directory, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "cells" / "feed"
    folder.mkdir(parents=True)
    (folder / "failed.json").write_text(json.dumps({"cell": "R3B", "step": 5, "error": "nan"}))
    assert [failure.cell for failure in read_failures(tmp_path, rows)] == ["A4B+"]
    (tmp_path / "cells" / next(r.hash for r in rows if not r.finished) / "failed.json").unlink()
    (failure,) = read_failures(tmp_path, rows)
    assert failure.error == "no accuracy, and no error recorded"


def test_a_network_of_two_experiments_is_counted_once(tmp_path, demo_store):
    rows = list(demo_store[1])
    rows.append(dataclasses.replace(rows[0], experiment="other"))
    write_results(rows, tmp_path / "results.csv")
    page = write_report(tmp_path, title="shared").read_text()
    assert "<dt>networks trained</dt><dd>30</dd>" in page


def test_a_line_that_is_being_written_is_left_out(tmp_path):
    folder = tmp_path / "cells" / "abc"
    folder.mkdir(parents=True)
    path = folder / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(tmp_path, "abc") == [{"step": 1, "loss": 2.0}]
    path.write_text('{"step": 1, "lo\n{"step": 2, "loss": 2.0}\n')
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 1: not a JSON object"):
        read_metrics(tmp_path, "abc")
    assert read_metrics(tmp_path, "other") == [] and read_metrics(tmp_path, "") == []


def test_bad_workdirs_are_refused_by_name(tmp_path, demo_store):
    with pytest.raises(FileNotFoundError, match=r"results\.csv that a run writes"):
        write_report(tmp_path, title="empty")
    shutil.copy(demo_store[0] / "results.csv", tmp_path)
    with pytest.raises(TypeError, match="notes is one string"):
        write_report(tmp_path, title="x", notes="one line")
    (tmp_path / "plan.json").write_text('{"cells": 3}')
    with pytest.raises(ValueError, match=r"plan.json: expected a list of objects"):
        write_report(tmp_path, title="x")


def test_the_report_imports_nothing_that_trains():
    for path in Path(transfer_jax.report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            module = getattr(node, "module", None) or ""
            assert not re.match(r"transfer_jax\.(?!report)", module), (path.name, module)
    code = "import transfer_jax.report.yosinski2014, sys; print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
