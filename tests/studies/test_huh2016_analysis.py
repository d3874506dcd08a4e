"""What is read out of the networks of Huh et al. 2016, against their own predictions."""

import csv
import functools
import shutil

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from transfer_jax import main
from transfer_jax.data.world import class_paths
from transfer_jax.grid import job as grid_job
from transfer_jax.grid.store import Store
from transfer_jax.readout.metrics import average_precisions
from transfer_jax.readout.protocols import fit_readout
from transfer_jax.report.huh2016_files import read_analysis
from transfer_jax.studies import huh2016_analysis
from transfer_jax.studies.analysis import layer_features
from transfer_jax.studies.huh2016_analysis import analyse
from transfer_jax.studies.huh2016_source import source_of
from transfer_jax.studies.huh2016_targets import wanted_targets

TWO = ("2 classes bottom-up", "2 classes top-down")
CONDITIONS = ("all", *TWO, "with target classes")


@pytest.fixture(scope="module")
def targets(huh):
    source = source_of(huh.config, huh.open_dataset)
    return {t.name: t for t in wanted_targets(huh.config, source, huh.open_dataset)}


@functools.lru_cache
def forward(network):
    return jax.jit(network.activations)


def activations(network, pixels):
    """The last hidden layer, and the logits."""
    found = forward(network.cell.network)(network.params, network.view(pixels))
    return np.asarray(found["fc7"]), np.asarray(found["fc8"])


def analysis_files(workdir):
    """Name -> when it was written, of the files that are a part's own."""
    written = {p.name: p.stat().st_mtime_ns for p in (workdir / "analysis").iterdir()}
    joined = ("timings.csv", "transfer.csv", "actions.csv")
    return {n: t for n, t in written.items() if n not in joined}


def rows_of(workdir, name):
    with open(workdir / "analysis" / name, newline="") as file:
        return list(csv.DictReader(file))


# The whole run.


def test_the_run_ends_in_a_report_of_all_its_files(huh):
    page = huh.page.read_text()
    assert huh.page == huh.workdir / "report" / "index.html" and "the command" in page
    found = read_analysis(huh.workdir)
    for table in ("conditions", "transfer", "targets", "neighbours", "siblings", "actions",
                  "timings"):  # fmt: skip
        assert getattr(found, table), table
    assert found.target_names() == ["held_out", "scenes"]
    assert set(found.num_eval.values()) == {160, 320}


def test_a_second_run_computes_nothing(huh, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError("something was computed again")

    monkeypatch.setattr(grid_job, "train_group", refuse)
    for name in ("_conditions", "_targets", "_transfer", "_scratch", "_neighbours"):
        monkeypatch.setattr(huh2016_analysis, name, refuse)
    before = analysis_files(huh.workdir)
    main.run(huh.config, huh.workdir, "the command")
    assert analysis_files(huh.workdir) == before


def test_a_killed_analysis_goes_on_where_it_was(huh, tmp_path, monkeypatch):
    workdir = shutil.copytree(huh.workdir, tmp_path / "workdir")
    for name in ("transfer-scenes-scratch", "transfer-held_out-scratch", "neighbours"):
        (workdir / "analysis" / f"{name}.json").unlink()
    before = analysis_files(workdir)

    def killed(*arguments):
        raise KeyboardInterrupt

    arguments = (huh.config, huh.open_dataset, Store(workdir))
    with monkeypatch.context() as patched:
        patched.setattr(huh2016_analysis, "_neighbours", killed)
        with pytest.raises(KeyboardInterrupt):
            analyse(*arguments)
    halfway = analysis_files(workdir)
    assert "transfer-scenes-scratch.json" in halfway and "neighbours.json" not in halfway
    analyse(*arguments)
    after = analysis_files(workdir)
    assert {name for name in after if after[name] != halfway.get(name)} == {
        "neighbours.json", "neighbours.csv", "siblings.csv"}  # fmt: skip
    assert {name for name in halfway if halfway[name] != before.get(name)} == {
        f"transfer-{target}-scratch{end}"
        for target, ends in (("held_out", (".csv", ".json")),
                             ("scenes", (".csv", "-actions.csv", ".json")))
        for end in ends
    }  # fmt: skip
    for name in ("transfer.csv", "actions.csv", "neighbours.csv", "siblings.csv"):
        assert rows_of(workdir, name) == huh.rows(name)


def test_failed_networks_are_left_out_until_they_are_retried(huh, tmp_path):
    store = Store(shutil.copytree(huh.workdir, tmp_path / "workdir"))
    cells = {name: cell for _, name, cell in huh.work.entries}
    base, tuned = cells["with target classes seed 0"], cells["all to held_out seed 0"]
    alone = cells["held_out seed 0"]
    done = {}
    for cell in (base, tuned, alone):
        done[cell.hash] = (store.cell_dir(cell) / "done.json").read_text()
        (store.cell_dir(cell) / "done.json").unlink()
        store.fail(cell, "for a test")
    arguments = (huh.config, huh.open_dataset, store)
    analyse(*arguments)

    def keys():
        return [(r["condition"], r["target"], r["measure"])
                for r in rows_of(store.workdir, "transfer.csv")]  # fmt: skip

    everything = keys_of(huh)
    missing = set(everything) - set(keys())
    assert missing == {
        ("all", "held_out", "fine_tuned"),
        ("scratch", "held_out", "fine_tuned"),
        ("with target classes", "held_out", "svm"),
        ("with target classes", "scenes", "svm"),
    }
    tops = {r["condition"]: r["pretrain_top1"] for r in rows_of(store.workdir, "conditions.csv")}
    assert [name for name, top1 in tops.items() if not top1] == ["with target classes"]
    read_analysis(store.workdir)
    for cell in (base, tuned, alone):
        store.forget_failure(cell)
        (store.cell_dir(cell) / "done.json").write_text(done[cell.hash])
    analyse(*arguments)
    assert keys() == everything and rows_of(store.workdir, "transfer.csv") == huh.rows(
        "transfer.csv"
    )
    assert rows_of(store.workdir, "conditions.csv") == huh.rows("conditions.csv")


def test_frozen_features_and_scratch_can_be_left_out(huh, tmp_path):
    store = Store(shutil.copytree(huh.workdir, tmp_path / "workdir"))
    config = huh.config.copy_and_resolve_references()
    config.experiments.update({"frozen_features": False, "scratch": False, "neighbours": False})
    analyse(config, huh.open_dataset, store)
    rows = rows_of(store.workdir, "transfer.csv")
    assert {r["measure"] for r in rows} == {"fine_tuned"}
    assert [r["condition"] for r in rows] == [*CONDITIONS] * 2
    assert {r["condition"] for r in rows_of(store.workdir, "actions.csv")} == set(CONDITIONS)


# The tables.


def keys_of(huh):
    return [(r["condition"], r["target"], r["measure"]) for r in huh.rows("transfer.csv")]


def test_conditions_say_how_networks_were_pretrained(huh):
    rows = huh.rows("conditions.csv")
    columns = ("question", "condition", "value", "num_classes", "num_images")
    assert [tuple(row[c] for c in columns) for row in rows] == [
        ("classes", "all", "20", "20", "160"),
        ("classes", TWO[0], "2", "2", "160"),
        ("classes", TWO[1], "2", "2", "160"),
        ("overlap", "all", "0", "20", "160"),
        ("overlap", "with target classes", "1", "40", "320"),
    ]
    cells = {name: cell for e, name, cell in huh.work.entries if e == "pretrained"}
    for row in rows:
        cell = cells[f"{row['condition']} seed {row['seed']}"]
        assert row["seed"] == "0" and row["hash"] == cell.hash
        top1 = huh.store.outcome(cell)["top1"]
        assert float(row["pretrain_top1"]) == pytest.approx(top1, abs=1e-5)


def test_targets_are_described(huh, targets):
    columns = ("target", "num_classes", "train_per_class", "test_per_class",
               "from_pretraining_dataset", "kind")  # fmt: skip
    rows = huh.rows("targets.csv")
    assert [tuple(row[c] for c in columns) for row in rows] == [
        ("held_out", "20", "3", "5", "1", "classification"),
        ("scenes", "40", "0", "5", "0", "actions"),
    ]
    assert [row["dataset"] for row in rows] == [t.pool.name for t in targets.values()]


def test_each_condition_has_each_measure_on_each_target(huh):
    """Of two conditions that are one network, each has its lines."""
    expected = [
        *((c, t, m) for t in ("held_out", "scenes") for c in CONDITIONS
          for m in ("fine_tuned", "svm")),
        *(("scratch", t, "fine_tuned") for t in ("held_out", "scenes")),
    ]  # fmt: skip
    assert sorted(keys_of(huh)) == sorted(expected)
    rows = {(r["condition"], r["target"], r["measure"]): r for r in huh.rows("transfer.csv")}
    assert {r["num_test"] for r in rows.values() if r["target"] == "held_out"} == {"100"}
    for target in ("held_out", "scenes"):
        for measure in ("fine_tuned", "svm"):
            one, other = (rows[name, target, measure] for name in TWO)
            assert one["accuracy"] == other["accuracy"]


@pytest.mark.parametrize("target", ["held_out", "scenes"])
def test_transfer_is_the_mean_of_the_classes_accuracies(huh, targets, target):
    rows = {
        (r["condition"], r["measure"]): float(r["accuracy"])
        for r in huh.rows("transfer.csv") if r["target"] == target
    }  # fmt: skip
    fold = targets[target].fold(0)
    labels = {split: fold.labels(split) for split in ("train", "val")}
    places = {split: np.flatnonzero(of >= 0) for split, of in labels.items()}
    pixels = {split: fold.images(split, at) for split, at in places.items()}
    labels = {split: labels[split][at] for split, at in places.items()}

    def mean_per_class(scores):
        right = scores.argmax(1) == labels["val"]
        return np.mean([right[labels["val"] == c].mean() for c in np.unique(labels["val"])])

    tuned = {
        "all": f"all to {target} seed 0",
        TWO[0]: f"{TWO[1]} to {target} seed 0",  # The same network by its other name.
        "scratch": f"{target} seed 0",
    }
    for condition, name in tuned.items():
        scores = activations(huh.trained(name), pixels["val"])[1]
        assert rows[condition, "fine_tuned"] == pytest.approx(mean_per_class(scores), abs=1e-5)
    if target == "held_out":
        frozen = huh.trained("with target classes seed 0")
        last = frozen.cell.network.layer_names[-2]
        # Near chance the fit hangs on the features' last bits: the study's own, once known right.
        x = {
            split: layer_features(frozen, fold, split, at, (last,), None)[last]
            for split, at in places.items()
        }
        for split, found in x.items():
            own = activations(frozen, pixels[split])[0]
            np.testing.assert_allclose(found, own, rtol=1e-4, atol=1e-5)
        model = fit_readout(x["train"], labels["train"], "svm")
        expected = mean_per_class(model.scores(x["val"]))
        assert rows["with target classes", "svm"] == pytest.approx(expected, abs=1e-6)


def test_actions_are_ranked_over_all_images_of_several_labels(huh, targets):
    """By the log-probability of the fine-tuned network, which learned from those of one label."""
    rows = huh.rows("actions.csv")
    scenes = targets["scenes"].pool.base
    assert [(r["condition"], r["class"]) for r in rows] == [
        (condition, name)
        for condition in (*CONDITIONS, "scratch") for name in scenes.class_names
    ]  # fmt: skip
    wanted = scenes.targets("val")
    assert (wanted == 1).sum(1).max() == 2
    pixels = scenes.images("val", np.arange(len(wanted)))
    for condition, name in (("all", "all to scenes seed 0"), ("scratch", "scenes seed 0")):
        scores = log_softmax(activations(huh.trained(name), pixels)[1], axis=1)
        expected = average_precisions(scores, wanted)
        found = [float(r["ap_area"]) for r in rows if r["condition"] == condition]
        np.testing.assert_allclose(found, expected, atol=0.02)
        assert np.mean(found) == pytest.approx(expected.mean(), abs=0.003)


def fine_features(huh, name):
    """Features and labels of the fine classes' images in both splits."""
    source = source_of(huh.config, huh.open_dataset)
    network = huh.trained(f"{name} seed 0")
    found = {}
    for split in ("train", "val"):
        labels = huh.source.labels(split)
        places = np.flatnonzero(np.isin(labels, source.pretraining))
        pixels = huh.source.images(split, places)
        found[split] = activations(network, pixels)[0], labels[places]
    return source, found


def distances(one, other):
    return np.linalg.norm(one[:, None].astype(float) - other, axis=2)


def test_neighbours_are_those_of_the_fine_classes(huh):
    """Of networks that never saw them apart."""
    rows = {row["condition"]: row for row in huh.rows("neighbours.csv")}
    assert list(rows) == ["all", *TWO]
    for name in ("all", TWO[0]):
        row = rows[name]
        assert (row["fine_classes"], row["queries"], row["seed"]) == ("20", "160", "0")
        assert row["num_classes"] == ("20" if name == "all" else "2")
        _, found = fine_features(huh, name)
        (x, labels), (queries, wanted) = found["train"], found["val"]
        nearest = np.argsort(distances(queries, x), axis=1, kind="stable")[:, :5]
        top1 = np.mean(labels[nearest[:, 0]] == wanted)
        top5 = np.mean((labels[nearest] == wanted[:, None]).any(1))
        # A near tie may fall to either side.
        assert float(row["top1"]) == pytest.approx(top1, abs=2 / 160)
        assert float(row["top5"]) == pytest.approx(top5, abs=2 / 160)


def test_siblings_are_counted_at_each_level(huh):
    rows = huh.rows("siblings.csv")
    source = source_of(huh.config, huh.open_dataset)
    paths = [class_paths()[c] for c in source.pretraining]
    families = len({path[2] for path in paths})
    levels = [(f"bottom-up {families}", 2), ("bottom-up 2", 1)]
    # From above: the heads one step up are the families, two steps up the kingdoms.
    levels += [(f"top-down {families}", 2), ("top-down 2", 1)]
    assert [(r["condition"], r["level"]) for r in rows] == [
        (condition, level) for condition in ("all", *TWO) for level, _ in levels
    ]
    depth = dict(levels)
    features = {name: fine_features(huh, name)[1]["val"] for name in ("all", *TWO)}
    for row in rows:
        parents = np.array([path[depth[row["level"]]] for path in paths])
        assert int(row["level_classes"]) == len(set(parents))
        same = (parents[:, None] == parents) & ~np.eye(20, dtype=bool)
        having = same.any(1)
        assert float(row["chance"]) == pytest.approx(same[having].sum(1).mean() / 19, abs=1e-5)
        x, labels = features[row["condition"]]
        means = np.stack([x[labels == c].mean(0) for c in source.pretraining])
        near = distances(means, means) + np.diag(np.full(20, np.inf))
        share = np.mean(same[np.arange(20), near.argmin(1)][having])
        assert float(row["share"]) == pytest.approx(share, abs=0.06)
