"""Which networks Oquab et al. 2014 compare, what is read out of them, and a whole run."""

import dataclasses

import jax
import numpy as np
import pandas as pd
import pytest

from configs import oquab2014 as config_file
from tests.data import image_trees
from tests.studies.whole_run import changes_nothing, whole_run
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.hierarchy import label_set_paths
from transfer_jax.data.outline import outline
from transfer_jax.data.sources import DatasetSpec, open_dataset
from transfer_jax.data.splits import ilsvrc_indices
from transfer_jax.data.tasks import subset_task
from transfer_jax.data.windows import whole_images
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.store import TrainedNetwork
from transfer_jax.networks import alexnet_mini
from transfer_jax.networks.weights import save_weights
from transfer_jax.readout.metrics import average_precision
from transfer_jax.readout.windows import Pyramid, scan, score_map
from transfer_jax.report import Results, write_report
from transfer_jax.studies import oquab2014 as study
from transfer_jax.studies.settings import network_from, spec_from
from transfer_jax.training import SMALL_IMAGES
from transfer_jax.transfer import Treatment

NAMES = [f"{family}{i}" for family in ("bird", "fish", "tree", "tool", "boat") for i in range(3)]
PATHS = [("world", name[:-1], name) for name in NAMES]
TARGETS = ("bird0", "fish0", "fish1")
SIZE = 16


def pictures():
    """Noisy pictures of one object each, those of one family alike."""
    rng = np.random.default_rng(0)
    family, own = rng.integers(0, 110, (5, SIZE, SIZE, 3)), rng.integers(0, 90, (15, SIZE, SIZE, 3))
    labels = np.repeat(np.arange(15), 6)
    noise = rng.integers(0, 50, (len(labels), SIZE, SIZE, 3))
    images = (family[labels // 3] + own[labels] + noise).astype(np.uint8)
    splits = {"train": np.flatnonzero(np.arange(90) % 6), "val": np.arange(0, 90, 6)}
    return Dataset.from_arrays(images, labels, NAMES, splits=splits, class_paths=PATHS), images


def scenes(images, num=48):
    """One or two of the pictures on grey, of all classes; the small second one is difficult."""
    rng = np.random.default_rng(1)
    canvas = rng.integers(90, 120, (num, 32, 40, 3), dtype=np.uint8)
    labels, boxes = np.zeros((num, 15), np.int8), []
    for row in range(num):
        one, other = (0, 3, 4, 5)[row // 2 % 4] if row % 2 else rng.integers(15), 4 + row % 11
        canvas[row, 2:18, 3:19] = images[6 * one + row % 6]
        objects = [(one, (2, 3, 18, 19), False)]
        labels[row, one] = 1
        if row % 3 == 0 and other != one:
            canvas[row, 22:30, 28:36] = images[6 * other][::2, ::2]
            objects.append((other, (22, 28, 30, 36), True))
            labels[row, other] = -1
        of, places, hard = zip(*objects, strict=True)
        boxes.append((of, np.array(places) / [32, 40, 32, 40], hard))
    splits = {"train": np.arange(num // 2), "val": np.arange(num // 2, num)}
    return Dataset.from_arrays(canvas, labels, NAMES, splits=splits, boxes=boxes)


@pytest.fixture(scope="module")
def datasets():
    data, images = pictures()
    return {"world": data, "world_scenes": scenes(images)}


@pytest.fixture(scope="module")
def open_small(datasets):
    return lambda fields: datasets[fields["kind"]]


def get_config(preset="demo", **changes):
    config = config_file.get_config(preset)
    config.update_from_flattened_dict(changes)
    return config


def small_config(**changes):
    config = get_config(seeds=(0, 1))
    config.network.widths = {"conv1": 4, "conv2": 8, "fc6": 16, "fc7": 16}
    config.network.remove, config.network.input_size = ("conv3", "conv4", "conv5"), SIZE
    config.recipe.update({"batch_size": 16, "steps": 20, "eval_every": 20})
    config.recipe.augmentation.size = SIZE
    for recipe in (config.adapt_recipe, config.train_recipe):
        recipe.update({"steps": 10, "eval_every": 10})
    config.target.classes, config.target.folds = TARGETS, 2
    config.pretraining.update({"count": 4, "depth": 1})
    config.windows.update({"scales": (1.0, 1.6), "overlap": 0.5, "per_class": 30})
    config.pyramid.scales = (1.0, 1.5)
    config.experiments.images_per_class = (2,)
    config.maps, config.adaptation_width = 2, 8
    config.update_from_flattened_dict(changes)
    return config


def found(entries, seed=0, **wanted):
    """The one cell with these tags; others as the paper has them."""
    if wanted.get("experiment") != "pretrained":
        usual = {"experiment": "frozen", "condition": "all", "layer": "fc7"}
        wanted = {**usual, "adaptation": 2, "images_per_class": 0, "seed": seed, **wanted}
    else:
        wanted["seed"] = seed
    (cell,) = [cell for tags, cell in entries if wanted.items() <= tags.items()]
    return cell


def names_of(cell):
    return set(cell.task.class_names)


@pytest.fixture(scope="module")
def planned(open_small):
    return study.entries(small_config(), open_small)


def test_bases_see_no_target_and_near_ones_are_of_the_targets_families(planned):
    pool, near = set(NAMES) - set(TARGETS), {"bird1", "bird2", "fish2"}
    cells = {way: found(planned, experiment="pretrained", condition=way) for way in study.WAYS}
    assert names_of(cells["all"]) == names_of(cells["long"]) == pool
    assert cells["long"].recipe.steps == 2 * cells["all"].recipe.steps
    assert near < names_of(cells["near"]) < pool and len(names_of(cells["near"])) == 4
    assert names_of(cells["random"]) < pool and len(names_of(cells["random"])) == 4
    again = found(planned, seed=1, experiment="pretrained", condition="random")
    assert names_of(again) != names_of(cells["random"])
    images = {len(cells[way].task.train[0]) for way in ("near", "random")}
    assert images == {4 * 5}


def test_adapted_networks_are_what_their_tags_say(planned):
    base, usual = found(planned, experiment="pretrained", condition="all"), found(planned)
    assert usual.source == base and usual.treatment == Treatment("B", "A", 4)
    assert usual.network.layer_names[-3:] == ("fc7", "fca", "fcb")
    assert usual.task.class_names == (*TARGETS, "background")
    assert usual.recipe.frozen_once and usual.recipe.steps == 10
    for cut, n in (("fc6", 3), ("fc8", 5)):
        cell = found(planned, layer=cut)
        assert cell.treatment.n == n and cell.network.layer_names[n - 1 :] == (cut, "fca", "fcb")
    for depth, names in ((1, ("fcb",)), (3, ("fca", "fca2", "fcb"))):
        cell = found(planned, adaptation=depth)
        assert cell.network.layer_names[4:] == names and cell.treatment.n == 4
    tuned = found(planned, experiment="fine_tuned")
    assert tuned.treatment.fine_tuned and not tuned.recipe.frozen_once
    near = found(planned, condition="near")
    assert near.source == found(planned, experiment="pretrained", condition="near")
    alone = found(planned, experiment="scratch", condition="scratch")
    long = found(planned, experiment="scratch", condition="scratch, as long")
    assert alone.network == usual.network and alone.treatment == Treatment("B")
    assert {cell.task for cell in (tuned, near, alone, long)} == {usual.task}
    assert long.recipe.steps == 20 + alone.recipe.steps


def test_fewer_images_are_the_same_with_and_without_pretraining(planned):
    few = found(planned, images_per_class=2)
    alone = found(planned, experiment="scratch", condition="scratch", images_per_class=2)
    assert few.task == alone.task != found(planned).task
    rows, labels = few.task.train
    images = few.task.dataset.source.rows[rows]
    assert [len(set(images[labels == label])) for label in range(3)] == [2, 2, 2]
    np.testing.assert_array_equal(few.task.val[0], found(planned).task.val[0])


def test_seeds_are_tested_on_images_of_their_own(datasets, open_small):
    target = study._target(small_config(), open_small)
    parts = [target.tested(small_config(), place) for place in (0, 1, 2)]
    assert not set(parts[0]) & set(parts[1]) and set(parts[0]) == set(parts[2])
    assert {*parts[0], *parts[1]} == set(datasets["world_scenes"].splits["val"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target.classes": ("whale",)}, "target.classes holds 'whale'"),
        ({"target.test": "test"}, "target.learn and target.test holds 'test'"),
        ({"pretraining.ways": ("some",)}, "pretraining.ways holds 'some'"),
        ({"pretraining.ways": ()}, "ways and config.imported.path are empty"),
        ({"pretraining.like": ("whale",)}, "pretraining.like holds 'whale'"),
        ({"pretraining.count": 13}, "are to be drawn of 12"),
        ({"pretraining.count": 0}, "pretraining.count=0"),
        ({"experiments.layers": ("fc9",)}, "'fc9' is no layer"),
        ({"experiments.images_per_class": (2.5,)}, "images_per_class holds 2.5"),
    ],
)
def test_bad_configs_are_named(open_small, change, message):
    with pytest.raises(ValueError, match=message):
        study.entries(small_config(**change), open_small)


def test_a_file_of_weights_is_a_base_without_its_data(datasets, tmp_path):
    config = small_config(**{"pretraining.ways": ()})
    network = network_from(config.network, 7)
    config.imported.path = str(save_small(network, tmp_path / "base.npz"))
    opened = []

    def only_target(fields):
        opened.append(fields["kind"])
        return datasets[fields["kind"]]

    entries = study.entries(config, only_target)
    assert set(opened) == {"world_scenes"}
    base = found(entries, experiment="pretrained", condition="imported")
    assert base.imported and base.network.num_classes == 7
    assert found(entries, condition="imported", layer="fc8").source == base
    assert not [tags for tags, _ in entries if tags["condition"] == "scratch, as long"]


def save_small(network, path):
    save_weights(path, network, network.init(jax.random.key(0)), mean=np.zeros(3, np.float32))
    return path


def labelled(names, count=2):
    """As much of a dataset as planning asks for."""
    labels = np.repeat(np.arange(len(names)), count).astype(np.int32)
    rows = np.arange(len(labels))
    splits = {"train": rows[::2], "val": rows[1::2]}
    return Dataset("labels", tuple(names), labels, splits, None, image_shape=(32, 32, 3))


def test_bases_of_the_photographs_are_plain_cells_of_all_200_classes(datasets):
    """So that trained ones can be taken over."""
    like = get_config("photographs").pretraining.like
    rest = [wnid for wnid in ilsvrc_indices() if wnid not in like]
    tiny = labelled(sorted([*like, *rest[:: len(rest) // 174][: 200 - len(like)]]))
    config = get_config("photographs", **{"target.classes": TARGETS, "target.learn": "train",
                        "target.test": "val", "windows.per_class": 20})  # fmt: skip
    config.experiments.images_per_class = ()
    opened = {"tiny_imagenet": tiny, "voc": datasets["world_scenes"]}
    entries = study.entries(config, lambda fields: opened[fields["kind"]])
    recipe = dataclasses.replace(SMALL_IMAGES, eval_every=3000)
    task = subset_task("A", tiny, range(200))
    nodes = {path[7] for path in label_set_paths(like)}
    paths = zip(tiny.class_names, label_set_paths(tiny.class_names), strict=True)
    relatives = {name for name, path in paths if path[7] in nodes}
    for seed in (0, 1, 2):
        plain = Cell(alexnet_mini(200, dropout=0.0), task, Treatment("A"), recipe, seed)
        base = found(entries, seed=seed, experiment="pretrained", condition="all")
        assert base.hash == plain.hash
        near = names_of(found(entries, seed=seed, experiment="pretrained", condition="near"))
        assert len(near) == 100 and set(like) <= relatives
        assert relatives <= near or near <= relatives


@pytest.mark.parametrize("preset", ["voc2007", "voc2012", "voc2012_actions"])
def test_the_papers_presets_are_planned_on_what_is_public(preset):
    config = get_config(preset, **{"seeds": (0,), "windows.scales": (1.0,)})
    config.experiments.images_per_class = (20,)

    def public(fields):
        return outline(spec_from({**fields, "path": fields["path"] or "x"}, "data"))

    entries = study.entries(config, public)
    usual = found(entries)
    classes = 10 if preset.endswith("actions") else 20
    assert usual.network.output_shapes["fca"] == (2048,) and usual.task.num_classes == classes + 1
    assert usual.source.network.num_params == 60_965_224
    assert len(names_of(found(entries, experiment="pretrained", condition="near"))) == 500


# A whole run.


@pytest.fixture(scope="module")
def run(tmp_path_factory, open_small):
    config = small_config(**{"pretraining.ways": ("all",), "seeds": (0,)})
    config.experiments.update({"layers": (), "adaptation_layers": (1,), "fine_tuned": False})
    return whole_run(study, config, open_small, tmp_path_factory.mktemp("oquab2014"))


@pytest.fixture(scope="module")
def scanned(run, open_small):
    """Test images of the usual network: row, boxes of windows, probabilities."""
    target = study._target(run.config, open_small)
    network, rows = run.store.trained(found(run.entries)), target.tested(run.config, 0)
    view = {"mean": network.mean, "pixel_scale": network.recipe.pixel_scale}
    of = network.network, network.params, target.images.image, rows
    windows = scan(*of, pyramid=study._pyramid(run.config), **view)
    made = {rows[i]: (boxes, np.asarray(jax.nn.softmax(out))) for i, boxes, out in windows}
    return target, made


def row_of(run, measure, **tags):
    usual = {"experiment": "frozen", "condition": "all", "adaptation": 2, "images_per_class": 0}
    (one,) = run.results.select(measure, **{**usual, **tags}).to_dict("records")
    return one


@pytest.mark.parametrize(("k", "power"), [("1", 1), ("5", 5), ("max", np.inf)])
def test_mean_ap_is_that_of_images_ranked_by_their_windows(run, scanned, k, power):
    target, made = scanned
    rows = sorted(made)
    assert rows == sorted(target.tested(run.config, 0)) and len(rows) == 12
    for rule in ("area", "voc2007"):
        found_here = []
        for column, label in enumerate(target.classes):
            scores = [made[row][1][:, column] for row in rows]
            scores = [s.max() if np.isinf(power) else np.mean(s**power) for s in scores]
            truth = target.images.labels[rows][:, label]
            found_here.append(average_precision(np.array(scores), truth, rule))
        mean = pytest.approx(np.nanmean(found_here), abs=1e-6)
        assert row_of(run, "mean_ap", k=k, rule=rule)["value"] == mean
        if k == "5":
            usual = {"experiment": "frozen", "adaptation": 2, "images_per_class": 0}
            of_class = run.results.select("ap", rule=rule, **usual)
            assert of_class["value"].mean() == mean and set(of_class["class_name"]) <= set(TARGETS)


def test_the_pointing_game_asks_where_each_map_is_highest(run, scanned):
    target, made = scanned
    hits = []
    for column, label in enumerate(target.classes):
        for row in sorted(made):
            labels, boxes, difficult = target.images.boxes[row]
            if label not in labels[~difficult]:
                continue
            heat = score_map(made[row][0], made[row][1][:, column], (32, 40))
            y, x = np.unravel_index(heat.argmax(), heat.shape)
            pixels = boxes[labels == label] * [32, 40, 32, 40]
            hits.append(any(a <= y + 0.5 <= c and b <= x + 0.5 <= d for a, b, c, d in pixels))
    assert len(hits) >= 6
    row, other = (row_of(run, name) for name in ("pointing", "pointing_permuted"))
    np.testing.assert_array_equal(run.results.right(row["right"])[1], hits)
    assert row["value"] == np.mean(hits)
    assert run.results.right(other["right"])[0] == run.results.right(row["right"])[0]


def test_no_map_is_compared_with_its_own_box(datasets, open_small):
    target = study._target(small_config(), open_small)
    data = target.images
    alone, often, _ = target.classes
    shows = {label: np.flatnonzero(data.labels[:, label] == 1) for label in (alone, often)}
    rows = np.concatenate([shows[alone][:1], shows[often][:2]])
    peaks = {(alone, 0): np.array([0.2, 0.2])} | {(often, i): np.array([0.2, 0.2]) for i in (1, 2)}
    games = study._pointing(target, rows, peaks)
    assert {name: len(right) for name, right in games.items()} == dict.fromkeys(games, 2)


def test_strongest_images_and_failures_are_kept_with_their_maps(run):
    arrays = run.results.arrays("maps")
    names = [name.split(":")[0] for name in arrays if name.endswith(":text")]
    assert names == ["strongest0", "strongest1", "failure0", "failure1"]
    for name in names:
        assert arrays[f"{name}:image"].shape == (32, 40, 3)
        assert arrays[f"{name}:map"].shape == (32, 40)
        assert (len(arrays[f"{name}:boxes"]) > 0) == name.startswith("strongest")
    values = [float(str(arrays[f"{name}:text"]).split()[1]) for name in names]
    assert values[0] >= values[1] and values[2] >= values[3]


def test_a_run_ends_in_a_page_with_a_verdict_on_each_claim(run, tmp_path):
    page = write_report(study, run.results, tmp_path)
    text = page.read_text()
    assert "Where are the objects?" in text and text.count("data:image") >= 5
    assert all(claim.test(run.results).outcome == "undecided" for claim in study.CLAIMS)


def test_nothing_is_computed_twice(run, open_small):
    assert changes_nothing(study, run, open_small)


def test_images_of_one_label_are_ranked_without_boxes(tmp_path):
    image_trees.image_folder(tmp_path / "images", size=20)
    spec = DatasetSpec("folder", path=str(tmp_path / "images"), image_size=None)
    data = open_dataset(spec, tmp_path / "data")
    target = study.Target(data, data, (0, 2), "train", "val")
    network = network_from(small_config().network, 3)
    params, recipe = network.init(jax.random.key(0)), SMALL_IMAGES
    trained = TrainedNetwork(network, params, recipe, np.zeros(3, np.float32), "")
    rows, arrays = study._scored(
        {"tested": "x"}, trained, target, data.splits["val"], Pyramid((1,))
    )
    assert {row["measure"] for row in rows} == {"mean_ap", "ap"}
    assert not arrays["pointing"].size
    said = [
        image for _, _, image in study._scan(trained, target, data.splits["val"], Pyramid((1,)))
    ]
    assert {one.shape for one in said} == {(1, 2)}
    truth = (data.labels[data.splits["val"]] == 2).astype(int)
    (found_ap,) = [row["value"] for row in rows
                   if row.get("class_name") == "owl" and row["rule"] == "area"]  # fmt: skip
    assert found_ap == pytest.approx(average_precision(np.concatenate(said)[:, 1], truth))


def test_people_are_ranked_by_the_windows_that_overlap_them(tmp_path):
    root = image_trees.voc_folder(tmp_path / "VOCdevkit")
    spec = DatasetSpec("voc_actions", path=str(root), image_size=None)
    people = open_dataset(spec, tmp_path / "data")
    images = whole_images(people)
    target = study.Target(people, images, tuple(range(10)), "train", "val")
    asked = study._Asked.of(target, np.array([0, 1]))
    assert asked.place.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(asked.labels, people.labels)
    top, left, bottom, right = box = asked.boxes[1]
    height, width = bottom - top, right - left
    windows = np.array([
        box,
        (top, left - 3.9 * width, bottom, right),  # 1 of 4.9 of the window
        (top, left - 4.1 * width, bottom, right),
        (top - height, left, top, right),
    ])  # fmt: skip
    assert asked.windows(1, windows).tolist() == [True, True, False, False]
    # A person whom no window shows so well has the best there are.
    assert asked.windows(1, windows[2:]).tolist() == [True, False]


def test_average_precisions_by_class_are_those_of_the_network_in_the_row():
    tags = {"experiment": "frozen", "layer": "fc7", "adaptation": 2, "images_per_class": 0}
    values = {("all", 0): (0.5, 0.3), ("all", 1): (0.7, 0.1), ("near", 0): (0.2, 0.4)}
    rows = [
        {**tags, "condition": condition, "seed": seed, "measure": "ap", "value": value + more}
        | {"class_name": name, "k": "5", "rule": rule}
        for (condition, seed), pair in values.items()
        for name, value in zip(("car", "mug"), pair, strict=True)
        for rule, more in (("area", 0.0), ("voc2007", 0.1))
    ]
    results = Results(pd.DataFrame(rows))
    compared = {
        name: results.frame[results.frame["condition"] == name].assign(measure="mean_ap")
        for name in ("all", "near")
    }
    table = study.by_class(results, compared)
    assert table.loc["all"].tolist() == ["40.0", "60.0", "20.0"]
    assert table.loc["near"].tolist() == ["30.0", "20.0", "40.0"]
