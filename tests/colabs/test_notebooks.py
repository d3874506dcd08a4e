"""Every notebook runs from its first cell to its last, and shows what it says it shows."""

import functools
import json
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

COLABS = Path(__file__).parents[2] / "colabs"
NOTEBOOKS = sorted(path.name for path in COLABS.glob("*.ipynb"))

PROBE = """
import json
print(json.dumps({
    "change": {c: {n: relative_change(cells[c], n) for n in net.layer_names} for c in cells},
    "top1": {name: cell["top1"] for name, cell in cells.items()},
    "flops": xla,
    "counted": counted,
}))
"""


@functools.cache
def executed(name: str, probe: str = ""):
    """The notebook after running in the tests' own interpreter, a cell with `probe` behind it."""
    notebook = nbformat.read(COLABS / name, as_version=4)
    if probe:
        notebook.cells.append(nbformat.v4.new_code_cell(probe))
    where = {"metadata": {"path": str(COLABS)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    return notebook


def pictures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output for output in outputs if "image/png" in output.get("data", {})]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_is_kept_without_outputs(name):
    notebook = nbformat.read(COLABS / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 12
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_splice_and_freeze():
    notebook = executed("splice_and_freeze.ipynb", PROBE)
    assert len(pictures(notebook)) == 4
    found = json.loads(notebook.cells[-1].outputs[0].text)

    layers = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    for cell, change in found["change"].items():
        still = layers[:3] if cell == "A3B" else ()
        assert tuple(change) == layers
        assert {layer for layer in layers if change[layer] == 0} == set(still)

    assert found["flops"] == sorted(found["flops"], reverse=True)
    for by_xla, counted in zip(found["flops"], found["counted"], strict=True):
        assert by_xla == pytest.approx(counted, rel=0.25)
    assert set(found["top1"]) == {"baseA", "baseB", "A3B", "A3B+"}
    # Ten classes: chance is 0.1, with a standard deviation of 0.013 on 500 images.
    assert min(found["top1"].values()) > 0.2


@pytest.mark.parametrize("name", sorted(set(NOTEBOOKS) - {"splice_and_freeze.ipynb"}))
def test_runs(name):
    assert executed(name)
