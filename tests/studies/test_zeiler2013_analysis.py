"""What is read out of the networks of Zeiler & Fergus 2013, against their own activations."""

import dataclasses
import functools
import shutil
import types

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from tests import small
from transfer_jax import main
from transfer_jax.data.augment import Augmentation
from transfer_jax.grid import job as grid_job
from transfer_jax.grid.store import Store
from transfer_jax.readout.features import features
from transfer_jax.readout.metrics import average_precisions
from transfer_jax.readout.protocols import fit_readout
from transfer_jax.report.zeiler2013_files import read_analysis
from transfer_jax.studies import zeiler2013 as study
from transfer_jax.studies import zeiler2013_readout as readout
from transfer_jax.studies import zeiler2013_visual as visual
from transfer_jax.studies.analysis import Trained, hidden_layers, layer_features
from transfer_jax.studies.zeiler2013_analysis import analyse
from transfer_jax.studies.zeiler2013_targets import targets
from transfer_jax.visual.deconvnet import project_units
from transfer_jax.visual.occlusion import centres_inside, occlusion_maps
from transfer_jax.visual.receptive_field import receptive_field

LAYERS = ("conv1", "conv2")


@pytest.fixture(scope="module")
def network(zeiler):
    """The network that is looked into."""
    return zeiler.trained("zfnet")


@pytest.fixture(scope="module")
def shown(zeiler, network):
    """The validation images that Figures 2, 5 and 6 are made from."""
    return visual.Images.of_task(zeiler.source, "val", network.cell.task, 60)


@functools.lru_cache
def forward(network):
    return jax.jit(network.activations)


def activations(network, pixels):
    """What leaves each layer, computed in one program: 64 images at a time."""
    run, count = forward(network.cell.network), len(pixels)
    padded = np.resize(pixels, (-(-count // 64) * 64, *pixels.shape[1:]))
    found = [
        run(network.params, network.view(padded[start : start + 64]))
        for start in range(0, count, 64)
    ]
    return {name: np.concatenate([part[name] for part in found])[:count] for name in found[0]}


def strongest(values, maps):
    """Ids and positions of the nine strongest images of maps, from activations (n, h, w, c)."""
    flat = values[..., maps].reshape(len(values), -1, len(maps))
    peaks = flat.max(1)
    ids = np.argsort(-peaks, axis=0, kind="stable")[:9].T
    places = flat.argmax(1)
    positions = np.array([[divmod(places[i, m], values.shape[2]) for i in row]
                          for m, row in enumerate(ids)])  # fmt: skip
    return ids, positions, np.take_along_axis(peaks, ids.T, 0).T


# The whole run.


def test_the_run_ends_in_a_report_of_all_its_files(zeiler):
    page = zeiler.page.read_text()
    assert zeiler.page == zeiler.workdir / "report" / "index.html" and "the command" in page
    found = read_analysis(zeiler.workdir)
    for table in ("networks", "ensembles", "transfer", "multilabel", "occlusion", "evolution",
                  "filters", "timings"):  # fmt: skip
        assert getattr(found, table), table
    assert [line.part for line in found.timings] == [
        "duplicates", "errors", "evolution", "filters", "multilabel", "occlusion", "projections",
        "rules", "transfer-others"]  # fmt: skip
    assert (zeiler.workdir / "analysis" / "duplicates.csv").exists()
    for name in ("projections", "evolution", "filters", "rules"):
        assert found.arrays(name)


def test_a_second_run_computes_nothing(zeiler, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("something was computed again")

    monkeypatch.setattr(grid_job, "train_group", refuse)
    for module, names in (
        (visual, ("projections", "rules", "filters", "occlusion", "evolution")),
        (readout, ("errors", "transfer", "multilabel")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr("transfer_jax.studies.zeiler2013_duplicates.find_duplicates", refuse)
    before = analysis_files(zeiler.workdir)
    main.run(zeiler.config, zeiler.workdir, "the command")
    assert analysis_files(zeiler.workdir) == before


def analysis_files(workdir):
    """Name -> when it was written, of the files that are a part's own."""
    written = {p.name: p.stat().st_mtime_ns for p in (workdir / "analysis").iterdir()}
    return {n: t for n, t in written.items() if n not in ("timings.csv", "transfer.csv")}


def test_a_killed_analysis_goes_on_where_it_was(zeiler, tmp_path, monkeypatch):
    workdir = shutil.copytree(zeiler.workdir, tmp_path / "workdir")
    for name in ("filters", "errors"):
        (workdir / "analysis" / f"{name}.json").unlink()
    before = analysis_files(workdir)

    def killed(*arguments):
        raise KeyboardInterrupt

    arguments = (zeiler.config, zeiler.open_dataset, Store(workdir))
    with monkeypatch.context() as patched:
        patched.setattr(visual, "filters", killed)
        with pytest.raises(KeyboardInterrupt):
            analyse(*arguments)
    halfway = analysis_files(workdir)
    assert "errors.json" in halfway and "filters.json" not in halfway
    analyse(*arguments)
    after = analysis_files(workdir)
    again = {name for name in after if after[name] != before.get(name)}
    assert again == {"errors.json", "networks.csv", "ensembles.csv",
                     "filters.json", "filters.csv", "filters.npz"}  # fmt: skip
    assert {n: after[n] for n in ("errors.json", "networks.csv")} == {
        n: halfway[n] for n in ("errors.json", "networks.csv")
    }
    for name in ("networks.csv", "filters.csv", "transfer.csv"):
        mine, theirs = ((w / "analysis" / name).read_text() for w in (workdir, zeiler.workdir))
        assert mine == theirs


def test_failed_networks_are_left_out(zeiler, tmp_path, monkeypatch, caplog):
    """A failed seed takes its ensemble along; a failed main network all that is read out of it."""
    cells = {name: cell for _, name, cell in zeiler.work.entries}
    for name in ("zfnet seed 1", "zfnet"):
        store = Store(shutil.copytree(zeiler.workdir, tmp_path / name))
        shutil.rmtree(store.workdir / "analysis")
        (store.cell_dir(cells[name]) / "done.json").unlink()
        store.fail(cells[name], "for a test")
        for part in ("_look", "_transfer"):
            monkeypatch.setattr(
                f"transfer_jax.studies.zeiler2013_analysis.{part}",
                lambda *arguments, name=name: (tmp_path / f"{name} read").touch(),
            )
        analyse(zeiler.config, zeiler.open_dataset, store)
        found = read_analysis(store.workdir)
        assert len(found.networks) == 2 and found.network(name) is None
        assert not found.ensembles
        assert (tmp_path / f"{name} read").exists() == (name != "zfnet")
    assert "zfnet failed" in caplog.text


# Figures 2 and 4 to 6.


@pytest.mark.parametrize("layer", LAYERS)
def test_patches_are_the_pixels_that_the_strongest_units_see(zeiler, network, shown, layer):
    arrays = zeiler.arrays("projections.npz")
    assert arrays["network"] == "zfnet" and arrays["layers"].tolist() == list(LAYERS)
    values = activations(network, shown[np.arange(60)])[layer]
    maps = arrays[f"{layer}/maps"]
    assert len(maps) == 2 and (np.diff(maps) > 0).all() and values[..., maps].max((0, 1, 2)).all()
    ids, positions, peaks = strongest(values, maps)
    np.testing.assert_allclose(arrays[f"{layer}/values"], peaks, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(arrays[f"{layer}/image_ids"], shown.records[ids])
    field = receptive_field(network.cell.network, layer)
    side = min(field.size, 32)
    assert arrays[f"{layer}/patches"].shape == (2, 9, side, side, 3)
    assert arrays[f"{layer}/patches"].dtype == np.uint8
    pixels = shown[ids.ravel()]
    down = np.asarray(project_units(
        network.cell.network, network.params, network.view(pixels), layer, np.repeat(maps, 9),
        positions.reshape(-1, 2),
    ))  # fmt: skip
    starts = field.offset + field.stride * positions.reshape(-1, 2)
    if field.size >= 32:
        starts[:] = 0
    patches, pictures = (
        arrays[f"{layer}/{name}"].reshape(18, side, side, 3) for name in ("patches", "projections")
    )
    for k, (row, column) in enumerate(starts + 32):
        inside = np.pad(down[k], ((32, 32), (32, 32), (0, 0)))
        around = np.pad(pixels[k], ((32, 32), (32, 32), (0, 0)), mode="edge")
        cut = (slice(row, row + side), slice(column, column + side))
        np.testing.assert_array_equal(patches[k], around[cut])
        np.testing.assert_allclose(pictures[k], inside[cut], atol=1e-4)
        # All of the projection lies within what the unit sees.
        total = np.abs(down[k]).sum()
        assert np.abs(pictures[k]).sum() == pytest.approx(total, rel=1e-3, abs=1e-3)


def test_maps_that_no_image_switches_on_are_left_out(network, shown):
    bias = np.array(network.params["conv2"]["bias"])
    bias[1:] = -1e6
    params = {**network.params, "conv2": {**network.params["conv2"], "bias": bias}}
    found = visual.projections(dataclasses.replace(network, params=params), shown, 2)
    maps = found["projections.npz"]["conv2/maps"]
    assert set(maps.tolist()) <= {0} and len(found["projections.npz"]["conv1/maps"]) == 2
    dead = {**network.params, "conv2": {**network.params["conv2"], "bias": bias - 1e6}}
    silent = dataclasses.replace(network, params=dead)
    arrays = visual.projections(silent, shown, 2)["projections.npz"]
    assert arrays["conv2/patches"].shape == arrays["conv2/projections"].shape == (0, 9, 32, 32, 3)
    files = visual.filters({"zfnet": silent}, shown, 3)
    assert files["filters.npz"]["zfnet/conv2_projections"].shape == (0, 32, 32, 3)
    evolved = visual.evolution({1.0: silent}, shown, 2)
    assert [row[2] for row in evolved["evolution.csv"].rows] == [1.0, None]


def test_rules_send_the_strongest_unit_down(zeiler, network, shown):
    arrays = zeiler.arrays("rules.npz")
    peaks = activations(network, shown[np.arange(60)])["conv2"].max((1, 2))
    image, strongest_map = np.unravel_index(np.argmax(peaks), peaks.shape)
    assert arrays["layer"] == "conv2" and arrays["map"] == strongest_map
    pixels = shown[[image]]
    np.testing.assert_array_equal(arrays["image"], pixels[0])

    def unit(x):
        found = network.cell.network.apply_range(network.params, x, 0, "fc7")
        return found[0, ..., strongest_map].max()

    gradient = jax.jit(jax.grad(unit))(network.view(pixels))[0]
    np.testing.assert_allclose(
        arrays["gradient"] / np.abs(arrays["gradient"]).max(),
        gradient / np.abs(gradient).max(), atol=1e-3,
    )  # fmt: skip
    for rule in ("deconvnet", "guided"):
        assert arrays[rule].shape == (32, 32, 3)
        assert np.abs(arrays[rule] - arrays["gradient"]).max() > 0


def test_evolution_ends_at_the_network_itself(zeiler, network):
    arrays, rows = zeiler.arrays("evolution.npz"), zeiler.rows("evolution.csv")
    assert arrays["epochs"].tolist() == [0.5, 1.0, 2.0]
    assert arrays["layers"].tolist() == list(LAYERS)
    table = {(row["layer"], float(row["epoch"])): row for row in rows}
    assert len(table) == len(rows) == 6
    train = visual.Images.of_task(zeiler.source, "train", network.cell.task, 60)
    pixels = train[np.arange(60)]
    early, last = zeiler.trained("zfnet", 5), network
    for layer in LAYERS:
        end = table[layer, 2.0]
        assert float(end["overlap"]) == 1 and float(end["kernel_cosine"]) == pytest.approx(1)
        before, after = (activations(n, pixels)[layer] for n in (early, last))
        alive = np.flatnonzero(after.max((0, 1, 2)) > 0)
        pairs = zip(strongest(before, alive)[0], strongest(after, alive)[0], strict=True)
        overlap = np.mean([len(set(a) & set(b)) / 9 for a, b in pairs])
        assert float(table[layer, 0.5]["overlap"]) == pytest.approx(overlap, abs=1e-5)
        kernels = [np.ravel(n.params[layer]["kernel"]) for n in (early, last)]
        cosine = kernels[0] @ kernels[1] / np.prod([np.linalg.norm(k) for k in kernels])
        assert float(table[layer, 0.5]["kernel_cosine"]) == pytest.approx(cosine, abs=1e-5)
        maps = arrays[f"{layer}/maps"]
        assert set(maps) <= set(alive) and len(maps) == 2
        assert arrays[f"{layer}/projections"].shape == (2, 3, 32, 32, 3)
        ids, positions, _ = strongest(after, maps)
        down = project_units(last.cell.network, last.params, last.view(pixels[ids[:, 0]]), layer,
                             maps, positions[:, 0])  # fmt: skip
        np.testing.assert_allclose(arrays[f"{layer}/projections"][:, -1], down, atol=1e-4)


def test_filters_are_those_of_the_networks(zeiler):
    arrays, rows = zeiler.arrays("filters.npz"), zeiler.rows("filters.csv")
    names = ("zfnet", study.NO_RULE)
    assert [(row["network"], row["layer"]) for row in rows] == [
        (name, layer) for name in names for layer in LAYERS
    ]
    for name in names:
        kernel = zeiler.trained(name).params["conv1"]["kernel"]
        np.testing.assert_array_equal(arrays[f"{name}/conv1"], kernel)
        pictures = arrays[f"{name}/conv2_projections"]
        assert pictures.shape[1:] == (32, 32, 3) and 1 <= len(pictures) <= 3
        energy = np.square(kernel).sum((0, 1, 2))
        (row,) = (row for row in rows if (row["network"], row["layer"]) == (name, "conv1"))
        assert int(row["filters"]) == 4
        share = energy.max() / energy.sum()
        assert float(row["strongest_energy_share"]) == pytest.approx(share, abs=1e-5)
    ruled = np.sqrt(np.square(arrays["zfnet/conv1"]).mean((0, 1, 2)))
    assert ruled.max() <= zeiler.config.recipe.max_filter_rms + 1e-6


@pytest.fixture(scope="module")
def sure(network, shown):
    """A network that is sure of its answers, and images that are labelled with them."""
    params = {**network.params, "fc8": jax.tree.map(lambda w: 300 * w, network.params["fc8"])}
    certain = Trained.of(network.cell, params, network.mean)
    logits = activations(certain, shown[np.arange(60)])["fc8"]
    probable = np.flatnonzero(jax.nn.softmax(logits).max(1) > 0.5)
    assert len(probable) > 10
    return certain, dataclasses.replace(
        shown, records=shown.records[probable], labels=logits.argmax(1)[probable].astype(np.int32)
    )


def test_occlusion_is_measured_on_images_that_are_right_and_sure(zeiler, sure):
    network, images = sure
    settings = zeiler.config.experiments.occlusion
    files = visual.occlusion(network, images, settings)
    rows, arrays = files["occlusion.csv"].rows, files["occlusion.npz"]
    assert len(rows) == 4 and len({row[0] for row in rows}) == 4
    names = [zeiler.source.class_names[c] for c in network.cell.task.dataset_classes]
    reader = zeiler.source.record_source("val")
    for record, name, correct, probability, lowest, inside, share in rows:
        (place,) = np.flatnonzero(images.records == record)
        label = int(images.labels[place])
        view = np.asarray(network.view(images[[place]]))[0]
        maps = occlusion_maps(network.cell.network, network.params, view, label, square=12,
                              stride=10)  # fmt: skip
        assert (name, correct) == (names[label], 1)
        assert probability == pytest.approx(maps.unoccluded_probability, abs=1e-4)
        assert lowest == pytest.approx(maps.probability.min(), abs=1e-4)
        marked = centres_inside(maps, tuple(reader[record]["boxes"][0]))
        assert share == pytest.approx(marked.mean())
        assert inside == marked.ravel()[maps.probability.argmin()]
    assert arrays["images"].shape == arrays["projections"].shape == (2, 32, 32, 3)
    places = [int(np.flatnonzero(images.records == row[0])[0]) for row in rows[:2]]
    np.testing.assert_array_equal(arrays["images"], images[places])
    np.testing.assert_array_equal(arrays["classes"], images.labels[places])
    assert arrays["class_names"].tolist() == names and arrays["layer"] == "conv2"
    for field in ("activation", "probability", "predicted"):
        assert arrays[field].shape == (2, 3, 3)
    assert arrays["rows"].tolist() == arrays["columns"].tolist() == [0, 10, 20]
    assert (arrays["square"], arrays["stride"]) == (12, 10)


def test_occlusion_without_boxes_and_of_wrong_answers(zeiler, sure):
    class NoBoxes:
        class_names = zeiler.source.class_names
        images = zeiler.source.images

        def record_source(self, split):
            records = zeiler.source.record_source(split)
            return [{k: v for k, v in records[i].items() if k != "boxes"}
                    for i in range(len(records))]  # fmt: skip

    network, images = sure
    wrong = (images.labels + 1) % 20
    images = dataclasses.replace(images, dataset=NoBoxes(), labels=wrong)
    files = visual.occlusion(network, images, zeiler.config.experiments.occlusion)
    assert set(files) == {"occlusion.csv"}
    assert [row[2] for row in files["occlusion.csv"].rows] == [0] * 4
    assert [row[5:] for row in files["occlusion.csv"].rows] == [(None, None)] * 4


@pytest.mark.parametrize(
    ("size", "pad", "image", "box", "expected"),
    [
        (32, 4, (32, 32), (0.25, 0, 0.5, 1), (0.25, 0, 0.5, 1)),
        # 64 pixels, of which the view shows 16 .. 48.
        (32, 0, (64, 64), (0.25, 0.5, 0.375, 0.625), (0, 0.5, 0.25, 0.75)),
        # It shows rows 10 .. 30 and columns 30 .. 50.
        (20, 0, (40, 80), (0.5, 0.25, 1, 0.5), (0.5, 0, 1, 0.5)),
        # The image fills 2 .. 30 of 32 pixels.
        (32, 2, (28, 28), (0, 0, 1, 0.5), (2 / 32, 2 / 32, 30 / 32, 16 / 32)),
        # 33 pixels of which 32 are shown: up and left.
        (32, 0, (33, 33), (0, 0, 1, 1), (0, 0, 1, 1)),
        (16, 0, (64, 64), (0, 0, 0.375, 1), None),
    ],
)
def test_boxes_move_with_the_view(size, pad, image, box, expected):
    recipe = types.SimpleNamespace(augmentation=Augmentation(size, pad))
    network = types.SimpleNamespace(cell=types.SimpleNamespace(recipe=recipe))
    record = {"boxes": np.array([box, (0, 0, 1, 1)], np.float32)}
    found = visual._box_in_view(network, image, record)
    assert (found is None) == (expected is None)
    if expected is not None:
        assert found == pytest.approx(expected)
    assert visual._box_in_view(network, image, {"boxes": np.zeros((0, 4))}) is None


def test_images_are_spread_evenly_over_a_split(zeiler, network, shown):
    labels = zeiler.source.labels("val")
    of_task = [i for i, c in enumerate(labels) if network.cell.task.class_map[c] >= 0]
    every = visual.Images.of_task(zeiler.source, "val", network.cell.task)
    assert every.records.tolist() == of_task
    places = np.searchsorted(of_task, shown.records)
    assert places[0] == 0 and places[-1] == 119 and set(np.diff(places)) == {2, 3}
    (ids, view), *rest = every.batches(network)
    assert ids.tolist() == list(range(120)) and not rest
    np.testing.assert_allclose(view[7], network.view(every[[7]])[0], atol=1e-5)


# Tables 1 to 6 and Figure 7.


def softmax_of(network, dataset, split, places):
    pixels = dataset.images(split, places)
    return np.asarray(jax.nn.softmax(activations(network, pixels)["fc8"]), float)


def error(probabilities, labels, k):
    """By hand: the true class is not among the k likeliest."""
    order = np.argsort(-probabilities, axis=1)[:, :k]
    return np.mean([label not in row for label, row in zip(labels, order, strict=True)])


def test_errors_are_those_of_the_networks_and_of_their_mean(zeiler):
    rows = {row["name"]: row for row in zeiler.rows("networks.csv")}
    assert list(rows) == ["zfnet", "zfnet seed 1", study.NO_RULE]
    said = {}
    for name, row in rows.items():
        network = zeiler.trained(name)
        cell = network.cell
        found = {}
        for split in ("train", "val"):
            labels = zeiler.source.labels(split)
            mapped = np.array(cell.task.class_map)[labels]
            places = np.flatnonzero(mapped >= 0)
            found[split] = softmax_of(network, zeiler.source, split, places), mapped[places]
        said[name] = found["val"]
        expected = {
            "train_top1_error": error(*found["train"], 1),
            "val_top1_error": error(*found["val"], 1),
            "val_top5_error": error(*found["val"], 5),
        }
        for column, value in expected.items():
            assert float(row[column]) == pytest.approx(value, abs=1e-5), (name, column)
        assert (row["architecture"], row["variant"]) == ("zfnet", "base")
        assert (row["hash"], row["num_val"]) == (cell.hash, "120")
        assert int(row["params"]) == sum(w.size for w in jax.tree.leaves(network.params))
        done = zeiler.store.outcome(cell)
        assert float(row["val_top1_error"]) == pytest.approx(1 - done["top1"], abs=1e-5)
    assert [row["seed"] for row in rows.values()] == ["0", "1", "0"]
    assert [row["filter_rule"] for row in rows.values()] == ["1", "1", "0"]
    (both,) = zeiler.rows("ensembles.csv")
    mean = (said["zfnet"][0] + said["zfnet seed 1"][0]) / 2
    assert (both["name"], both["members"], both["num_val"]) == ("zfnet x 2", "2", "120")
    for k in (1, 5):
        expected = error(mean, said["zfnet"][1], k)
        assert float(both[f"val_top{k}_error"]) == pytest.approx(expected, abs=1e-5)


def test_the_wide_network_joins_the_second_ensemble():
    def of(name, variant="base"):
        return name, (study.SourceNetwork(name, "zfnet", variant, None), None)

    base, seed, wide, free = (
        of("zfnet"), of("zfnet seed 1"), of("zfnet conv345_wide", "conv345_wide"), of(study.NO_RULE)
    )  # fmt: skip
    assert readout._ensembles(dict([base, wide, free])) == {}
    assert readout._ensembles(dict([base, wide, seed, free])) == {
        "zfnet x 2": ["zfnet", "zfnet seed 1"],
        "zfnet x 2 and wide": ["zfnet", "zfnet seed 1", "zfnet conv345_wide"],
    }


def test_transfer_has_a_row_for_each_readout_size_and_fold(zeiler):
    rows = zeiler.rows("transfer.csv")
    keys = [(r["readout"], r["layer"], int(r["train_per_class"]), int(r["fold"])) for r in rows]
    layers = [("conv1", 4), ("conv2", 4), ("fc7", 4)]
    expected = {
        (kind, *place, fold)
        for fold in (0, 1)
        for kind, places in (
            ("svm", layers),
            ("softmax", [*layers, ("fc7", 1), ("fc7", 2)]),
            ("scratch", [("", 2)]),
        )
        for place in places
    }
    assert set(keys) == expected and len(keys) == len(expected)
    assert {(r["target"], r["dataset"]) for r in rows} == {("others", zeiler.source.name)}
    assert {(r["num_classes"], r["num_test"]) for r in rows} == {("20", "100")}


def mean_per_class(answers, labels):
    return np.mean([(answers[labels == c] == c).mean() for c in range(20)])


def test_transfer_is_the_accuracy_of_readouts_of_each_fold(zeiler, network):
    """Fitted to features that are computed here, of images that are drawn here."""
    rows = {
        (r["readout"], r["layer"], int(r["train_per_class"]), int(r["fold"])): float(r["accuracy"])
        for r in zeiler.rows("transfer.csv")
    }
    (target,) = targets(zeiler.config, zeiler.open_dataset)
    names = zeiler.source.class_names
    for fold, size, kind, layer in ((0, 4, "svm", "conv2"), (1, 2, "softmax", "fc7")):
        # A fold drawn at its own size has the same images as the largest one's first.
        drawn = target.fold(fold, size)
        assert set(drawn.class_names) == {names[c] for c in target.classes}
        x, labels = {}, {}
        for split in ("train", "val"):
            labels[split] = drawn.labels(split)
            pixels = drawn.images(split, np.arange(len(labels[split])))
            whole = target.fold(fold, 4)
            first = np.arange(len(whole.labels(split)))
            if split == "train":
                first = first[first % 4 < size]
            np.testing.assert_array_equal(whole.images(split, first), pixels)
            # At chance the choice of the regularisation hangs on the features' last bits, so the
            # study's own are taken once they are known to be right.
            found = layer_features(network, whole, split, np.arange(len(whole.labels(split))),
                                   hidden_layers(network), None)[layer][first]  # fmt: skip
            x[split] = found
            own = activations(network, pixels)[layer].reshape(len(pixels), -1)
            np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-5)
        assert np.bincount(labels["train"]).tolist() == [size] * 20
        model = fit_readout(x["train"], labels["train"], kind)
        scores = model.scores(x["val"])
        true = np.take_along_axis(scores, labels["val"][:, None], 1)
        # Images that switch nothing on score all classes alike: a tie is no hit.
        answers = np.where((scores >= true).sum(1) == 1, labels["val"], -1)
        expected = mean_per_class(answers, labels["val"])
        assert rows[kind, layer, size, fold] == pytest.approx(expected, abs=1e-6)
    for fold in (0, 1):
        drawn = target.fold(fold, 2)
        alone = zeiler.trained(f"others 2 fold {fold}")
        answers = softmax_of(alone, drawn, "val", np.arange(100)).argmax(1)
        expected = mean_per_class(answers, drawn.labels("val"))
        assert rows["scratch", "", 2, fold] == pytest.approx(expected, abs=1e-5)


def test_readouts_learn_from_nested_sets_and_share_their_test_images(
    zeiler, network, tmp_path, monkeypatch
):
    """What is fitted, for each row that is not from scratch, is what a fold of that size draws."""
    calls = []

    def fitted(*arrays, kind):
        calls.append((kind, *arrays))
        return 0.0

    monkeypatch.setattr(readout, "layer_accuracy", fitted)
    (target,) = targets(zeiler.config, zeiler.open_dataset)
    files = readout.transfer(network, target, [], tmp_path)
    rows = files["transfer-others.csv"].rows
    assert len(rows) == len(calls) == 16
    for row, (kind, x, labels, queries, wanted) in zip(rows, calls, strict=True):
        assert row[3] == kind
        drawn = target.fold(row[6], row[5])
        for split, found, of in (("train", x, labels), ("val", queries, wanted)):
            np.testing.assert_array_equal(of, drawn.labels(split))
            pixels = drawn.images(split, np.arange(len(of)))
            expected = activations(network, pixels)[row[4]].reshape(len(pixels), -1)
            np.testing.assert_allclose(found, expected, atol=1e-5)


def test_average_precisions_of_images_of_several_classes(zeiler, network):
    rows = zeiler.rows("multilabel.csv")
    scenes = zeiler.open_dataset(zeiler.config.experiments.multilabel.dataset, multilabel=True)
    targets_of = {split: scenes.targets(split) for split in ("train", "val")}
    pixels = {s: scenes.images(s, np.arange(len(t))) for s, t in targets_of.items()}
    x = {split: activations(network, of)["fc7"] for split, of in pixels.items()}
    alone = zeiler.trained("scenes")
    assert alone.cell.network.num_classes == 40
    scores = {
        "softmax": log_softmax(
            fit_readout(x["train"], targets_of["train"], "softmax").scores(x["val"]), axis=1
        ),
        "sigmoid": fit_readout(x["train"], targets_of["train"], "sigmoid").scores(x["val"]),
        "scratch": log_softmax(activations(alone, pixels["val"])["fc8"], axis=1),
    }
    assert [(r["readout"], r["class"]) for r in rows] == [
        (kind, name) for kind in scores for name in scenes.class_names
    ]
    for kind, of_images in scores.items():
        found = [r for r in rows if r["readout"] == kind]
        assert {r["target"] for r in found} == {"scenes"}
        positives = (targets_of["val"] == 1).sum(0)
        assert [int(r["positives"]) for r in found] == positives.tolist()
        for method in ("area", "voc2007"):
            expected = average_precisions(of_images, targets_of["val"], method)
            values = [float(r[f"ap_{method}"]) for r in found]
            # Rounding moves readouts, and images of nearly one score past each other.
            np.testing.assert_allclose(values, expected, atol=0.05)
            assert np.mean(values) == pytest.approx(expected.mean(), abs=0.005)


def test_features_of_the_analysis_are_kept(zeiler, network):
    """They are in the workdir, so that a run that goes on finds them."""
    kept = {path.name.split("-")[0] for path in (zeiler.workdir / "features").iterdir()}
    assert kept == {"conv1", "conv2", "fc7"}
    recipe = network.cell.recipe
    scenes = zeiler.open_dataset(zeiler.config.experiments.multilabel.dataset, multilabel=True)
    found = features(
        network.cell.network, network.params, scenes, "val", np.arange(scenes.num_records["val"]),
        ["fc7"], augmentation=recipe.augmentation, mean=network.mean, scale=recipe.pixel_scale,
        cache_dir=zeiler.workdir / "features",
    )["fc7"]  # fmt: skip
    assert isinstance(found, np.memmap)
    assert small.same_bits(found, layer_again(network, scenes))


def layer_again(network, scenes):
    recipe = network.cell.recipe
    return features(
        network.cell.network, network.params, scenes, "val", np.arange(scenes.num_records["val"]),
        ["fc7"], augmentation=recipe.augmentation, mean=network.mean, scale=recipe.pixel_scale,
    )["fc7"]  # fmt: skip
