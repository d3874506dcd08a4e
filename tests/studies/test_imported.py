"""Studies whose base comes from a file, here of a network that another run has trained."""

import numpy as np
import pytest

from tests import small
from tests.studies.small_studies import (
    Finished,
    get_config,
    small_huh2016,
    small_zeiler2013,
)
from transfer_jax import main
from transfer_jax.grid.load import load_network, save_network
from transfer_jax.report.results import read_results
from transfer_jax.studies.settings import imported_from

WIDTHS = {"conv1": 4, "conv2": 4, "conv5": 4, "fc6": 16, "fc7": 16}


def small_yosinski2014(data_dir, **changes):
    """Three convolutions, 16x16 pictures of the embedded world, nothing asked for but the bases of
    split 0."""
    config = get_config("yosinski2014", data_dir=str(data_dir))
    config.dataset.update({"image_size": 16, "train_per_class": 8, "val_per_class": 4})
    config.network.widths, config.network.remove = WIDTHS, ("conv3", "conv4")
    config.network.input_size = config.recipe.augmentation.size = 16
    config.recipe.update({"batch_size": 16, "steps": 12, "eval_every": 12})
    config.recipe.pixel_scale = 1 / 64
    config.runtime.checkpoint_every = 12
    config.experiments.random_halves.ns = ()
    config.update_from_flattened_dict(changes)
    return config


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run that has trained both bases, and the file that base A was written to."""
    folder = tmp_path_factory.mktemp("exported")
    main.run(small_yosinski2014(folder / "data"), folder / "workdir", "the command")
    path = folder / "base_a.npz"
    save_network(load_network(folder / "workdir", "0 baseA"), path)
    return folder, path


@pytest.fixture(scope="module")
def importing(exported):
    folder, path = exported
    experiments = {
        "random_halves.splits": (),
        "imported.task": "B",
        "imported.ns": (2,),
        "imported.treatments": ("transfer_frozen", "selffer_frozen"),
    }
    return small_yosinski2014(
        folder / "data",
        **{f"experiments.{name}": value for name, value in experiments.items()},
        **{"imported.path": str(path), "reuse": (str(folder / "workdir"),)},
    )


def test_transfer_from_an_exported_base(exported, importing, tmp_path):
    folder, _ = exported
    text = main.dry_run(importing, tmp_path, assumed_tflops=1.0)
    assert "A2B" in text
    assert "note: baseA comes from base_a.npz, a network of 20 classes, and is not trained." in text
    page = main.run(importing, tmp_path, "the command").read_text()
    rows = {row.cell: row for row in read_results(tmp_path / "results.csv")}
    assert list(rows) == ["baseA", "baseB", "A2B", "B2B"]
    assert {(row.experiment, row.split) for row in rows.values()} == {("imported", "half B")}
    assert rows["baseA"].treatment == "imported" and rows["baseA"].accuracy is None
    assert all(rows[name].finished for name in ("baseB", "A2B", "B2B"))
    # The very base B of random halves: it was not trained again.
    before = {row.cell: row for row in read_results(folder / "workdir" / "results.csv")}
    assert rows["baseB"].hash == before["baseB"].hash
    trained = load_network(folder / "workdir", "0 baseA")
    copy, base = load_network(tmp_path, "A2B"), load_network(tmp_path, "baseA")
    assert small.same_bits(base.params, trained.params)
    for layer in ("conv1", "conv2"):
        assert small.same_bits(copy.params[layer], trained.params[layer])
    np.testing.assert_array_equal(copy.mean, trained.mean)
    assert "Transfer from an imported network" in page
    assert "baseA is base_a.npz, a network of 20 classes." in page
    assert "3</" in page and "networks trained" in page and "failed" not in page
    assert main.report(tmp_path).read_text() == page


def test_a_wrong_network_comes_out_before_any_data_is_prepared(exported, tmp_path):
    _, path = exported
    wider = small_yosinski2014(tmp_path / "data", **{"imported.path": str(path)})
    wider.network.widths = {**WIDTHS, "fc6": 24}
    for use in (main.run, main.dry_run):
        with pytest.raises(ValueError, match=r"base_a.npz.*fc6"):
            use(wider, tmp_path / "workdir", **({"command": "x"} if use is main.run else {}))
    other = small_yosinski2014(tmp_path / "data", **{"imported.path": str(path)})
    other.network.name = "caffenet"
    with pytest.raises(ValueError, match=r"base_a.npz"):
        main.run(other, tmp_path / "workdir", "the command")
    assert not (tmp_path / "data").exists()


def test_the_file_and_the_mean_are_found(exported, importing, tmp_path):
    """In data_dir too, and with a mean from a file or from three numbers."""
    folder, path = exported
    config = importing.copy_and_resolve_references()
    config.data_dir = str(folder)
    config.imported.path = path.name
    imported, network = imported_from(config, config.network)
    assert network.num_classes == 20 and imported.path == str(path)
    config.imported.mean = "10, 20.5,30"
    found, _ = imported_from(config, config.network)
    assert found.mean.tolist() == [10, 20.5, 30] and found.digest == imported.digest
    np.save(folder / "mean.npy", np.ones((16, 16, 3), np.float32))
    config.imported.mean = "mean.npy"
    assert imported_from(config, config.network)[0].mean.shape == (16, 16, 3)
    config.imported.mean = "grey"
    with pytest.raises(ValueError, match=r"imported.mean='grey': expected a file of a mean"):
        imported_from(config, config.network)
    config.imported.path = "nowhere.npz"
    with pytest.raises(FileNotFoundError, match=r"imported.path=nowhere.npz"):
        imported_from(config, config.network)
    config.imported.path = ""
    assert imported_from(config, config.network) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imported.same_classes": True}, r"base_a.npz tells 20 classes apart .* are 40"),
        ({"experiments.imported.task": "C"}, r"experiments.imported.task='C': expected 'W'"),
        ({"experiments.imported.treatments": ("frozen",)}, "'frozen' is unknown"),
    ],
)
def test_bad_settings_are_named(importing, tmp_path, change, message):
    config = importing.copy_and_resolve_references()
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        main.run(config, tmp_path, "the command")


def test_huh2016_fine_tunes_a_file(huh, tmp_path):
    """Beside networks that were pretrained here; its frozen features are worth the same."""
    config = small_huh2016(huh.config.data_dir)
    config.reuse = (str(huh.workdir),)
    config.experiments.classes = {"bottom_up": (), "top_down": ()}
    config.experiments.targets = ("held_out",)
    config.imported.path = str(tmp_path / "all.npz")
    original = next(row for row in huh.rows("conditions.csv") if row["condition"] == "all")
    save_network(load_network(huh.workdir, original["hash"]), config.imported.path)
    run = Finished.of(config, tmp_path / "workdir")
    rows = {row["condition"]: row for row in run.rows("conditions.csv")}
    assert rows["imported"]["num_images"] == rows["imported"]["pretrain_top1"] == ""
    assert rows["imported"]["num_classes"] == rows["all"]["num_classes"] == "20"
    worth = {(row["condition"], row["measure"]): row for row in run.rows("transfer.csv")}
    assert {("imported", "svm"), ("imported", "fine_tuned")} <= set(worth)
    theirs, ours = worth["all", "svm"], worth["imported", "svm"]
    assert float(ours["accuracy"]) == pytest.approx(float(theirs["accuracy"]), abs=0.02)
    page = run.page.read_text()
    assert "From a file" in page and "imported (%)" in page


def test_zeiler2013_looks_into_a_file(zeiler, tmp_path):
    """First as a network of unknown classes, then as one of the source's."""
    config = small_zeiler2013(zeiler.config.data_dir)
    config.reuse = (str(zeiler.workdir),)
    config.experiments.ensemble_seeds = ()
    config.experiments.no_filter_rule = False
    config.imported.path = str(tmp_path / "zfnet.npz")
    save_network(load_network(zeiler.workdir, "zfnet"), config.imported.path)
    run = Finished.of(config, tmp_path / "workdir")
    assert not (run.workdir / "analysis" / "networks.csv").exists()
    assert not (run.workdir / "analysis" / "occlusion.csv").exists()

    def worth(of):
        return {
            (row["readout"], row["layer"], row["fold"], row["train_per_class"]): row["accuracy"]
            for row in of.rows("transfer.csv")
        }

    theirs, ours = worth(zeiler), worth(run)
    assert theirs.keys() == ours.keys() and any(key[0] == "scratch" for key in ours)
    differences = [float(ours[key]) - float(theirs[key]) for key in ours]
    assert np.abs(differences).max() < 0.05 and np.mean(np.equal(differences, 0)) > 0.8
    config.imported.same_classes = True
    run = Finished.of(config, tmp_path / "workdir")
    (network,) = run.rows("networks.csv")
    original = next(row for row in zeiler.rows("networks.csv") if row["name"] == "zfnet")
    for field in ("val_top1_error", "val_top5_error", "train_top1_error", "num_val"):
        assert float(network[field]) == pytest.approx(float(original[field]), abs=0.02)
    (row,) = (r for r in read_results(run.workdir / "results.csv") if r.split == "zfnet")
    assert row.treatment == "imported"
    assert row.top1 == pytest.approx(1 - float(network["val_top1_error"]), abs=0.02)
    assert "imported" in run.page.read_text()


def test_zeiler2013_takes_the_file_of_either_architecture(zeiler, tmp_path):
    config = small_zeiler2013(zeiler.config.data_dir)
    config.imported.path = str(tmp_path / "zfnet.npz")
    save_network(load_network(zeiler.workdir, "zfnet"), config.imported.path)
    config.imported.architecture = "alexnet"
    with pytest.raises(ValueError, match=r"zfnet.npz.*'zfnet'.*'alexnet'"):
        main.dry_run(config, tmp_path)
    config.imported.architecture = "vgg"
    with pytest.raises(ValueError, match=r"imported.architecture='vgg': expected one of"):
        main.dry_run(config, tmp_path)
