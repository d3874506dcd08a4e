"""How reports show bases that come from files, with and without an accuracy of their own."""

import json

import pytest

from tests.report.conftest import network
from transfer_jax.report import analysis
from transfer_jax.report.results import Row, write_results
from transfer_jax.report.yosinski2014 import write_report


def rows(top1):
    base = Row("imported", "whole", "baseA", "A", 0, "imported", top1, None, hash="aa")
    target = network("imported", "whole", None, 0, "B", "base", 0.5)
    copies = [
        network("imported", "whole", "A", n, "B", treatment, accuracy)
        for treatment, change in (("transfer_frozen", 0.02), ("transfer_finetuned", 0.1))
        for n, accuracy in ((1, 0.5 + change), (2, 0.5 + 2 * change))
    ]
    return [base, target, *copies]


@pytest.mark.parametrize("top1", [None, 0.57])
def test_only_the_targets_base_is_compared_with(top1):
    """Whatever is known of the file."""
    (unit,) = analysis.grid(rows(top1), "imported")
    assert unit == ("whole", "B")
    cells = analysis.grid(rows(top1), "imported")
    change = analysis.compare(cells, "transfer_frozen", "base", [1, 2], {})
    assert change.value == pytest.approx(0.03)
    assert analysis.means(cells)["base", 0] == 0.5


@pytest.mark.parametrize("top1", [None, 0.57])
def test_the_report_says_what_was_imported(tmp_path, top1):
    write_results(rows(top1), tmp_path / "results.csv")
    cell = {"imported": "caffenet.caffemodel", "num_classes": 1000, "treatment": "imported"}
    (tmp_path / "cells" / "aa").mkdir(parents=True)
    (tmp_path / "cells" / "aa" / "cell.json").write_text(json.dumps(cell))
    text = write_report(tmp_path, title="imported").read_text()
    said = "baseA is caffenet.caffemodel, a network of 1,000 classes"
    said += "." if top1 is None else " with a top-1 accuracy of 57.00 %."
    assert said in text and "failed" not in text
    assert (tmp_path / "report" / "imported.png").exists()
    for value in ("52.00", "54.00", "60.00", "70.00", "+2.0", "+20.0"):
        assert value in text, value


def test_nothing_is_said_without_a_file(tmp_path):
    there = [row for row in rows(None) if row.treatment == "base"]
    write_results(there, tmp_path / "results.csv")
    text = write_report(tmp_path, title="plain").read_text()
    assert "imported network" not in text
    assert not (tmp_path / "report" / "imported.png").exists()
