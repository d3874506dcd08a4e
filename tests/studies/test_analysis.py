"""Parts that are kept on disk, and finished networks as the parts see them."""

import csv
import dataclasses
import json

import jax
import numpy as np
import pytest

from transfer_jax.data.augment import Augmentation
from transfer_jax.grid.store import Store
from transfer_jax.studies import analysis
from transfer_jax.studies.analysis import (
    Parts,
    Rows,
    Trained,
    hidden_layers,
    layer_features,
    merged,
    predictions,
    trained,
)


class Part:
    """Counts how often it is computed."""

    def __init__(self, files):
        self.files, self.calls = files, 0

    def __call__(self):
        self.calls += 1
        return self.files


TABLE = Rows(("a", "b"), [("x, y", None), (1, 0.25)])


@pytest.fixture
def parts(tmp_path):
    return Parts(tmp_path / "analysis")


def test_a_part_is_computed_once_for_the_same_inputs(parts):
    part = Part({"t.csv": TABLE, "t.npz": {"conv1/maps": np.arange(3)}})
    for _ in range(2):
        parts.compute("t", {"b": 1, "a": [2, (3,)]}, part)
    parts.compute("t", {"a": [2, [3]], "b": 1}, part)  # The same, as JSON has it.
    assert part.calls == 1
    with open(parts.directory / "t.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[:2] == [["a", "b"], ["x, y", ""]] and float(rows[2][1]) == 0.25
    with np.load(parts.directory / "t.npz") as arrays:
        assert arrays["conv1/maps"].tolist() == [0, 1, 2]
    names = {path.name for path in parts.directory.iterdir()}
    assert names == {"t.csv", "t.npz", "t.json"}
    parts.compute("t", {"b": 1, "a": [2, [4]]}, part)
    parts.compute("u", {"b": 1, "a": [2, [4]]}, part)
    assert part.calls == 3


def test_a_part_that_breaks_off_is_computed_again(parts, monkeypatch):
    part = Part({"t.csv": TABLE})

    def broken():
        raise KeyboardInterrupt

    parts.compute("t", 1, part)
    with pytest.raises(KeyboardInterrupt):
        parts.compute("t", 2, broken)
    # What lies there is of the first inputs, but is no longer vouched for.
    assert (parts.directory / "t.csv").exists() and not (parts.directory / "t.json").exists()
    parts.compute("t", 1, part)
    assert part.calls == 2
    with monkeypatch.context() as patched:
        patched.setattr(analysis, "write_json", lambda *arguments: broken())
        with pytest.raises(KeyboardInterrupt):
            parts.compute("u", 1, part)
    parts.compute("u", 1, part)
    assert part.calls == 4


def test_files_that_only_the_former_inputs_gave_are_removed(parts):
    parts.compute("t", 1, Part({"t.csv": TABLE, "t.npz": {"x": np.zeros(1)}}))
    parts.compute("t", 2, Part({"t.csv": TABLE}))
    assert {path.name for path in parts.directory.iterdir()} == {"t.csv", "t.json"}


def test_timings_are_those_of_the_parts(parts):
    parts.compute("second", 1, Part({}))
    parts.compute("first", 1, Part({}))
    parts.write_timings()
    with open(parts.directory / "timings.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["part"] for row in rows] == ["first", "second"]
    kept = [json.loads((parts.directory / f"{row['part']}.json").read_text()) for row in rows]
    for row, part in zip(rows, kept, strict=True):
        assert float(row["seconds"]) == pytest.approx(part["seconds"], abs=1e-5)


def test_timings_of_parts_of_several_cells_are_added_up(parts):
    names = [f"transfer-{hash}" for hash in ("0123456789abcdef", "f" * 16)]
    for name in (*names, "transfer-scratch"):
        parts.compute(name, 1, Part({}))
    parts.write_timings()
    with open(parts.directory / "timings.csv", newline="") as file:
        rows = {row["part"]: float(row["seconds"]) for row in csv.DictReader(file)}
    kept = [json.loads((parts.directory / f"{name}.json").read_text())["seconds"] for name in names]
    assert set(rows) == {"transfer", "transfer-scratch"}
    assert rows["transfer"] == pytest.approx(sum(kept), abs=1e-5)


def test_tables_of_one_header_are_joined(parts):
    for name, number in (("p", 1), ("q", 2), ("empty", None)):
        rows = [] if number is None else [(number, "a\nb"), (number, "c")]
        parts.compute(name, 1, Part({f"{name}.csv": Rows(("n", "text"), rows)}))
    merged(parts.directory, ["p.csv", "empty.csv", "q.csv"], "all.csv")
    with open(parts.directory / "all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["n"], row["text"]) for row in rows] == [
        (str(n), text) for n in (1, 2) for text in ("a\nb", "c")
    ]
    merged(parts.directory, [], "all.csv")
    assert not (parts.directory / "all.csv").exists()
    merged(parts.directory, [], "all.csv")


def varied(network: Trained, **changes) -> Trained:
    """The same weights in another view; the network's size of image is not looked at."""
    recipe = dataclasses.replace(network.cell.recipe, **changes)
    cell = object.__new__(type(network.cell))
    cell.__dict__.update({**vars(network.cell), "recipe": recipe})
    return Trained.of(cell, network.params, network.mean)


def test_a_view_is_the_centre_less_the_mean(zeiler):
    network = zeiler.trained("zfnet")
    labels = zeiler.source.labels("train")
    pictures = zeiler.source.images("train", np.arange(len(labels)))
    np.testing.assert_allclose(network.mean, pictures.mean((0, 1, 2)), rtol=1e-4)
    images = pictures[:3]
    cropped = varied(network, augmentation=Augmentation(size=20, pad=0), pixel_scale=0.5)
    expected = (images[:, 6:26, 6:26].astype(float) - network.mean) * 0.5
    np.testing.assert_allclose(cropped.view(images), expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(cropped.pixels(images), images[:, 6:26, 6:26])
    assert cropped.pixels(images).dtype == np.uint8
    padded = varied(network, augmentation=Augmentation(size=36, pad=2), pixel_scale=1.0)
    pixels = padded.pixels(images)
    np.testing.assert_array_equal(pixels[:, 2:34, 2:34], images)
    assert not pixels[:, :2].any() and not np.asarray(padded.view(images))[:, :, 34:].any()


def test_networks_come_back_as_they_were_trained(zeiler, tmp_path):
    network = zeiler.trained("zfnet")
    assert tuple(network.params) == network.cell.network.layer_names
    assert hidden_layers(network) == ("conv1", "conv2", "fc7")
    early = zeiler.trained("zfnet", step=5)
    last = zeiler.trained("zfnet", step=20)
    for name, layer in network.params.items():
        np.testing.assert_array_equal(last.params[name]["kernel"], layer["kernel"])
        assert np.abs(early.params[name]["kernel"] - layer["kernel"]).max() > 0
    with pytest.raises(FileNotFoundError, match="no snapshot of step 7"):
        zeiler.trained("zfnet", step=7)
    store = Store(tmp_path)
    assert trained(store, network.cell) is None
    store.fail(network.cell, "for a test")
    assert trained(store, network.cell) is None


def test_predictions_are_the_networks_probabilities(zeiler):
    network = zeiler.trained("zfnet")
    cell = network.cell
    said = predictions(network, zeiler.source, "val")
    places = [i for i, c in enumerate(zeiler.source.labels("val")) if cell.task.class_map[c] >= 0]
    images = zeiler.source.images("val", places)
    view = (images - network.mean) * cell.recipe.pixel_scale
    logits = jax.jit(cell.network.apply)(network.params, view)
    np.testing.assert_allclose(said.probabilities, jax.nn.softmax(logits), atol=1e-5)
    labels = [cell.task.class_map[c] for c in zeiler.source.labels("val")[places]]
    assert said.labels.tolist() == labels and len(labels) == 20 * 6
    few = predictions(network, zeiler.source, "val", most=4)
    np.testing.assert_allclose(few.probabilities, said.probabilities[[0, 40, 79, 119]], atol=1e-5)
    assert few.labels.tolist() == [labels[i] for i in (0, 40, 79, 119)]
    assert len(predictions(network, zeiler.source, "val", most=500).labels) == 120


def test_features_are_what_leaves_the_layers(zeiler, tmp_path):
    network = zeiler.trained("zfnet")
    places = np.array([5, 3, 11])
    found = layer_features(network, zeiler.source, "val", places, ("fc7", "conv1"), tmp_path / "f")
    images = zeiler.source.images("val", places)
    expected = jax.jit(network.cell.network.activations)(network.params, network.view(images))
    for name in ("fc7", "conv1"):
        flat = np.asarray(expected[name]).reshape(3, -1)
        np.testing.assert_allclose(found[name], flat, atol=1e-5)
    assert len(list((tmp_path / "f").iterdir())) == 2
