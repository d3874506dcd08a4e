"""The networks that Zeiler & Fergus 2013 asks for, what is read out of them, and the page."""

import dataclasses
import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from configs.zeiler2013 import get_config
from tests import small
from tests.small import RECIPE
from tests.studies.whole_run import changes_nothing, whole_run
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.tasks import subset_task
from transfer_jax.data.views import Augmentation
from transfer_jax.grid.store import TrainedNetwork
from transfer_jax.networks import build
from transfer_jax.report import write_report
from transfer_jax.studies import zeiler2013, zeiler2013_measures as study
from transfer_jax.studies.settings import network_from

SIZE, CLASSES = 24, 6
WIDTHS = {"conv1": 6, "conv2": 8, "conv3": 8, "conv4": 8, "conv5": 8, "fc6": 8, "fc7": 8}


def dataset(several: bool = False) -> Dataset:
    """A bright square on noise, its colour and place tell the class; every image has its box."""
    rng = np.random.default_rng(int(several))
    labels = np.tile(np.arange(CLASSES), 24)
    images = rng.integers(0, 90, (len(labels), SIZE, SIZE, 3)).astype(np.uint8)
    # Odd, so that no centre of a square lies on the border of a box.
    corners = 2 * rng.integers(0, SIZE // 4, (len(labels), 2)) + 1
    for image, label, (y, x) in zip(images, labels, corners, strict=True):
        image[y : y + 12, x : x + 12, label % 3] += np.uint8(80 + 80 * (label // 3))
    boxes = np.concatenate([corners, corners + 12], axis=1) / SIZE
    rows = np.arange(len(labels))
    splits = {"train": rows[:96], "val": rows[96:]}
    if several:
        labels = (rng.random((len(labels), CLASSES)) < 0.3).astype(np.int8)
        boxes = None
    return Dataset.from_arrays(images, labels, boxes=boxes, splits=splits)


DATA, SCENES = dataset(), dataset(several=True)


def opener(config):
    return SCENES if config["kind"] == "world_scenes" else DATA


def small_config():
    """The demo with two seeds of a tiny network, an ensemble of both, and scratch on one size."""
    config = get_config("demo")
    for fields in (config.network, config.alexnet):
        fields.widths, fields.input_size = WIDTHS, SIZE
    config.recipe.update({"batch_size": 8, "steps": 12, "eval_every": 12})
    config.recipe.augmentation.update({"size": SIZE, "pad": 2})
    config.runtime.log_every = 4
    wanted = config.experiments
    wanted.seeds, wanted.other_seeds, wanted.long = (0, 1), (0, 1), ("scratch",)
    wanted.alexnet = False
    wanted.ablations, wanted.no_filter_rule, wanted.evolution_epochs = {}, False, (1,)
    wanted.occlusion = {"square": 8, "stride": 8, "tested": 12, "shown": 1, "batch": 10}
    wanted.projections = {"maps": 2, "evolution_maps": 1, "second_layer": 4, "images": 48}
    config.targets.others.update({"sizes": (1, 3), "scratch": (3,), "test_per_class": 5})
    return config


# Plans


def dense(*units):
    return sum(a * b + b for a, b in itertools.pairwise(units))


def conv(kernel, incoming, maps):
    return kernel * kernel * incoming * maps + maps


LOW = conv(11, 3, 96) + conv(5, 48, 256)
HIGH = conv(3, 256, 384) + conv(3, 192, 384) + conv(3, 192, 256)
FEW = LOW + conv(3, 128, 256)  # conv5 then takes conv2's maps, half of them in each group
BELOW = conv(7, 3, 96) + conv(5, 96, 256)
NARROW = conv(3, 256, 384) + conv(3, 384, 384) + conv(3, 384, 256)
WIDE = conv(3, 256, 512) + conv(3, 512, 1024) + conv(3, 1024, 512)
TABLE2 = {
    "alexnet without_3_4": FEW + dense(9216, 4096, 4096, 1000),
    "alexnet without_7": LOW + HIGH + dense(9216, 4096, 1000),
    "alexnet without_6_7": LOW + HIGH + dense(9216, 1000),
    "alexnet without_3_4_6_7": FEW + dense(9216, 1000),
    "alexnet fc_half": LOW + HIGH + dense(9216, 2048, 2048, 1000),
    "alexnet fc_double": LOW + HIGH + dense(9216, 8192, 8192, 1000),
    "zfnet fc_half": BELOW + NARROW + dense(9216, 2048, 2048, 1000),
    "zfnet fc_double": BELOW + NARROW + dense(9216, 8192, 8192, 1000),
    "zfnet conv345_wide": BELOW + WIDE + dense(18432, 4096, 4096, 1000),
    "zfnet fc_double_conv345_wide": BELOW + WIDE + dense(18432, 8192, 8192, 1000),
}


def test_ablations_are_those_of_table_2():
    config, found = get_config("imagenet"), {}
    for architecture, variants in config.experiments.ablations.items():
        fields = config.network if architecture == "zfnet" else config.alexnet
        for variant in variants:
            network = network_from(study.varied(fields, variant), 1000)
            found[f"{architecture} {variant}"] = network.num_params
    assert found == TABLE2


def test_the_demo_trains_each_condition_from_its_seeds():
    config = small_config()
    demo = get_config("demo").experiments
    for name in ("seeds", "other_seeds", "long", "alexnet", "ablations", "no_filter_rule"):
        config.experiments[name] = demo[name]
    found = study.entries(config, opener)
    assert len({cell.hash for _, cell in found}) == len(found)
    source = [(tags, cell) for tags, cell in found if tags["experiment"] == "source"]
    counts = {}
    for tags, cell in source:
        key = (tags["network"], tags["condition"])
        counts[key] = counts.get(key, 0) + 1
        steps = 24 if tags["condition"] == "long" else 12
        free = tags["network"].endswith(study.NO_RULE)
        assert (cell.recipe.steps, cell.recipe.max_filter_rms is None) == (steps, free)
    removed = demo.ablations["alexnet"]
    kinds = ("zfnet", "alexnet", *(f"alexnet {variant}" for variant in removed))
    assert counts == {
        ("zfnet", "standard"): 6,
        **{(name, "standard"): 4 for name in (*kinds[1:], f"zfnet {study.NO_RULE}")},
        **{(name, "long"): 4 for name in kinds},
    }
    groups = [tags["group"] for tags, _ in source if "group" in tags]
    assert groups == [0, 0, 1, 1, 2, 2]


def test_another_main_network_has_no_variants_of_zfnet():
    config = small_config()
    config.network.name = "alexnet"
    config.experiments.ablations = {"alexnet": ("without_7",), "zfnet": ("fc_half",)}
    networks = {tags["network"] for tags, _ in study.entries(config, opener)}
    assert networks == {"alexnet", "alexnet without_7"}


def test_source_and_target_share_no_class_and_seeds_no_fold():
    config = small_config()
    config.targets.others.folds = 2
    (target,) = study.targets(config, opener)
    scratch = [e for e in study.entries(config, opener) if e[0]["condition"] == "scratch"]
    assert [tags["fold"] for tags, _ in scratch] == [0, 1, 2, 3]
    assert [tags["seed"] for tags, _ in scratch] == [0, 0, 1, 1]
    source = study.source_task(config, opener)
    assert not set(source.class_names) & set(scratch[0][1].task.class_names)
    one, more = target.task(0, 1), target.task(0, 3)
    assert set(one.train[0]) < set(more.train[0])
    np.testing.assert_array_equal(one.val[0], more.val[0])


def test_scratch_is_also_trained_as_long_as_source_and_target_together():
    config = small_config()
    config.targets.others.update({"folds": 2, "scratch": (1, 3)})
    config.scratch_recipe = {"steps": 5}
    found = [e for e in study.entries(config, opener) if e[0]["experiment"] == "scratch"]
    longer = [e for e in found if e[0]["condition"] == "scratch, as long"]
    assert [(t["seed"], t["size"], t["fold"]) for t, _ in longer] == [(0, 3, 0), (1, 3, 2)]
    for tags, cell in longer:
        alone = next(other for t, other in found if t == tags | {"condition": "scratch"})
        recipe = dataclasses.replace(alone.recipe, steps=5 + 12)
        assert cell == dataclasses.replace(alone, recipe=recipe)


def test_near_duplicates_are_left_out_of_the_source():
    config, (half, other) = small_config(), study.random_halves(CLASSES, 0)
    train = DATA.splits["train"]
    copied = train[np.isin(DATA.labels[train], half)][:3]
    shown = train[np.isin(DATA.labels[train], other)][:3]
    images = DATA.source.pixels.copy()
    images[copied] = images[shown] // 2 + 40
    data = Dataset.from_arrays(images, DATA.labels, splits=DATA.splits)
    task = study.source_task(config, lambda _: data)
    whole = study.source_task(config, lambda _: data, whole=True)
    assert set(whole.train[0]) - set(task.train[0]) == set(copied)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.experiments.update({"long": ("vgg",)}), "experiments.long"),
        (lambda c: c.experiments.update({"targets": ("moon",)}), "experiments.targets"),
        (lambda c: c.experiments.update({"ensemble_of": 0}), "ensemble_of=0"),
        (lambda c: c.update({"source_classes": "some"}), "source_classes"),
        (lambda c: next(iter(c.targets.values())).update({"sizes": (999,)}), "--config.targets"),
        (lambda c: c.experiments.ablations.update({"zfnet": ("deeper",)}), "ablations"),
    ],
)
def test_bad_configs_are_named(change, message):
    config = small_config()
    change(config)
    with pytest.raises(ValueError, match=message):
        study.entries(config, opener)


# Readouts


def trained_network() -> TrainedNetwork:
    network = build("zfnet", num_classes=3, widths=WIDTHS, input_size=SIZE, dropout=0.0)
    params = network.init(jax.random.key(0), "he")
    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(size=SIZE, pad=0))
    return TrainedNetwork(network, params, recipe, np.full(3, 60, np.float32), "0" * 16)


def test_patches_are_the_pixels_that_units_see():
    trained, task = trained_network(), subset_task("A", DATA, [0, 1, 2])
    rows = study.some_rows(task, "val", 12)
    top = study.strongest(trained, task, rows, ["conv1"])["conv1"]
    maps = np.array([0, 3])
    ids, places = top.image_ids[maps], top.positions[maps]
    patches, pictures = study.seen(trained, task, "conv1", maps, ids, places)
    field = study.receptive_field(trained.network, "conv1")
    assert patches.shape == pictures.shape == (2, 9, field.size, field.size, 3)
    for m, k in np.ndindex(2, 9):
        y, x = field.offset + field.stride * places[m, k]
        inside = np.arange(field.size)
        rows = np.clip(y + inside, 0, SIZE - 1), np.clip(x + inside, 0, SIZE - 1)
        np.testing.assert_array_equal(patches[m, k], DATA.image(ids[m, k])[np.ix_(*rows)])
    # Nothing outside of its field moves a unit, so all of its projection is in the cut.
    pixels = DATA.read(ids[0, :1])
    whole = study.project(trained, pixels, "conv1", maps[:1], places[0, :1])
    assert np.abs(whole).sum() == pytest.approx(np.abs(pictures[0, 0]).sum(), rel=1e-5)


@pytest.mark.parametrize(
    "size, pad, box, expected",
    [
        (24, 0, (0.25, 0.5, 0.75, 1.0), (0.25, 0.5, 0.75, 1.0)),
        (24, 4, (0.25, 0.5, 0.75, 1.0), (0.25, 0.5, 0.75, 1.0)),
        (12, 0, (0.25, 0.5, 0.75, 1.0), (0.0, 0.5, 1.0, 1.0)),
        (12, 0, (0.0, 0.0, 0.2, 1.0), None),
    ],
)
def test_boxes_move_with_the_view(size, pad, box, expected):
    recipe = dataclasses.replace(RECIPE, augmentation=Augmentation(size=size, pad=pad))
    trained = dataclasses.replace(trained_network(), recipe=recipe)
    assert study.box_in_view(trained, (24, 24), np.array([box])) == expected
    assert study.box_in_view(trained, (24, 24), np.empty((0, 4))) is None


def test_a_softmax_ranks_the_classes_of_several():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(4, 8))
    labels = (rng.random((300, 4)) < 0.4).astype(np.int8)
    x = (labels @ centres + 0.3 * rng.normal(size=(300, 8))).astype(np.float32)
    labels[0], labels[1] = 0, -1  # of no class, and of difficult ones only
    scores = study.softmax_scores(x[:200], labels[:200], x[200:])
    np.testing.assert_allclose(np.exp(scores).sum(axis=1), 1, rtol=1e-5)
    assert study.average_precisions(scores, labels[200:]).mean() > 0.7


# The whole


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return whole_run(study, small_config(), opener, tmp_path_factory.mktemp("zeiler"))


def test_every_claim_finds_its_numbers(run, tmp_path):
    page = write_report(zeiler2013, run.results, tmp_path)
    judged = {i: claim.test(run.results) for i, claim in enumerate(study.CLAIMS, 1)}
    units = {number: verdict.effect.units for number, verdict in judged.items()}
    assert {n for n, count in units.items() if count == 2} >= {10, 12, 14, 15}
    assert units[2] == 1  # one ensemble of the two
    html = page.read_text()
    assert page.stat().st_size < 700_000
    for heading in ("Figure 2", "Figure 4", "Figure 5", "Tables 3 and 4", "Table 5", "Table 6"):
        assert heading in html


def test_nothing_is_computed_twice(run):
    assert changes_nothing(study, run, opener)


def test_an_ensemble_is_the_mean_of_its_members(run):
    (ensemble,) = run.results.select(experiment="ensemble")["value"]
    cells = [cell for tags, cell in run.entries if "group" in tags]
    told = []
    for trained, cell in zip(map(run.store.trained, cells), cells, strict=True):
        x = trained.view(DATA.read(cell.task.val[0]))
        logits = np.asarray(trained.network.apply(trained.params, x), np.float64)
        told.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    right = np.mean(told, axis=0).argmax(axis=1) == cells[0].task.val[1]
    assert ensemble == pytest.approx(right.mean())


def test_an_ensemble_sees_the_views_that_its_members_are_tested_on(monkeypatch):
    recipe, shown = dataclasses.replace(RECIPE, ten_crop=True), []
    (cell,) = small.cells("baseA", recipe=recipe)
    trained = TrainedNetwork(cell.network, {}, recipe, np.zeros(3, np.float32), cell.hash)
    store = SimpleNamespace(trained=lambda cell: trained, right=lambda cell: ("images", None))

    def probabilities(network, params, read, rows, view):
        shown.append(view(read(rows)).shape)
        return np.ones((len(rows), network.num_classes))

    monkeypatch.setattr(study, "probabilities", probabilities)
    study._ensembles(store, [({"group": 0}, cell)] * 2)
    assert shown == [(10, 10, small.SIZE, small.SIZE, 3)] * 2


def test_scratch_and_pretrained_are_tested_on_the_same_images(run):
    results = run.results
    for seed in (0, 1):
        rows = results.select("accuracy", experiment="transfer", seed=seed)
        images = {results.right(key)[0] for key in rows["right"]}
        assert len(images) == 1
        scratch = rows[rows["readout"] == "scratch"]["value"].item()
        done = results.select(experiment="scratch", seed=seed, condition="scratch")["value"].item()
        assert scratch == pytest.approx(done)  # classes of equal size
    assert study.transferred(results, "pretrained")["layer"].unique().tolist() == ["fc7"]


def test_overlap_ends_at_the_network_itself(run):
    rows = run.results.select("overlap", experiment="evolution")
    last = rows[rows["epoch"] == rows["epoch"].max()]
    assert set(last["value"]) <= {0.0, 1.0}  # 0 where no map of a layer is alive
    assert (rows.groupby("epoch").size() == 10).all()


def test_occlusion_compares_with_boxes_of_other_images(run):
    settings = run.config.experiments.occlusion
    (tags, cell), *_ = run.entries
    trained = run.store.trained(cell)
    order = np.random.RandomState(0).permutation(len(cell.task.val[0]))
    worst, boxes = [], []
    for place in order[: settings.tested]:
        row, label = cell.task.val[0][place], cell.task.val[1][place]
        x = np.array(trained.view(DATA.read([row])))[0]
        if np.argmax(trained.network.apply(trained.params, x[None])) != label:
            continue
        found = {}
        for y, z in itertools.product((0, 8, 16), repeat=2):
            hidden = x.copy()
            hidden[y : y + 8, z : z + 8] = 0
            logits = np.asarray(trained.network.apply(trained.params, hidden[None]))[0]
            found[(y + 4) / SIZE, (z + 4) / SIZE] = logits[label] - np.logaddexp.reduce(logits)
        worst.append(min(found, key=found.get))
        boxes.append(DATA.boxes[row][1][0])
    if len(worst) < 2:
        pytest.skip("the first network gets too few images right")

    def inside(i, j):
        (y, x), box = worst[i], boxes[j]
        return box[0] <= y <= box[2] and box[1] <= x <= box[3]

    places = range(len(worst))
    own = np.mean([inside(i, i) for i in places])
    others = np.mean([inside(i, j) for i in places for j in places if i != j])
    rows = run.results.select("inside", experiment="occlusion", seed=tags["seed"])
    assert rows["value"].item() == pytest.approx(own)
    rows = run.results.select("inside another box", experiment="occlusion", seed=tags["seed"])
    assert rows["value"].item() == pytest.approx(others)
