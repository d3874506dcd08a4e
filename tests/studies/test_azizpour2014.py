"""Which networks Azizpour et al. 2014 ask for, how they are read on targets, and a whole run."""

import collections
import dataclasses
import functools

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

from configs import azizpour2014 as config_file
from tests.studies.whole_run import changes_nothing, whole_run
from transfer_jax.data.batches import permutation
from transfer_jax.data.benchmarks import BENCHMARKS
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.splits import ilsvrc_indices
from transfer_jax.grid.store import TrainedNetwork
from transfer_jax.readout.features import layer_features
from transfer_jax.readout.linear import layer_accuracy
from transfer_jax.readout.reading import Reading
from transfer_jax.readout.worth import sides
from transfer_jax.report import write_report
from transfer_jax.studies import azizpour2014 as study
from transfer_jax.studies.azizpour2014_claims import BOTH_HALVED, ONE_KIND, measured

PATHS = [("world", "natural" if f % 2 else "man_made", f"family{f}", f"class{f}{i}")
         for f in range(6) for i in range(2)]  # fmt: skip
TRAIN, VAL = 8, 8  # images of a class


@functools.cache
def pictures(kind, seed):
    """Noisy pictures of a world of 12 classes, or of another kind of target."""
    rng = np.random.default_rng([seed, len(kind)])
    looks = np.random.default_rng(len(kind)).integers(0, 170, (12, 16, 16, 3))

    def draw(labels):
        return (looks[labels] + rng.integers(0, 80, (len(labels), 16, 16, 3))).astype(np.uint8)

    counts = (3, 2) if kind == "world_retrieval" else (TRAIN, VAL)
    sides = [np.repeat(np.arange(12), count) for count in counts]
    images, of = [draw(labels) for labels in sides], {}
    if kind == "world":
        of = {"class_names": [path[-1] for path in PATHS], "class_paths": PATHS}
    if kind == "world_attributes":
        sides = [np.stack([labels % 2, labels // 6], 1).astype(np.int8) for labels in sides]
        sides[0][::5] = -1
    return Dataset.from_arrays(images[0], sides[0], val=(images[1], sides[1]), **of)


def open_dataset(fields):
    if fields["kind"] == "voc":
        raise FileNotFoundError("there is no VOC here")
    return pictures(fields["kind"], fields["seed"])


def get_config(preset="demo", **changes):
    config = config_file.get_config(preset)
    config.update_from_flattened_dict(changes)
    return config


def small_config(**changes):
    """The demo on the pictures, of which a family and a class are held out."""
    config = get_config(seeds=(0, 1), held_out=("family0", "class10"))
    config.recipe.batch_size = 8
    config.sources.budget = {"num_classes": (5, 9), "total_images": 36}
    kinds = ("world", "world_attributes", "world_retrieval", "voc")
    groups = ("image classification", "attributes", "instance retrieval", "compositional")
    protocols = ("single", "multilabel", "retrieval", "single")
    config.targets = ConfigDict(type_safe=False)
    for kind, group, protocol in zip(kinds, groups, protocols, strict=True):
        fields = {"group": group, "protocol": protocol, "dataset": {"kind": kind}}
        config.targets[kind] = ConfigDict(fields, type_safe=False)
    config.targets.world.classes = config.held_out
    config.update_from_flattened_dict(changes)
    return config


def planned(config):
    """(seed, condition[, target]) -> cell."""
    found = {}
    for tags, cell in study.entries(config, open_dataset):
        key = (tags["seed"], tags["condition"], *([tags["target"]] if "target" in tags else []))
        assert key not in found
        found[key] = cell
    return found


def seen_by(cell):
    return set(cell.task.dataset.labels[cell.task.train[0]].tolist())


def test_source_networks_differ_from_the_default_in_one_thing():
    found = planned(small_config(**{"sources.dropouts": (0.5,), "sources.weight_decays": (0.1,)}))
    default = found[0, "default"]
    assert default.snapshots == (125, 250, 500) and seen_by(default) == set(range(3, 12))
    for key, cell in found.items():
        if key[0] == 0 and len(key) == 2 and key[1] != "default":
            fields = ("network", "task", "recipe", "treatment", "seed", "source")
            other = [f for f in fields if getattr(cell, f) != getattr(default, f)]
            expected = {"source data": ["network", "task"], "classes at": ["network", "task"]}
            expected |= {"width": ["network"], "depth": ["network"], "dropout": ["network"]}
            expected |= {"weight decay": ["recipe"], "long": ["recipe"]}
            (kind,) = [name for name in expected if key[1].startswith(name)]
            same_classes = cell.network.num_classes == default.network.num_classes
            assert other == expected[kind][same_classes and len(expected[kind]) > 1 :], key
    widths = {key[1]: cell.network.num_params for key, cell in found.items()}
    assert widths["width 0.25"] < widths["default"] < widths["width 1"]
    assert len(found[0, "depth 13"].network.layers) == 13
    assert found[0, "long"].recipe.steps == 2 * default.recipe.steps
    assert found[0, "default"].hash != found[1, "default"].hash


def test_networks_whose_layers_have_widths_of_their_own_are_not_compared_by_width():
    found = planned(small_config(**{"network.widths": {"fc6": 64}}))
    assert not [key for key in found if key[1].startswith("width")]


def test_source_data_are_halves_of_kinds_and_budgets_of_one_size():
    found = planned(small_config())
    kinds = {name: seen_by(found[0, f"source data {name}"]) for name in ONE_KIND}
    for name, classes in kinds.items():
        assert {PATHS[c][1].replace("_", "-") for c in classes} == {name}
    assert set.union(*kinds.values()) == seen_by(found[0, "default"])
    halved = found[0, f"source data {BOTH_HALVED}"]
    assert np.bincount(halved.task.train[1]).tolist() == [TRAIN // 2] * 9
    # The same network as the budget's all classes, which is not trained twice.
    assert (0, "classes at one budget 9") not in found
    five = found[0, "classes at one budget 5"]
    assert len(five.task.train[0]) == 35 and len(halved.task.train[0]) == 36
    settings = {s.name: s.settings for s in sources(small_config())}
    assert settings[f"source data {BOTH_HALVED}"] == [
        ("source data", BOTH_HALVED, None),
        ("classes at one budget", "9", 9),
    ]
    default = dict(line[:2] for line in settings["default"])
    assert default == {
        "early stopping": "1000",
        "width": "0.5",
        "depth": "8",
        "source data": "both",
        "dropout": "0",
        "weight decay": "0.02",
        "fine-tuning": "frozen",
    }


def sources(config, seed=0):
    return study._sources(config, open_dataset({"kind": "world", "seed": 0}), seed)


def test_targets_are_drawn_anew_for_each_seed_and_missing_ones_are_left_out(caplog):
    first, second = (study._targets(small_config(), open_dataset, seed) for seed in (0, 1))
    assert set(first) == {"world", "world_attributes", "world_retrieval"}
    assert "voc is left out" in caplog.text
    for name, target in first.items():
        assert target.task.digest != second[name].task.digest
        assert target.task.dataset is not open_dataset({"kind": "world", "seed": 0})
    assert [first[name].rank for name in first] == [1, 2, 5]
    config = small_config()
    del config.targets.voc
    for place, name in enumerate(config.targets):
        config.targets[name].distance = 10.0 - place
    ranks = {n: t.rank for n, t in study._targets(config, open_dataset, 0).items()}
    assert ranks == {"world": 10, "world_attributes": 9, "world_retrieval": 8}


def test_fine_tuning_copies_all_layers_but_the_last_where_images_have_one_label():
    found = planned(small_config())
    tuned = {key[2]: cell for key, cell in found.items() if key[0] == 0 and len(key) == 3}
    assert set(tuned) == {"world"}
    cell = tuned["world"]
    assert str(cell.treatment) == "A7B+" and cell.source == found[0, "default"]
    assert cell.recipe.steps == 100 and seen_by(cell) == {0, 1, 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": ("bird",)}, "held_out names 'bird'"),
        ({"readings.layers": ("conv9",)}, "readings holds 'conv9'"),
        ({"readings.pools": ("max7",)}, "readings.pools holds 'max7'"),
        ({"readings.default.layer": "fc9"}, "readings holds 'fc9'"),
        ({"targets.world.group": "near"}, "group of task 'world'"),
        ({"targets.world": {"protocols": "single", "dataset": {}}}, "targets.world.protocols"),
        ({"sources.snapshots": (0.5,)}, "sources.snapshots holds 0.5"),
        ({"recipe.steps": 400}, "sources.snapshots holds 500: .*recipe.steps=400"),
        ({"readings.copies": (1, 5)}, "readings.copies holds 5"),
        ({"readings.default.copies": 10}, "readings.default.copies holds 10"),
    ],
)
def test_bad_configs_are_named(change, message):
    config = small_config()
    for name, value in change.items():
        *folder, field = name.split(".")
        of = functools.reduce(getattr, folder, config)
        of[field] = value
    with pytest.raises(ValueError, match=message):
        study.entries(config, open_dataset)


def test_readings_stand_for_their_settings():
    config = small_config()
    network = planned(config)[0, "default"].network
    target = study._targets(config, open_dataset, 0)
    ways = study.readings(config, network, target["world"].task, True)
    by_factor = collections.defaultdict(dict)
    for reading, settings in ways.items():
        for factor, name, place in settings:
            by_factor[factor][name] = (place, reading)
    plain = Reading("fc6")
    assert next(iter(ways)) == plain
    for factor, name in (("layer", "fc6"), ("dimensions", "all"), ("scaling", "of length 1"),
                         ("copies", "1")):  # fmt: skip
        assert by_factor[factor][name][1] == plain
    assert by_factor["layer"]["conv2_1"] == (2, Reading("conv2_1"))
    assert by_factor["dimensions"]["all"][0] == 256
    # Maps of 3 x 3: pooled to one, to four, to 1 + 4 + 9, and as they are.
    cells = {name: place for name, (place, _) in by_factor["pooling"].items()}
    assert [cells[n] for n in ("max1", "avg2", "maxpyramid", "flat")] == [1, 4, 14, 9]
    assert by_factor["whitening"]["whitened"][1] == Reading("fc6", dimensions=32, whiten=True)
    of_retrieval = study.readings(config, network, target["world_retrieval"].task, True)
    counts = {r.copies for r, settings in of_retrieval.items()}
    assert counts == {1, 5} and "patches" not in by_factor
    config.readings.default.l2 = False
    scaled = {
        name: reading
        for reading, settings in study.readings(config, network, target["world"].task, True).items()
        for factor, name, _ in settings
        if factor == "scaling"
    }
    assert scaled == {
        "of length 1": plain,
        "as they are": Reading("fc6", l2=False),
        "signed roots": Reading("fc6", signed_root=True),
    }
    # Layers of deeper networks are counted from the last.
    deep = planned(config)[0, "depth 13"].network
    assert [r.layer for r in study.readings(config, deep, target["world"].task, False)] == [
        "fc6",
        deep.layer_names[-4],
    ]


def test_the_imagenet_preset_is_the_papers_source_and_targets():
    config = get_config("imagenet", seeds=(0,))
    assert list(config.targets) == sorted(BENCHMARKS) and len(BENCHMARKS) == 17
    labels = np.repeat(np.arange(1000), 1002).astype(np.int32)
    rows = np.arange(len(labels))
    splits = {"train": rows[rows % 1002 > 0], "val": rows[rows % 1002 == 0]}
    names = tuple(ilsvrc_indices())
    dataset = Dataset("ilsvrc", names, labels, splits, None, image_shape=(256, 256, 3))

    def opener(fields):
        if fields["kind"] == "ilsvrc2012":
            return dataset
        raise FileNotFoundError(fields["kind"])

    found = {tags["condition"]: cell for tags, cell in study.entries(config, opener)}
    assert found["default"].network.num_params == 60_965_224
    assert found["default"].recipe.steps == 450_000
    assert len(found["classes at one budget 500"].task.train[0]) == 500_000


# A whole run.


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = small_config(seeds=(0,))
    config.network.widths = {"conv1_1": 4, "conv4_1": 8, "conv4_2": 8, "fc6": 16, "fc7": 16}
    config.network.remove, config.network.input_size = ("conv2_1", "conv3_1"), 16
    config.recipe.update({"batch_size": 16, "steps": 40, "eval_every": 40})
    config.recipe.augmentation.size = 16
    config.fine_tune_recipe = {}
    config.sources.update({"snapshots": (0, 20), "widths": (), "depths": (), "data": False})
    config.sources.budget.num_classes, config.sources.long = (5,), False
    wanted = {"layers": ("conv4_2", "fc6"), "pools": ("max1", "flat"), "dimensions": (4, 8)}
    config.readings.update({**wanted, "whitened": 4})
    config.readings.combined = {"layers": ("fc7",), "dimensions": (4,)}
    found = whole_run(study, config, open_dataset, tmp_path_factory.mktemp("azizpour2014"))
    found.targets = study._targets(config, open_dataset, 0)
    found.cell = sources(config)[0].cell
    return found


def value(run, measure="test", **tags):
    (found,) = set(run.results.select(measure, **tags)["value"])
    return found


def unit_features(run, target, layer, trained=None):
    """Training and test images of a target, each of length 1, by the older readout."""
    trained, task = trained or run.store.trained(run.cell), run.targets[target].task
    return [lengthened(trained, task.dataset, rows, layer) for rows in sides(task)]


def lengthened(trained, dataset, rows, layer):
    x = layer_features(trained.network, trained.params, dataset.read, rows, [layer],
                       view=trained.view)[layer]  # fmt: skip
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def test_a_run_ends_in_a_page_with_a_verdict_on_each_claim(run, tmp_path):
    page = write_report(study, run.results, tmp_path)
    text = page.read_text()
    assert "What to choose" in text and text.count("data:image") >= 8
    assert all(claim.test(run.results).outcome == "undecided" for claim in study.CLAIMS)
    told, known = pd.read_csv(tmp_path / "measures.csv"), run.results.select("test")
    told = told[told["measure"] == "test"]
    assert told["value"].tolist() == pytest.approx(known["value"].tolist(), abs=1e-5)
    assert told["candidate"].dropna().tolist() == known["candidate"].dropna().tolist()


def test_a_page_does_without_the_images_of_an_imported_source(run, tmp_path):
    frame = run.results.frame
    results = dataclasses.replace(run.results, frame=frame[frame["measure"] != "overlap"])
    page = write_report(study, results, tmp_path).read_text()
    assert "best setting" in page and "overlap with the source" not in page


def test_a_page_of_one_target_says_what_its_own_images_choose(run, tmp_path):
    frame = run.results.frame
    one = frame[frame["entry"].notna() | (frame["target"] == "world")]
    page = write_report(study, dataclasses.replace(run.results, frame=one), tmp_path).read_text()
    assert "What to choose" in page and "on the other targets" in page


def test_nothing_is_computed_twice(run):
    assert changes_nothing(study, run, open_dataset)


@pytest.mark.parametrize("layer", ["conv4_2", "fc6"])
def test_every_second_test_image_chooses_and_the_others_report(run, layer):
    train, test = unit_features(run, "world", layer)
    task = run.targets["world"].task
    right = layer_accuracy(train, task.train[1], test, task.val[1])
    of = {"target": "world", "factor": "layer", "setting": layer}
    assert value(run, "validation", **of) == pytest.approx(right[::2].mean())
    assert value(run, "test", **of) == pytest.approx(right[1::2].mean())


@pytest.mark.parametrize("target", ["world", "world_attributes", "world_retrieval"])
def test_what_each_test_image_adds_is_known_by_its_row(run, target):
    task = run.targets[target].task
    for row in run.results.select("test", target=target).itertuples():
        digest, added = run.results.right(row.right)
        name, found = run.results.rows_of(digest)
        assert added.mean() == pytest.approx(row.value)
        assert name == task.dataset.name
        assert found.tolist() == sides(task)[1][1::2].tolist()


@pytest.mark.parametrize("step", [0, 20])
def test_snapshots_are_read_as_they_were(run, step):
    cell, task = run.cell, run.targets["world"].task
    untrained = TrainedNetwork(cell.network, cell.init_params(), cell.recipe, cell.mean(), "")
    trained = run.store.trained(cell, step) if step else untrained
    train, test = unit_features(run, "world", "fc6", trained)
    right = layer_accuracy(train, task.train[1], test, task.val[1])
    found = value(run, target="world", factor="early stopping", setting=f"{step}")
    assert found == pytest.approx(right[1::2].mean())


def test_retrieval_ranks_references_by_distance(run):
    references, queries = unit_features(run, "world_retrieval", "fc6")
    task, precisions = run.targets["world_retrieval"].task, []
    for query, good in list(zip(queries, task.relevant, strict=True))[1::2]:
        order = np.argsort(np.linalg.norm(references - query, axis=1), kind="stable")
        hits, before, total = 0, 1.0, 0.0
        for place, reference in enumerate(order, 1):
            if reference in good:
                hits += 1
                total += (before + hits / place) / 2 / len(good)
            before = hits / place
        precisions.append(total)
    found = value(run, target="world_retrieval", factor="layer", setting="fc6")
    assert found == pytest.approx(np.mean(precisions), abs=0.02)


def test_fine_tuned_networks_report_on_the_same_images(run):
    (cell,) = [cell for tags, cell in run.entries if tags["experiment"] == "fine_tuned"]
    right = run.results.right(cell.hash)[1]
    of = {"factor": "fine-tuning", "setting": "fine-tuned"}
    assert value(run, "test", **of) == pytest.approx(right[1::2].mean())
    assert value(run, "validation", **of) == pytest.approx(right[::2].mean())


def test_overlap_is_the_share_of_images_next_to_one_of_the_source(run):
    train, test = unit_features(run, "world", "fc6")
    trained, learned = run.store.trained(run.cell), run.cell.task
    drawn = learned.train[0][permutation(len(learned.train[0]), 0)[: len(train)]]
    other = lengthened(trained, learned.dataset, drawn, "fc6")
    apart = [np.linalg.norm(test[:, None] - x[None].astype(float), axis=2) for x in (train, other)]
    nearer = apart[1].min(axis=1) < apart[0].min(axis=1)
    assert value(run, "overlap", target="world") == pytest.approx(nearer.mean(), abs=1 / len(test))
    # Other images of the source lie next to one of it as often as not.
    rows = np.random.default_rng(0).permutation(learned.val[0])
    halves = [(half, np.zeros(len(half), np.int32)) for half in (rows[::2], rows[1::2])]
    alike = dataclasses.replace(learned, train=halves[0], val=halves[1])
    source = study.Source("default", run.cell, [])
    assert 0.3 < study._overlap(trained, source, alike, Reading("fc6")) < 0.7


def test_every_factor_has_its_default_where_it_has_one(run):
    rows = run.results.select("test", target="world")
    assert set(rows.loc[rows["default"].eq(True), "factor"]) >= {
        "early stopping", "width", "layer", "dimensions", "scaling", "fine-tuning",
    }  # fmt: skip
    assert list(measured(run.results, "dimensions")["setting"].unique()) == ["4", "8", "all"]
