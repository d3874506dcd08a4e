"""Every notebook runs from its first cell to its last; what it asserts of its networks holds."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

COLABS = Path(__file__).parents[2] / "colabs"
PROBES = {
    "recommend": """
from transfer_jax.readout.features import layer_features
from transfer_jax.readout.linear import layer_accuracy

files = sorted(Path(FOLDER).glob("*/*.png"))
assert len(files) == 800 and set(mine.train[0]).isdisjoint(mine.val[0])
for place in (0, 399, 799):
    assert np.array_equal(np.asarray(Image.open(files[place])), pictures.image(place))
x, x_test = (
    layer_features(net, source.params, pictures.read, rows, ["fc6"], view=source.view)["fc6"]
    for rows in (mine.train[0], mine.val[0])
)
x, x_test = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, x_test))
right = layer_accuracy(x, mine.train[1], x_test, mine.val[1])
assert abs(right[1::2].mean() - other.mean()) < 0.01
assert all(each.mean() <= validation[chosen].mean() for each in validation.values())
""",
    "pretraining_data": """
sizes = {name: (task.num_classes, len(task.train[0])) for name, task in ways(0).items()}
assert list(sizes.values()) == [(28, 1680), (coarse.num_classes, 1680), (28, 840), (14, 840)]
assert 1 < coarse.num_classes < 28 and sum(map(len, groups)) == 28
assert all(set(c for c in g) <= set(kept) for g in groups)
assert np.bincount(target.train[1]).tolist() == [10] * 12
assert set(pictures.labels[target.train[0]]) == set(held_out)
for task in ways(0).values():
    assert set(pictures.labels[task.train[0]]).isdisjoint(held_out)
assert len(found) == 5 * len(SEEDS) and found["target"].between(0, 1).all()
assert any((tuned[name]["kernel"] != base[name]["kernel"]).any() for name in list(base)[:7])
""",
    "score_maps": """
for name in layers:
    assert np.array_equal(params[name]["kernel"], base[name]["kernel"])
assert set(scenes.class_names[c] for c in classes) == set(wanted) == set(task.class_names[:-1])
for (boxes, said), row in zip(maps, rows):
    assert (0 <= boxes).all() and (boxes <= 1).all() and (said.sum(axis=1) <= 1 + 1e-5).all()
boxes, said = maps[0]
np.testing.assert_allclose(image_score(said), (said.astype(float) ** 5).mean(axis=0), rtol=1e-4)
heat = score_map(boxes, said[:, 0], (64, 64))
inside = (boxes[:, 0] <= 0.5) & (0.5 < boxes[:, 2]) & (boxes[:, 1] <= 0.5) & (0.5 < boxes[:, 3])
assert abs(heat[32, 32] - said[inside, 0].mean()) < 0.02
assert len(hits) == len(control) > 50
""",
    "splice_and_freeze": """
assert set(rows) == {"baseA", "baseB", "A3B", "A3B+", "B3B+"}
for name in of_b:
    still = {layer for layer in net.layer_names if moved(name, layer) == 0}
    assert still == (set(lower_layers(net, 3)) if name == "A3B" else set()), (name, still)
for n in lower_layers(net, 3):
    assert starts["A3B+"][n]["kernel"] is ends["baseA"][n]["kernel"]
flops = [net.train_flops(n) for n in range(8)]
assert flops == sorted(flops, reverse=True)
""",
    "visualize_features": """
assert abs(top1 - row["top1"]) < 2e-3
whole = np.asarray(jax.jit(net.activations)(params, x)[convs[1]]).max(axis=(1, 2))
strongest = np.sort(whole, axis=0)[::-1][:9].T
np.testing.assert_allclose(strongest, tops[convs[1]].values, rtol=1e-4, atol=1e-5)
assert set(rows.tolist()).isdisjoint(few.tolist()) and len(few) == 10 * others.num_classes
""",
}


@pytest.mark.parametrize("name", sorted(path.stem for path in COLABS.glob("*.ipynb")))
def test_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTEBOOK_STEPS", "20")
    monkeypatch.setenv("HOME", str(tmp_path))
    notebook = nbformat.read(COLABS / f"{name}.ipynb", as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(PROBES[name]))
    where = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()


@pytest.mark.parametrize("path", sorted(COLABS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_is_kept_small_and_with_its_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    kinds = {output.output_type for cell in code for output in cell.outputs}
    assert kinds == {"display_data", "stream"}
    assert path.stat().st_size < 150_000
