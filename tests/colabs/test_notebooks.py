"""Every notebook runs from its first cell to its last, and shows what it says it shows."""

import functools
import json
import runpy
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from transfer_jax import main

ROOT = Path(__file__).parents[2]
COLABS = ROOT / "colabs"
NOTEBOOKS = sorted(path.name for path in COLABS.glob("*.ipynb"))
SHOWN_HERE = {"splice_and_freeze.ipynb", "visualize_features.ipynb"}

SPLICED = """
import json
print(json.dumps({
    "change": {c: {n: relative_change(cells[c], n) for n in net.layer_names} for c in cells},
    "top1": {name: cell["top1"] for name, cell in cells.items()},
    "flops": xla,
    "counted": counted,
}))
"""

VISUALIZED = """
import json
hidden = np.array(x[chosen[:1]])
hidden[:, :SQUARE, :SQUARE] = 0
everything = jax.jit(net.activations)(params, np.concatenate([hidden, x]))
second = np.asarray(everything[convs[1]])[1:].max(axis=(1, 2))
after = jax.nn.softmax(everything[net.layer_names[-1]][0])[labels[chosen[0]]]
try:
    refused = load(Path(WORKDIR or OUT), "a cell that is not there")
except (ValueError, FileNotFoundError) as error:
    refused = str(error)
print(json.dumps({
    "refused": refused,
    "cell": [net.name, cell.name, cell.hash],
    "trained": [c.name for c in (store.workdir / "cells").iterdir()],
    "stored_top1": store.outcome(cell)["top1"],
    "top1": top1,
    "strongest": [np.sort(second, axis=0)[::-1][:9].T.tolist(), tops[convs[1]].values.tolist()],
    "corner": [float(after), float(examples[0].probability[0, 0])],
    "boxes": [example.box is not None for example in examples],
    "accuracy": accuracy,
    "compared": list(compared),
}))
"""


@functools.cache
def executed(name: str, probe: str = "", **parameters):
    """The notebook after running in the tests' own interpreter.

    Args:
      name: of the file.
      probe: code of a cell that is put behind the last one.
      parameters: set behind the notebook's cell of parameters.
    """
    notebook = nbformat.read(COLABS / name, as_version=4)
    if parameters:
        tags = [cell.metadata.get("tags", ()) for cell in notebook.cells]
        (place,) = (i for i, of_cell in enumerate(tags) if "parameters" in of_cell)
        known = notebook.cells[place].source
        assert all(parameter in known for parameter in parameters)
        lines = [f"{parameter} = {value!r}" for parameter, value in parameters.items()]
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell("\n".join(lines)))
    if probe:
        notebook.cells.append(nbformat.v4.new_code_cell(probe))
    where = {"metadata": {"path": str(COLABS)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    return notebook


def pictures(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output for output in outputs if "image/png" in output.get("data", {})]


def probed(notebook):
    return json.loads(notebook.cells[-1].outputs[0].text)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_is_kept_without_outputs(name):
    notebook = nbformat.read(COLABS / name, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 16
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_splice_and_freeze():
    notebook = executed("splice_and_freeze.ipynb", SPLICED, STEPS=160)
    assert len(pictures(notebook)) == 4
    found = probed(notebook)

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


def check_visualized(notebook):
    """What holds of any network that was looked into; returns the probe's findings."""
    assert len(pictures(notebook)) == 6
    found = probed(notebook)
    searched, shown = found["strongest"]
    for one, other in zip(searched, shown, strict=True):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert found["corner"][0] == pytest.approx(found["corner"][1], rel=1e-4, abs=1e-6)
    assert found["boxes"] == [True] * 3
    for values in found["accuracy"].values():
        assert len(values) == len(found["compared"])
    return found


@pytest.mark.slow
def test_visualize_features_of_a_network_that_it_trains(tmp_path):
    small = {"STEPS": 60, "PER_CLASS": 30, "STRIDE": 16, "FEW": 5}
    paths = {"OUT": str(tmp_path / "out"), "DATA_DIR": str(tmp_path / "data")}
    found = check_visualized(executed("visualize_features.ipynb", VISUALIZED, **small, **paths))
    assert found["cell"][:2] == ["zfnet", "baseA"] and found["trained"] == found["cell"][2:]
    # All validation images are looked at, in the view that the trainer evaluates in.
    assert found["top1"] == pytest.approx(found["stored_top1"], abs=2e-3)
    # Twenty classes: chance is 0.05, with a standard deviation of 0.007 on 1000 images.
    assert found["top1"] > 0.1
    assert found["compared"] == ["conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7"]
    assert max(found["accuracy"]["trained"]) > 0.1


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    """A workdir of the first study that holds both bases."""
    folder = tmp_path_factory.mktemp("run")
    config = runpy.run_path(str(ROOT / "configs/yosinski2014.py"))["get_config"]("demo")
    changes = {
        "data_dir": str(folder / "data"),
        "dataset.train_per_class": 8,
        "dataset.val_per_class": 3,
        "dataset.image_size": 16,
        "network.input_size": 16,
        "network.remove": ("conv3", "conv4", "conv5", "fc7"),
        "recipe.augmentation.size": 16,
        "recipe.batch_size": 8,
        "recipe.steps": 20,
        "recipe.eval_every": 20,
        "experiments.random_halves.ns": (),
    }
    config.update_from_flattened_dict(changes)
    config.network.widths = {"conv1": 8, "conv2": 8, "fc6": 16}
    main.run(config, folder / "run", "a test")
    return folder


def test_visualize_features_of_a_cell_of_a_finished_run(finished_run):
    paths = {"DATA_DIR": str(finished_run / "data"), "OUT": str(finished_run / "out")}
    small = {"WORKDIR": str(finished_run / "run"), "IMAGES": 60, "SQUARE": 8, "FEW": 2}
    name = "random_halves 0 baseB"
    notebook = executed("visualize_features.ipynb", VISUALIZED, CELL=name, **paths, **small)
    found = check_visualized(notebook)
    assert found["cell"][:2] == ["alexnet_mini", "baseB"] and len(found["trained"]) == 2
    assert found["top1"] == pytest.approx(found["stored_top1"], abs=1e-6)
    assert found["compared"] == ["conv1", "conv2", "fc6"]
    assert "'a cell that is not there'" in found["refused"] and name in found["refused"]


@pytest.mark.parametrize("name", sorted(set(NOTEBOOKS) - SHOWN_HERE))
def test_runs(name):
    assert executed(name)
