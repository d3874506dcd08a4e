"""What the README shows of generated pages is what was generated."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COST = (ROOT / "results" / "cost" / "yosinski2014_imagenet.md").read_text()


def test_the_cost_of_the_full_grid_is_that_of_the_dry_run():
    shown = README.partition("<!-- cost -->")[2].partition("<!-- /cost -->")[0].splitlines()
    generated = COST.splitlines()
    (command,) = (line for line in generated if "--dry_run" in line)
    rows = [line for line in generated if line.startswith("|")]
    assert command in shown
    assert [line for line in shown if line.startswith("|")] == rows and len(rows) > 10


@pytest.mark.parametrize("folder", sorted(p.name for p in (ROOT / "results").iterdir()))
def test_results_say_how_they_were_made(folder):
    assert f"{folder}/`" in (ROOT / "results" / "README.md").read_text() or folder == "README.md"
