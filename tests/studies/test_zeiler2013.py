"""Which networks Zeiler & Fergus 2013 asks for, on which images."""

import itertools
import shutil
import types

import numpy as np
import pytest

from tests.data.image_trees import image_folder
from tests.studies.small_studies import get_config
from transfer_jax.data.folds import FoldedDataset
from transfer_jax.data.single_label import SingleLabelDataset
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.data.splits import random_halves
from transfer_jax.studies import zeiler2013 as study
from transfer_jax.studies import zeiler2013_duplicates as duplicates
from transfer_jax.studies.settings import as_config, dataset_opener
from transfer_jax.studies.zeiler2013_targets import targets


def conv(kernel, incoming, maps):
    return kernel * kernel * incoming * maps + maps


def dense(*units):
    return sum(a * b + b for a, b in itertools.pairwise(units))


ALEXNET = {
    "conv1": conv(11, 3, 96),
    "conv2": conv(5, 48, 256),
    "conv3": conv(3, 256, 384),
    "conv4": conv(3, 192, 384),
    "conv5": conv(3, 192, 256),
}
BELOW = conv(7, 3, 96) + conv(5, 96, 256)
NARROW = conv(3, 256, 384) + conv(3, 384, 384) + conv(3, 384, 256)
WIDE = conv(3, 256, 512) + conv(3, 512, 1024) + conv(3, 1024, 512)
# conv5 then takes conv2's maps, a half of them in each group.
FEW = ALEXNET["conv1"] + ALEXNET["conv2"] + conv(3, 128, 256)
TABLE2 = {
    # Name in the report -> removed layers, number of parameters.
    "alexnet": ((), sum(ALEXNET.values()) + dense(9216, 4096, 4096, 1000)),
    "alexnet without_3_4": (("conv3", "conv4"), FEW + dense(9216, 4096, 4096, 1000)),
    "alexnet without_7": (("fc7",), sum(ALEXNET.values()) + dense(9216, 4096, 1000)),
    "alexnet without_6_7": (("fc6", "fc7"), sum(ALEXNET.values()) + dense(9216, 1000)),
    "alexnet without_3_4_6_7": (("conv3", "conv4", "fc6", "fc7"), FEW + dense(9216, 1000)),
    "alexnet fc_half": ((), sum(ALEXNET.values()) + dense(9216, 2048, 2048, 1000)),
    "alexnet fc_double": ((), sum(ALEXNET.values()) + dense(9216, 8192, 8192, 1000)),
    "zfnet": ((), BELOW + NARROW + dense(9216, 4096, 4096, 1000)),
    "zfnet fc_half": ((), BELOW + NARROW + dense(9216, 2048, 2048, 1000)),
    "zfnet fc_double": ((), BELOW + NARROW + dense(9216, 8192, 8192, 1000)),
    "zfnet conv345_wide": ((), BELOW + WIDE + dense(18432, 4096, 4096, 1000)),
    "zfnet fc_double_conv345_wide": ((), BELOW + WIDE + dense(18432, 8192, 8192, 1000)),
}
NAMES = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")


def ilsvrc(config, *, multilabel=False):
    """A dataset of which only the classes matter."""
    names = tuple(f"class {i}" for i in range(1000))
    return types.SimpleNamespace(name="ilsvrc", class_names=names, class_paths=None)


@pytest.fixture(scope="module")
def imagenet():
    """Networks of the paper by name, near-duplicates left in."""
    config = get_config("zeiler2013", "imagenet")
    config.experiments.duplicates.remove = False
    found = study.source_networks(config, ilsvrc)
    by_name = {network.name: network for network in found}
    assert len(by_name) == len(found) == len({network.cell.hash for network in found})
    assert found[0].name == "zfnet"
    return by_name


@pytest.mark.parametrize("name", TABLE2)
def test_ablations_are_those_of_table_2(imagenet, name):
    removed, params = TABLE2[name]
    network = imagenet[name].cell.network
    assert network.num_params == params
    assert network.layer_names == tuple(layer for layer in NAMES if layer not in removed)
    assert (network.name, network.input_size, network.num_classes) == (name.split()[0], 224, 1000)
    assert imagenet[name].architecture == network.name
    assert imagenet[name].variant == (name.split()[1] if " " in name else "base")


def test_widths_are_those_of_table_2(imagenet):
    def widths(name, layers):
        found = {layer.name: layer.features for layer in imagenet[name].cell.network.layers}
        return [found[layer] for layer in layers]

    for architecture in ("alexnet", "zfnet"):
        assert widths(f"{architecture} fc_half", ("fc6", "fc7")) == [2048, 2048]
        assert widths(f"{architecture} fc_double", ("fc6", "fc7")) == [8192, 8192]
    wide = ("conv3", "conv4", "conv5")
    assert widths("zfnet conv345_wide", wide) == [512, 1024, 512]
    assert widths("zfnet fc_double_conv345_wide", (*wide, "fc6", "fc7")) == [
        512, 1024, 512, 8192, 8192]  # fmt: skip


def test_the_other_networks_differ_in_seed_or_rule_alone(imagenet):
    base = imagenet["zfnet"].cell
    others = {name: network.cell for name, network in imagenet.items() if name not in TABLE2}
    assert list(others) == [*(f"zfnet seed {seed}" for seed in (1, 2, 3, 4)), study.NO_RULE]
    assert base.seed == 0 and base.recipe.max_filter_rms == 0.1
    for name, cell in others.items():
        assert (cell.network, cell.task, cell.treatment) == (
            base.network,
            base.task,
            base.treatment,
        )
        changed = {
            field: value for field, value in vars(cell.recipe).items()
            if value != getattr(base.recipe, field)
        }  # fmt: skip
        if name == study.NO_RULE:
            assert changed == {"max_filter_rms": None} and cell.seed == 0
        else:
            assert not changed and name == f"zfnet seed {cell.seed}"
    recipe = base.recipe
    assert (recipe.batch_size, recipe.solver, recipe.learning_rate) == (128, "sgd", 0.01)
    assert recipe.steps == 70 * 1_281_167 // 128 and (recipe.crops, recipe.ten_crop) == (
        "ten",
        True,
    )


def test_the_main_seed_is_in_no_ensemble_twice(zeiler):
    """`ensemble_seeds` of the small study holds it."""
    names = [name for experiment, name, _ in zeiler.work.entries if experiment == "networks"]
    assert names == ["zfnet", "zfnet seed 1", study.NO_RULE]
    config = zeiler.config.copy_and_resolve_references()
    config.seed, config.experiments.no_filter_rule, config.experiments.alexnet = 1, False, True
    found = study.source_networks(config, zeiler.open_dataset)
    assert [(n.name, n.cell.seed) for n in found] == [
        ("zfnet", 1), ("alexnet", 1), ("zfnet seed 0", 0)]  # fmt: skip


def test_source_and_target_halve_the_classes(zeiler):
    half, other = random_halves(40, 0)
    cells = {name: cell for _, name, cell in zeiler.work.entries}
    assert cells["zfnet"].task.dataset_classes == tuple(half)
    (target,) = targets(zeiler.config, zeiler.open_dataset)
    assert target.classes == tuple(other)
    records = dict(target.records())
    assert {split: len(places) for split, places in records.items()} == {"train": 160, "val": 120}
    for split, places in records.items():
        assert set(zeiler.source.labels(split)[places]) == set(other)
    folds = [target.fold(seed, size) for seed in (0, 1) for size in (1, 2, 4)]
    for size, fold in zip((1, 2, 4) * 2, folds, strict=True):
        assert np.bincount(fold.labels("train")).tolist() == [size] * 20
        assert np.bincount(fold.labels("val")).tolist() == [5] * 20
    for one, two, four in (folds[:3], folds[3:]):
        for fold in (one, two):
            np.testing.assert_array_equal(fold.positions["val"], four.positions["val"])
        drawn = [set(map(tuple, fold.positions["train"])) for fold in (one, two, four)]
        assert drawn[0] < drawn[1] < drawn[2]
        assert not drawn[2] & set(map(tuple, four.positions["val"]))


def test_networks_are_trained_from_scratch_on_the_targets(zeiler):
    scratch = {name: cell for e, name, cell in zeiler.work.entries if e == "scratch"}
    assert list(scratch) == ["others 2 fold 0", "others 2 fold 1", "scenes"]
    datasets = {dataset.name: dataset for dataset in zeiler.work.datasets}
    assert len(datasets) == len(zeiler.work.datasets) == 4
    for fold in (0, 1):
        cell = scratch[f"others 2 fold {fold}"]
        dataset = datasets[cell.task.dataset]
        assert isinstance(dataset, FoldedDataset) and dataset.fold.seed == fold == cell.seed
        assert dataset.fold.train_per_class == 2 and dataset.fold.reserve == 4
        assert cell.task.num_classes == 20 and cell.source is None and cell.name == "baseB"
    scenes = scratch["scenes"]
    assert isinstance(datasets[scenes.task.dataset], SingleLabelDataset)
    assert scenes.task.num_classes == scenes.network.num_classes == 40


def test_what_is_not_asked_for_is_not_planned(zeiler):
    config = zeiler.config.copy_and_resolve_references()
    config.scratch_recipe = {"steps": 7, "eval_every": 7, "learning_rate": 0.5}
    config.experiments.multilabel.scratch = False
    config.experiments.evolution_epochs = ()
    work = study.plan(config, zeiler.open_dataset)
    assert work.snapshots == {work.entries[0][2].hash: ()}
    assert [name for e, name, _ in work.entries if e == "scratch"] == [
        "others 2 fold 0", "others 2 fold 1"]  # fmt: skip
    recipe = work.entries[-1][2].recipe
    assert (recipe.steps, recipe.learning_rate) == (7, 0.5)
    assert work.entries[0][2].recipe.steps == 20
    config.experiments.multilabel.update({"scratch": True, "name": ""})
    config.experiments.targets = ()
    config.experiments.duplicates.targets = ()
    assert {e for e, _, _ in study.plan(config, zeiler.open_dataset).entries} == {"networks"}


def test_snapshots_are_taken_after_epochs_of_the_source_task(zeiler):
    """160 images in batches of 16: ten updates make an epoch, and there are twenty."""
    assert study.snapshot_steps(zeiler.config, zeiler.source) == {5: 0.5, 10: 1.0, 20: 2.0}
    (hash, steps), *rest = zeiler.work.snapshots.items()
    assert not rest and tuple(steps) == (5, 10, 20)
    (main,) = (cell for _, name, cell in zeiler.work.entries if name == "zfnet")
    assert hash == main.hash and zeiler.store.snapshots(main) == (5, 10, 20)
    config = zeiler.config.copy_and_resolve_references()
    config.experiments.evolution_epochs = (3, 0.001, 1.46)
    assert study.snapshot_steps(config, zeiler.source) == {1: 0.001, 15: 1.46, 20: 2.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"experiments.ablations.zfnet": ("without_9",)},
            r"ablations\.zfnet.*'without_9'.*fc_half",
        ),
        (
            {"experiments.ablations.alexnet": ("fc_half", "x")},
            r"ablations\.alexnet.*'x'.*without_7",
        ),
        ({"experiments.targets": ("nothing",)}, r"targets holds 'nothing'; expected.*'others'"),
        ({"targets.others.classes": "some"}, r"others\.classes='some': expected 'others'"),
        ({"source_classes": "all"}, r"others\.classes='others': expected config\.source_classes"),
        ({"source_classes": "third"}, r"source_classes='third': expected 'half' or 'all'"),
        ({"experiments.ensemble_seeds": (0.5,)}, r"ensemble_seeds holds 0\.5: expected integers"),
        ({"targets.others.scratch": ("two",)}, r"targets\.others\.scratch holds 'two'"),
        ({"targets.others.scratch": (5,)}, r"reserve of a fold must be at least .* 5, got 4"),
    ],
)
def test_bad_configs_are_named(zeiler, change, message):
    config = zeiler.config.copy_and_resolve_references()
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        study.plan(config, zeiler.open_dataset)


def test_duplicates_are_looked_for_in_targets_that_are_asked_for(zeiler):
    config = zeiler.config.copy_and_resolve_references()
    config.experiments.duplicates.update({"targets": ("world",), "remove": True})
    with pytest.raises(
        ValueError, match=r"duplicates\.targets holds \['world'\]; expected.*others"
    ):
        study.plan(config, zeiler.open_dataset)


def test_classes_of_a_target_can_be_left_out(zeiler):
    config = zeiler.config.copy_and_resolve_references()
    config.source_classes = "all"
    config.targets.others.update({"classes": "all", "without": ("zebra", "apple"),
                                  "dataset": config.dataset.to_dict()})  # fmt: skip
    (target,) = targets(config, zeiler.open_dataset)
    assert target.classes == tuple(range(1, 39)) and len(target.fold(0, 1).class_names) == 38
    assert study.source_task(config, zeiler.open_dataset).num_classes == 40


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Four classes, of which two are the source; two pictures of them are also a target's."""
    root = tmp_path_factory.mktemp("planted")
    classes = ("ant", "bee", "cat", "dog")
    images = image_folder(root / "images", classes=classes, train=6, val=3, size=32)
    half, other = random_halves(4, 0)
    source, target = ([classes[i] for i in part] for part in (half, other))
    shutil.copy(images / "train" / source[0] / "2.JPEG", images / "val" / target[0] / "1.JPEG")
    shutil.copy(images / "train" / source[1] / "4.JPEG", images / "train" / target[1] / "0.JPEG")
    # The source's validation images are not trained on, and stay.
    shutil.copy(images / "val" / source[1] / "0.JPEG", images / "train" / target[1] / "1.JPEG")
    config = get_config("zeiler2013", data_dir=str(images))
    config.dataset = as_config(DatasetSpec("folder", path=str(images), image_size=32))
    config.experiments.duplicates = {"targets": ("others",), "remove": True}
    for name in ("zfnet", "alexnet"):
        config[name].input_size = 64
    return config, dataset_opener(str(root / "prepared"), root / "workdir"), half, other


def test_near_duplicates_are_left_out_of_the_source_task(planted, monkeypatch):
    config, open_dataset, half, _ = planted
    dataset = open_dataset(config.dataset)
    excluded = study.source_task(config, open_dataset).excluded
    pairs = duplicates.find(config, open_dataset)["others"]
    assert len(pairs) == len(excluded) == 2 and sorted(pairs.source) == list(excluded)
    (target,) = targets(config, open_dataset)
    pictures = np.concatenate([dataset.images(s, places) for s, places in target.records()])
    for source, other in zip(pairs.source, pairs.target, strict=True):
        np.testing.assert_array_equal(dataset.images("train", [source])[0], pictures[other])
        assert dataset.labels("train")[source] in half
    networks = study.source_networks(config, open_dataset)
    assert all(network.cell.task.excluded == excluded for network in networks)
    places, _ = networks[0].cell.task.select(dataset.labels("train"))
    assert len(places) == 10 and not set(places) & set(excluded)
    # The search is kept: it is not repeated.
    monkeypatch.setattr(duplicates, "find_duplicates", None)
    again = duplicates.find(config, open_dataset)
    assert duplicates.digest(again) == duplicates.digest({"others": pairs})
    kept = config.copy_and_resolve_references()
    kept.experiments.duplicates.remove = False
    task = study.source_task(kept, open_dataset)
    assert task.excluded == () and len(task.select(dataset.labels("train"))[0]) == 12


def test_near_duplicates_are_listed_and_shown(planted):
    config, open_dataset, _, _ = planted
    pairs = duplicates.find(config, open_dataset)
    for remove in (True, False):
        config = config.copy_and_resolve_references()
        config.experiments.duplicates.remove = remove
        files = duplicates.files(config, open_dataset, pairs)
        rows, arrays = files["duplicates.csv"].rows, files["duplicates.npz"]
        assert [row[:3] for row in rows] == [
            ("others", int(a), int(b))
            for a, b in zip(pairs["others"].source, pairs["others"].target, strict=True)
        ]
        assert all(row[3] == pytest.approx(1, abs=1e-3) and row[4] == remove for row in rows)
        np.testing.assert_array_equal(arrays["source_images"], arrays["target_images"])
        assert arrays["source_images"].shape == (2, 32, 32, 3)
        assert (np.diff(arrays["correlation"]) <= 0).all()
