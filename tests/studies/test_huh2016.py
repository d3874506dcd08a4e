"""Which tasks Huh et al. 2016 pretrain on, what is fine-tuned from them, and a whole run."""

import collections
import dataclasses

import jax
import numpy as np
import pytest

from configs import huh2016 as config_file
from tests.data import image_trees
from tests.studies.whole_run import changes_nothing, whole_run
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.splits import ilsvrc_indices
from transfer_jax.detection.evaluate import average_precisions, detect, judged
from transfer_jax.grid.store import TrainedNetwork
from transfer_jax.networks.weights import save_weights
from transfer_jax.readout.features import layer_features, probabilities
from transfer_jax.report import write_report
from transfer_jax.studies import huh2016 as study
from transfer_jax.studies.settings import dataset_opener, network_from, planning_opener

FAMILIES = ("bird", "fish", "tree", "tool", "boat", "chair")
PATHS = [("world", "natural" if f < 3 else "man_made", name, f"{name}{i}")
         for f, name in enumerate(FAMILIES) for i in range(3)]  # fmt: skip
KINGDOM = [path[1] for path in PATHS]
TRAIN, VAL = 8, 8  # images of a class


def pictures(seed=0, multilabel=False):
    """18 classes of noisy pictures in a hierarchy, those of one family alike."""
    rng = np.random.default_rng(seed)
    family, own = rng.integers(0, 110, (6, 16, 16, 3)), rng.integers(0, 70, (18, 16, 16, 3))

    def draw(labels):
        noise = rng.integers(0, 75, (len(labels), 16, 16, 3))
        return (family[labels // 3] + own[labels] + noise).astype(np.uint8)

    sides = [np.repeat(np.arange(18), count) for count in (TRAIN, VAL)]
    images = [draw(labels) for labels in sides]
    if multilabel:
        sides = [np.eye(18, dtype=np.int8)[labels] for labels in sides]
        for side in sides:
            side[::4] |= np.roll(side, 1, axis=1)[::4]  # A quarter of the images show two.
    names = [path[-1] for path in PATHS]
    paths = None if multilabel else PATHS
    val = images[1], sides[1]
    return Dataset.from_arrays(images[0], sides[0], names, val=val, class_paths=paths)


@pytest.fixture(scope="module")
def open_dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    image_trees.voc_folder(folder / "VOCdevkit")
    kinds = {"world": pictures(), "voc_actions": pictures(1, multilabel=True)}
    really = dataset_opener(folder, folder)
    return lambda fields: kinds.get(fields["kind"]) or really(fields)


def get_config(preset="demo", **changes):
    config = config_file.get_config(preset)
    config.update_from_flattened_dict(changes)
    return config


def small_config(**changes):
    """The demo on the pictures, of which six classes are held out."""
    config = get_config(seeds=(0, 1), held_out=6)
    config.recipe.batch_size = config.fine_tune_recipe.batch_size = 8
    for name, count in (("train_per_class", 3), ("test_per_class", 5)):
        config.targets.held_out[name] = config.targets.natural[name] = count
    config.experiments.images_per_class = (4,)
    config.experiments.classes.bottom_up = (6, 2)
    config.experiments.halves.apart = ("A",)
    config.experiments.budget = {"num_classes": (6, 12), "total_images": 48}
    config.targets.voc = config.targets.scenes
    voc = {"kind": "voc", "path": "VOCdevkit/VOC2012", "image_size": 32, "fit": "squash"}
    config.targets.voc.update({"dataset": voc, "search": {"side": 48}})
    del config.targets.scenes
    config.update_from_flattened_dict(changes)
    return config


def by_experiment(entries, seed=0):
    """experiment -> (question, condition, amount, side, target) -> cell."""
    found = collections.defaultdict(dict)
    for tags, cell in entries:
        if tags["seed"] == seed:
            names = ("question", "condition", "amount", "side", "target")
            key = tuple(tags[name] for name in names if tags.get(name) is not None)
            assert key not in found[tags["experiment"]]
            found[tags["experiment"]][key] = cell
    return found


def classes_of(cell):
    task = cell.task
    return set(task.dataset.labels[task.train[0]].tolist())


@pytest.fixture(scope="module")
def planned(open_dataset):
    return by_experiment(study.entries(small_config(), open_dataset))


def test_ways_to_pretrain_are_what_their_tags_say(planned):
    found = planned["pretrained"]
    whole = found["images", "all", 8.0]
    seen, held_out = classes_of(whole), set(range(18)) - classes_of(whole)
    assert len(seen) == 12 and len(whole.task.train[0]) == 12 * TRAIN
    few = found["images", "first images", 4]
    assert classes_of(few) == seen and np.bincount(few.task.train[1]).tolist() == [4] * 12
    assert classes_of(found["classes", "bottom-up", 2]) == seen
    for key, count in (("half, random", 6), ("half, apart", 6)):
        assert len(classes_of(found["halves", key, "A"])) == count
    natural = classes_of(found["unrelated", "natural"])
    assert natural == {c for c in seen if KINGDOM[c] == "natural"}
    swapped = classes_of(found["overlap", "with target classes"])
    assert held_out < swapped and len(swapped) == len(seen)
    for (question, condition, *_), cell in found.items():
        assert condition == "with target classes" or classes_of(cell) <= seen, question
    long = found["long", "long"]
    assert long.task == whole.task and long.recipe.steps == 2 * whole.recipe.steps


def test_merged_classes_are_nodes_of_the_hierarchy(planned):
    whole = planned["pretrained"]["classes", "all", 12].task
    depths = {2: 1, len({PATHS[c][2] for c in whole.dataset.labels[whole.train[0]]}): 2}
    for size, depth in depths.items():
        task = planned["pretrained"]["classes", "bottom-up", size].task
        nodes = collections.defaultdict(set)
        for row, label in zip(*task.train, strict=True):
            nodes[label].add(PATHS[task.dataset.labels[row]][depth])
        assert task.num_classes == size and all(len(of) == 1 for of in nodes.values())


def test_the_same_task_is_one_network_whatever_asks_for_it(planned):
    found = planned["pretrained"]
    whole = {cell.hash for key, cell in found.items() if key[1] == "all"}
    assert len(whole) == 1
    # The budget's fewer classes are the random half, its more classes have half of the images.
    assert found["budget", "budget", 6].hash == found["halves", "half, random", "A"].hash
    assert found["budget", "budget", 12].hash == found["images", "first images", 4].hash


def test_halves_are_drawn_anew_for_each_seed_and_those_apart_share_less(open_dataset):
    both = study.entries(
        small_config(**{f"experiments.halves.{kind}": ("A", "B") for kind in ("random", "apart")}),
        open_dataset,
    )
    drawn = [by_experiment(both, seed)["pretrained"] for seed in (0, 1)]
    shared = collections.Counter()
    for found in drawn:
        for kind in ("half, random", "half, apart"):
            a, b = (classes_of(found["halves", kind, side]) for side in "AB")
            assert a | b == classes_of(found["halves", "all"]) and not a & b
            above_a, above_b = ({node for i in of for node in PATHS[i]} for of in (a, b))
            shared[kind] += len(above_a & above_b)
    assert shared["half, apart"] < shared["half, random"]
    one, other = (classes_of(found["halves", "half, random", "A"]) for found in drawn)
    assert one != other


def test_fine_tuning_copies_all_layers_but_the_last_and_shares_its_task_with_scratch(planned):
    pretrained, tuned, scratch = (planned[e] for e in ("pretrained", "fine_tuned", "scratch"))
    # Targets that are asked of some questions alone.
    natural, found = ([key for key in tuned if key[-1] == name] for name in ("natural", "voc"))
    assert {key[0] for key in natural} == {"unrelated"} and len(natural) == 2
    assert {key[0] for key in found} == {"images", "classes"} and len(found) == 5
    assert len(tuned) == len(pretrained) + len(natural) + len(found)
    for key, cell in tuned.items():
        alone = scratch["scratch", key[-1]]
        assert cell.source == pretrained[key[:-1]] and alone.source is None
        assert (cell.network, cell.task, cell.recipe) == (alone.network, alone.task, alone.recipe)
        long = scratch["scratch, as long", key[-1]]
        assert (long.network, long.task, long.source) == (alone.network, alone.task, None)
        steps = alone.recipe.steps + min(base.recipe.steps for base in pretrained.values())
        assert long.recipe == dataclasses.replace(alone.recipe, steps=steps)
        plus = "+1" if key[-1] == "voc" else "+"
        assert str(cell.treatment) == f"A{len(cell.network.layers) - 1}B{plus}"
        assert key[-1] == "voc" or cell.recipe.steps < cell.source.recipe.steps


def test_an_imported_network_is_compared_with_one_that_learned_all_classes(open_dataset, tmp_path):
    config = small_config()
    network = network_from(config.network, 7)
    config.imported.path = str(tmp_path / "base.npz")
    mean = np.zeros(3, np.float32)
    save_weights(config.imported.path, network, network.init(jax.random.key(0)), mean=mean)
    entries = study.entries(config, open_dataset)
    ways = {tags["condition"] for tags, _ in entries if tags.get("question") == "imported"}
    assert ways == {"all", "imported"}


def test_neighbours_are_left_out_where_the_network_of_all_classes_diverged(planned):
    merged = next(cell for key, cell in planned["pretrained"].items() if key[1] == "bottom-up")
    assert study._neighbours(None, [({"condition": "bottom-up"}, merged)]) == ([], {})


def test_targets_hold_no_image_that_pretraining_learns_from(open_dataset):
    entries = study.entries(small_config(), open_dataset)
    folds = [by_experiment(entries, seed)["scratch"] for seed in (0, 1)]
    learned = {row for tags, cell in entries if tags["experiment"] == "pretrained"
               for row in cell.task.train[0]}  # fmt: skip
    for fold in folds:
        task = fold["scratch", "held_out"].task
        assert not learned & {*task.train[0], *task.val[0]}
        assert not {*task.train[0]} & {*task.val[0]}
        assert np.bincount(task.train[1]).tolist() == [3] * 6
        assert np.bincount(task.val[1]).tolist() == [5] * 6
        assert {KINGDOM[c] for c in classes_of(fold["scratch", "natural"])} == {"natural"}
    first, second = (set(fold["scratch", "held_out"].task.train[0]) for fold in folds)
    assert first != second


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": 17}, "held_out=17 leaves 1 classes"),
        ({"held_out": 19}, "--config.held_out=19: 19 classes"),
        ({"targets.held_out.train_per_class": 99}, "--config.targets.held_out: .* has 8 images"),
        ({"experiments.budget.num_classes": (99,)}, "--config.experiments.budget.num_classes=99"),
        (
            {
                "held_out": 12,
                "experiments.budget.num_classes": (),
                "experiments.classes.bottom_up": (),
            },
            "held_out=12 .experiments.overlap",
        ),
        ({"experiments.budget.total_images": 999}, "--config.experiments.budget.*total_images"),
        ({"targets.held_out.classes": "some"}, "targets.held_out.classes holds 'some'"),
        ({"targets.held_out.questions": ("why",)}, "questions holds 'why'"),
        ({"targets.held_out.train_per_class": 0}, "train_per_class=0"),
        ({"experiments.classes.bottom_up": (7,)}, "bottom_up holds 7"),
        ({"experiments.budget.num_classes": (2.5,)}, "num_classes holds 2.5"),
        ({"experiments.halves.apart": ("C",)}, "halves.apart holds 'C'"),
        ({"targets.voc.classes": "held_out"}, "targets.voc.classes holds 'held_out'"),
        ({"targets.voc.dataset.image_size": None}, "voc.dataset: expected an image_size"),
        ({"targets.voc.dataset.fit": "centre"}, "expected an image_size and fit='squash'"),
        ({"targets.voc.dataset.kind": "world"}, "has no boxes to learn detection from"),
    ],
)
def test_bad_configs_are_named(open_dataset, change, message):
    with pytest.raises(ValueError, match=message):
        study.entries(small_config(**change), open_dataset)


def test_detectors_are_the_targets_of_all_boxes_but_difficult_ones(planned):
    cell = planned["scratch"]["scratch", "voc"]
    data, (train, labels) = cell.task.dataset, cell.task.train
    assert train.tolist() == data.splits["trainval"].tolist()
    assert cell.task.val[0].tolist() == data.splits["test"].tolist()
    for row, classes in zip(train, labels["classes"], strict=True):
        of, _, difficult = data.boxes[row]
        assert classes[classes >= 0].tolist() == of[~difficult].tolist()
    assert cell.network.input_size == 32 and cell.network.num_classes == 5 * 20 + 1
    assert (
        cell.recipe.batch_size == 2 != planned["scratch"]["scratch", "held_out"].recipe.batch_size
    )


def test_a_preset_that_asks_nothing_still_pretrains_on_everything(open_dataset):
    config = get_config("voc2007", **{"dataset.kind": "world", "seeds": (0,)})
    assert [*config.targets] == ["voc2007"]
    config.targets = {}
    ((tags, cell),) = study.entries(config, open_dataset)
    assert tags["condition"] == "all" and len(classes_of(cell)) == 18


def test_detection_is_planned_without_images(tmp_path):
    config = get_config("imagenet")
    config.seeds, config.data_dir = (0,), str(tmp_path)
    for name in ("sun397", "voc_actions"):
        del config.targets[name]
    none = {"images_per_class": (), "unrelated": (), "budget": {"num_classes": ()}}
    none |= {"classes": {"bottom_up": (), "top_down": ()}, "halves": {"random": (), "apart": ()}}
    config.experiments.update(none)
    opener, remarks = planning_opener(str(tmp_path), tmp_path)
    base, alone, long, tuned = (cell for _, cell in study.entries(config, opener))
    assert str(tuned.treatment) == "A7B+1" and tuned.source == base
    assert tuned.network.kernel_shapes["fc6"] == base.network.kernel_shapes["fc6"]
    assert [len(alone.task.select(split)[0]) for split in ("train", "val")] == [5011, 4952]
    assert (alone.recipe.steps, long.recipe.steps) == (40_000, 490_000) and len(remarks) == 2


def test_the_imagenet_preset_is_the_papers_ways_to_pretrain():
    """On labels alone: ILSVRC's classes, of 1300 images each."""
    config = get_config("imagenet", **{"targets": {}, "seeds": (0,)})
    labels = np.repeat(np.arange(1000), 1301).astype(np.int32)
    rows = np.arange(len(labels))
    dataset = Dataset("ilsvrc", tuple(ilsvrc_indices()), labels,
                      {"train": rows[rows % 1301 > 0], "val": rows[rows % 1301 == 0]},
                      None, image_shape=(256, 256, 3))  # fmt: skip
    found = by_experiment(study.entries(config, lambda fields: dataset))["pretrained"]
    values = collections.defaultdict(list)
    for key in found:
        if key[1] != "all" and len(key) == 3:
            values[key[0]].append(key[2])
    assert values["images"] == [50, 125, 250, 500, 1000]
    assert values["classes"] == [918, 753, 486, 79, 9, 127, 10, 2]
    assert values["budget"] == [250, 500, 1000]
    budget = [cell for key, cell in found.items() if key[0] == "budget"]
    assert [len(cell.task.train[0]) for cell in budget] == [125_000] * 3
    whole = found["images", "all", 1300.0]
    assert whole.network.num_params == 60_965_224 and whole.recipe.steps == 450_000


# A whole run.


@pytest.fixture(scope="module")
def run(tmp_path_factory, open_dataset):
    """One seed, one coarse level, a held-out target and one of actions."""
    config = small_config(seeds=(0,))
    config.network.widths = {"conv1": 4, "conv2": 8, "fc7": 16}
    config.network.remove, config.network.input_size = ("conv3", "conv4", "conv5", "fc6"), 16
    config.recipe.update({"batch_size": 16, "steps": 40, "eval_every": 40})
    config.recipe.augmentation.size = 16
    config.fine_tune_recipe = {}
    config.targets.actions = {**config.targets.held_out.to_dict(), "classes": "all",
                              "kind": "actions", "train_per_class": 0}  # fmt: skip
    config.targets.actions.dataset.kind = "voc_actions"
    config.targets.voc.recipe = {"steps": 12, "eval_every": 6, "batch_size": 2}
    del config.targets.natural
    wanted = {"images_per_class": (), "overlap": False, "unrelated": (), "long": False}
    config.experiments.update(wanted)
    config.experiments.budget.num_classes = ()
    config.experiments.halves = {}
    config.experiments.classes.bottom_up = (2,)
    return whole_run(study, config, open_dataset, tmp_path_factory.mktemp("huh2016"))


def features(network, task, split):
    rows, labels = task.select(split)
    layer = network.network.layer_names[-2]
    x = layer_features(network.network, network.params, task.dataset.read, rows, [layer],
                       view=network.view)  # fmt: skip
    return x[layer], labels


def value(run, measure, **tags):
    (found,) = set(run.results.select(measure, **tags)["value"])
    return found


def nearest(queries, references):
    return np.linalg.norm(queries[:, None] - references[None].astype(float), axis=2).argmin(axis=1)


def test_a_run_ends_in_a_page_with_a_verdict_on_each_claim(run, tmp_path):
    page = write_report(study, run.results, tmp_path)
    text = page.read_text()
    assert "Do coarse labels teach" in text and text.count("data:image") >= 3
    assert all(claim.test(run.results).outcome == "undecided" for claim in study.CLAIMS)


def test_a_run_that_has_just_begun_has_a_page(run, tmp_path):
    networks = run.results.frame.dropna(subset="entry").drop_duplicates("entry")
    none = networks.assign(measure="", value=np.nan, right=None, state="planned")
    page = write_report(study, dataclasses.replace(run.results, frame=none), tmp_path)
    assert "planned ones are not finished" in page.read_text()


def test_nothing_is_computed_twice(run):
    assert changes_nothing(study, run, None)


def test_neighbours_are_those_of_the_fine_classes(run):
    planned = by_experiment(run.entries)["pretrained"]
    fine, coarse = planned["classes", "all", 12], planned["classes", "bottom-up", 2]
    network = run.store.trained(coarse)
    (x, labels), (queries, wanted) = (features(network, fine.task, s) for s in ("train", "val"))
    right = np.mean(labels[nearest(queries, x)] == wanted)
    assert value(run, "neighbours", condition="bottom-up") == pytest.approx(right, abs=2 / 96)
    # Who guesses within the class that the network says is right as often as that class is large.
    said = probabilities(network.network, network.params, fine.task.dataset.read, fine.task.val[0],
                         view=network.view).argmax(axis=1)  # fmt: skip
    parents = np.array([coarse.task.train[1][labels == c][0] for c in range(12)])
    sizes = np.bincount(parents)
    chance = (said == parents[wanted]) / sizes[said]
    error = np.sqrt(np.sum(chance * (1 - chance))) / len(chance)
    assert abs(value(run, "guess", condition="bottom-up") - chance.mean()) < 4 * error
    assert chance.mean() < 1 / 3
    # The untrained network looks within that class.
    plain = TrainedNetwork(fine.network, fine.init_params(), fine.recipe, fine.mean(), "")
    (x, labels), (queries, wanted) = (features(plain, fine.task, s) for s in ("train", "val"))
    within = []
    for query, coarse_class, label in zip(queries, said, wanted, strict=True):
        inside = np.flatnonzero(parents[labels] == coarse_class)
        within.append(labels[inside][nearest(query[None], x[inside])[0]] == label)
    assert value(run, "untrained_within") == pytest.approx(np.mean(within), abs=2 / 96)
    everywhere = np.mean(labels[nearest(queries, x)] == wanted)
    found = value(run, "neighbours", condition="untrained")
    assert found == pytest.approx(everywhere, abs=2 / 96)


def test_siblings_share_the_coarse_class(run):
    fine = by_experiment(run.entries)["pretrained"]["classes", "all", 12]
    x, labels = features(run.store.trained(fine), fine.task, "val")
    means = np.stack([x[labels == c].mean(axis=0) for c in range(12)])
    distances = np.linalg.norm(means[:, None] - means[None].astype(float), axis=2)
    np.fill_diagonal(distances, np.inf)
    seen = np.unique(fine.task.dataset.labels[fine.task.val[0]])
    kinds = np.array([KINGDOM[c] for c in seen])
    share = np.mean(kinds[distances.argmin(axis=1)] == kinds)
    assert value(run, "siblings", condition="all") == pytest.approx(share, abs=1 / 12)
    rows = run.results.select("siblings")
    assert set(rows["condition"]) == {"all", "bottom-up", "untrained"}
    same = (kinds == kinds[:, None]).sum(axis=1) - 1
    assert rows["chance"].unique() == pytest.approx([same.mean() / 11])


def test_readouts_know_which_images_were_right(run):
    """So that claims can tell the noise of images that seeds share."""
    rows = run.results.frame
    known = ["svm", "neighbours", "guess", "untrained_within", "map_voc07", "map_area"]
    rows = rows[rows["measure"].isin(known)]
    for row in rows.itertuples():
        right = run.results.right(row.right)[1]
        assert right.mean() == pytest.approx(row.value)
    svm = run.results.select("svm", target="held_out").iloc[0]
    tuned = run.results.select(experiment="fine_tuned", target="held_out").iloc[0]
    assert run.results.right(svm["right"])[0] == run.results.right(tuned["right"])[0]


def test_detectors_are_judged(run):
    """The miniature's one test image shows a cow."""
    for measure in ("map_voc07", "map_area"):
        rows = run.results.select(measure, target="voc")
        assert set(rows["condition"]) == {"scratch", "scratch, as long", "all", "bottom-up"}
    planned = by_experiment(run.entries)
    cells = {
        "scratch": planned["scratch"]["scratch", "voc"],
        "bottom-up": planned["fine_tuned"]["classes", "bottom-up", 2, "voc"],
    }
    for name, cell in cells.items():
        network, task = run.store.trained(cell), cell.task
        of = network.network, network.params, network.recipe, network.mean, task
        truth = task.dataset.boxes.take(task.val[0])
        found = detect(*of)
        each = average_precisions(found, judged(found, truth), truth, 20, "area")
        assert np.isnan(each).sum() == 19
        assert value(run, "map_area", condition=name) == pytest.approx(np.nanmax(each))
        assert "regions_right" in run.store.outcome(cell)


def test_actions_are_ranked_over_all_images_of_several_labels(run):
    tuned = by_experiment(run.entries)["fine_tuned"]["classes", "all", 12, "actions"]
    data = tuned.task.dataset
    assert len(tuned.task.val[0]) < len(data.splits["val"])
    (found,) = run.results.select("mean_ap", condition="all")["value"]
    assert 1 / 18 < found <= 1
