"""Which tasks Huh et al. 2016 pretrain on, and what is fine-tuned from them."""

import collections
import types

import jax
import numpy as np
import pytest

from tests import small
from tests.studies.small_studies import get_config
from transfer_jax.data.ancestor_splits import shared_ancestors
from transfer_jax.data.folds import FoldedDataset
from transfer_jax.data.single_label import SingleLabelDataset
from transfer_jax.data.splits import ilsvrc_indices
from transfer_jax.data.subsets import random_classes
from transfer_jax.data.world import class_names, class_paths
from transfer_jax.studies import huh2016 as study
from transfer_jax.studies.huh2016_conditions import Condition, all_conditions
from transfer_jax.studies.huh2016_source import everything, source_of
from transfer_jax.studies.huh2016_targets import wanted_targets

EVERY = {
    "images_per_class": (2, 4),
    "classes": {"bottom_up": ("all",), "top_down": (2,)},
    "budget": {"num_classes": (5, 10), "total_images": 40},
    "overlap": True,
    "halves": ("A", "B"),
    "unrelated": True,
}
KINGDOMS = [path[1] for path in class_paths()]
FAMILIES = [path[2] for path in class_paths()]


@pytest.fixture
def config(huh):
    """Every question, on the classes of the small run."""
    config = huh.config.copy_and_resolve_references()
    config.experiments = {**config.experiments.to_dict(), **EVERY, "targets": ("held_out",)}
    return config


@pytest.fixture
def source(config, huh):
    return source_of(config, huh.open_dataset)


def by_question(config, source):
    found = collections.defaultdict(dict)
    for condition in all_conditions(config, source):
        assert condition.name not in found[condition.question]
        found[condition.question][condition.name] = condition
    return found


def cells_of(work, experiment):
    return {name: cell for e, name, cell in work.entries if e == experiment}


def test_pretraining_and_held_out_classes_are_apart(source):
    assert sorted(source.pretraining + source.held_out) == list(range(40))
    assert list(source.held_out) == random_classes(40, 20, 0)
    natural = {i for i, kingdom in enumerate(KINGDOMS) if kingdom == "natural"}
    assert source.natural == natural and source.man_made == set(range(40)) - natural


def test_no_condition_but_one_sees_the_targets_classes(config, source):
    found = by_question(config, source)
    assert list(found) == ["images", "classes", "budget", "overlap", "halves", "unrelated"]
    for conditions in found.values():
        for name, condition in conditions.items():
            seen = set(condition.task.dataset_classes)
            if name == "with target classes":
                assert seen == set(range(40))
            else:
                assert seen <= set(source.pretraining), name


def test_all_is_one_network_whatever_question_asks(config, source):
    found = by_question(config, source)
    every = {q: found[q]["all"] for q in found if "all" in found[q]}
    assert set(every) == set(found) - {"budget"}
    hashes = {study.base_cell(config, c, 0).hash for c in every.values()}
    assert len(hashes) == 1
    values = {question: condition.value for question, condition in every.items()}
    assert values == {"images": 8, "classes": 20, "overlap": 0, "halves": None, "unrelated": None}
    assert everything(source).dataset_classes == source.pretraining


def test_images_and_budgets_are_of_the_size_that_their_names_say(config, source):
    found, labels = by_question(config, source), source.dataset.labels("train")
    for count in (2, 4):
        condition = found["images"][f"{count} images a class"]
        chosen, _ = condition.task.select(labels)
        assert condition.value == count and len(chosen) == 20 * count
        assert condition.task.dataset_classes == source.pretraining
    assert list(found["budget"]) == ["5 classes of 8 images", "10 classes of 4 images"]
    few, more = found["budget"].values()
    for condition, count in ((few, 5), (more, 10)):
        assert condition.value == condition.task.num_classes == count
        assert len(condition.task.select(labels)[0]) == 40
    assert set(few.task.dataset_classes) < set(more.task.dataset_classes)


def test_merged_classes_are_nodes_of_the_hierarchy(config, source):
    """Two steps up from the classes are the families, and then the kingdoms."""
    found = by_question(config, source)["classes"]
    families = {FAMILIES[c] for c in source.pretraining}
    # Families of one class remain what they are.
    assert list(found) == ["all", f"{len(families)} classes bottom-up", "2 classes bottom-up",
                           "2 classes top-down"]  # fmt: skip
    for name, nodes in (
        (f"{len(families)} classes bottom-up", FAMILIES),
        ("2 classes bottom-up", KINGDOMS),
        ("2 classes top-down", KINGDOMS),
    ):
        condition = found[name]
        assert condition.value == condition.task.num_classes == int(name.split()[0])
        parents = collections.defaultdict(set)
        for c in source.pretraining:
            parents[condition.task.class_map[c]].add(nodes[c])
        assert all(len(of) == 1 for of in parents.values())
        assert condition.task.dataset_classes == source.pretraining


def test_halves_are_random_or_apart(config, source):
    found = by_question(config, source)["halves"]
    assert list(found) == ["half random A", "half random B", "half apart A", "half apart B", "all"]
    shared = {}
    for kind in ("random", "apart"):
        a, b = (set(found[f"half {kind} {side}"].task.dataset_classes) for side in "AB")
        assert a | b == set(source.pretraining) and not a & b and len(a) == len(b) == 10
        names = [[class_names()[c] for c in half] for half in (a, b)]
        shared[kind] = len(shared_ancestors(source.hierarchy, *names))
    assert shared["apart"] < shared["random"]
    config.experiments.halves = ("B",)
    one = by_question(config, source)["halves"]
    assert list(one) == ["half random B", "half apart B", "all"]
    assert one["half apart B"].task == found["half apart B"].task


def test_unrelated_classes_are_of_one_kind(config, source):
    found = by_question(config, source)["unrelated"]
    assert list(found) == ["natural only", "man-made only", "all"]
    for name, kingdom in (("natural only", "natural"), ("man-made only", "man_made")):
        classes = found[name].task.dataset_classes
        assert classes == tuple(c for c in source.pretraining if KINGDOMS[c] == kingdom)
    assert found["natural only"].value is None


def test_superclasses_are_read_only_where_they_are_asked_for(config, huh):
    config.experiments.unrelated = False
    source = source_of(config, huh.open_dataset)
    assert not source.natural and not source.man_made
    assert "unrelated" not in by_question(config, source)


def test_every_condition_is_fine_tuned_on_every_target(config, huh):
    config.seeds = (0, 3)
    config.experiments.targets = ("held_out", "natural")
    config.targets.natural.update({"train_per_class": 2, "test_per_class": 5})
    work = study.plan(config, huh.open_dataset)
    names = {
        "images": 3, "classes": 4, "budget": 2, "overlap": 2, "halves": 5, "unrelated": 3,
    }  # fmt: skip
    conditions = sum(names.values()) - 4  # 'all' has five places.
    pretrained, tuned, scratch = (
        cells_of(work, experiment) for experiment in ("pretrained", "fine_tuned", "scratch")
    )
    assert len(pretrained) == 2 * conditions
    # The natural target is asked of the last question alone.
    assert len(tuned) == 2 * conditions + 2 * 3
    assert [name for name in tuned if " to natural " in name] == [
        f"{condition} to natural seed {seed}"
        for seed in (0, 3) for condition in ("natural only", "man-made only", "all")
    ]  # fmt: skip
    assert list(scratch) == [f"{t} seed {s}" for t in ("held_out", "natural") for s in (0, 3)]
    assert len(work.entries) == len(pretrained) + len(tuned) + len(scratch)
    # 'Two classes' are the same whether they were merged from below or from above.
    same = [pretrained[f"2 classes {way} seed 3"].hash for way in ("bottom-up", "top-down")]
    assert same[0] == same[1] and len({c.hash for c in pretrained.values()}) == 2 * conditions - 2
    seen = set()
    for _, _, cell in work.entries:
        assert cell.source is None or cell.source.hash in seen
        seen.add(cell.hash)
    assert len(work.datasets) == 1 + 2 * 2 == len({d.name for d in work.datasets})
    config.experiments.scratch = False
    entries = study.plan(config, huh.open_dataset).entries
    assert {e for e, _, _ in entries} == {"pretrained", "fine_tuned"}


def test_fine_tuning_copies_all_layers_but_the_last(huh):
    config = huh.config.copy_and_resolve_references()
    config.fine_tune_recipe = {"steps": 7, "eval_every": 7, "learning_rate": 0.5}
    work = study.plan(config, huh.open_dataset)
    pretrained, tuned, scratch = (
        cells_of(work, experiment) for experiment in ("pretrained", "fine_tuned", "scratch")
    )
    for name, cell in tuned.items():
        condition, target = name.removesuffix(" seed 0").split(" to ")
        base = pretrained[f"{condition} seed 0"]
        assert cell.source.hash == base.hash and cell.name == "A3B+"
        assert cell.treatment.n == len(cell.network.layers) - 1
        assert not cell.treatment.frozen_layers(cell.network)
        alone = scratch[f"{target} seed 0"]
        assert (cell.network, cell.task, cell.recipe) == (alone.network, alone.task, alone.recipe)
        assert alone.source is None and alone.name == "baseB"
        assert (cell.recipe.steps, cell.recipe.learning_rate) == (7, 0.5)
        assert base.recipe.steps == 12
        params, fresh = (c.network.init(jax.random.key(i)) for i, c in enumerate((base, cell)))
        started = cell.treatment.initial_params(
            cell.network, jax.random.key(cell.init_seed), params
        )
        names = cell.network.layer_names
        copied = [small.same_bits(started[layer], params[layer]) for layer in names]
        assert copied == [True, True, True, False]
        assert started["fc8"]["kernel"].shape == fresh["fc8"]["kernel"].shape


def test_targets_hold_no_image_that_pretraining_learns_from(huh):
    """Held-out classes in the validation split: neither their classes nor their images are seen,
    not even by the network that is pretrained on all classes."""
    source = source_of(huh.config, huh.open_dataset)
    held_out, scenes = wanted_targets(huh.config, source, huh.open_dataset)
    assert held_out.splits == ("val",) and held_out.classes == source.held_out
    labels = huh.source.labels("val")
    for seed in (0, 1):
        fold = held_out.fold(seed)
        assert isinstance(fold, FoldedDataset) and fold.fold.splits == ("val",)
        assert [class_names()[c] for c in source.held_out] == list(fold.class_names)
        places = {split: fold.positions[split] for split in ("train", "val")}
        for split, count in (("train", 3), ("val", 5)):
            assert not places[split][:, 0].any()  # All lie in the first split, 'val'.
            assert np.bincount(fold.labels(split)).tolist() == [count] * 20
            assert set(labels[places[split][:, 1]]) == set(source.held_out)
        assert not set(places["train"][:, 1]) & set(places["val"][:, 1])
    first, second = (set(held_out.fold(seed).positions["train"][:, 1]) for seed in (0, 1))
    assert first != second
    pixels = {image.tobytes() for image in huh.source.images("train", np.arange(320))}
    fold = held_out.fold(0)
    drawn = fold.images("train", np.arange(60)), fold.images("val", np.arange(100))
    assert not pixels & {image.tobytes() for images in drawn for image in images}
    # A dataset of its own, with its own splits.
    assert scenes.splits == ("train", "val") and len(scenes.classes) == 40
    assert isinstance(scenes.fold(0), SingleLabelDataset) and scenes.fold(1) is scenes.fold(0)


def test_natural_targets_are_the_natural_ones_of_the_held_out(config, huh):
    config.experiments.targets = ("natural",)
    config.targets.natural.update({"train_per_class": 2, "test_per_class": 3})
    source = source_of(config, huh.open_dataset)
    (target,) = wanted_targets(config, source, huh.open_dataset)
    assert target.classes == tuple(c for c in source.held_out if KINGDOMS[c] == "natural")
    asked = target.asked_of(all_conditions(config, source))
    assert [c.name for c in asked] == ["natural only", "man-made only", "all"]
    config.targets.natural.questions = ()
    assert target.asked_of(all_conditions(config, source)) == all_conditions(config, source)


def test_other_datasets_are_drawn_from_whole(config, huh):
    config.targets.held_out.update({"classes": "all", "dataset": config.dataset.to_dict()})
    source = source_of(config, huh.open_dataset)
    (target,) = wanted_targets(config, source, huh.open_dataset)
    assert target.classes == tuple(range(40)) and target.splits == ("train", "val")
    assert np.bincount(target.fold(0).labels("train")).tolist() == [3] * 40


def test_tables_can_tell_hierarchy_and_kinds(config, tmp_path):
    """For datasets whose classes are neither wnids nor come with paths."""
    names = ("ash", "bus", "cod", "dog", "elk", "fan", "gun", "hat")
    parents = ("plant", "tool", "fish", "mammal", "mammal", "tool", "tool", "clothing")
    natural = {"plant", "fish", "mammal"}
    upper = {"plant": "world", "fish": "animal", "mammal": "animal", "animal": "world",
             "tool": "world", "clothing": "world"}  # fmt: skip
    edges = [*zip(names, parents, strict=True), *upper.items()]
    tree, kinds = tmp_path / "tree.csv", tmp_path / "kinds.csv"
    tree.write_text("child,parent\n" + "".join(f"{a},{b}\n" for a, b in edges))
    kinds.write_text("wnid,superclass\n" + "".join(
        f"{n},{'natural' if p in natural else 'man-made'}\n"
        for n, p in zip(names, parents, strict=True)
    ))  # fmt: skip
    labels = np.repeat(np.arange(8), 10).astype(np.int32)
    dataset = types.SimpleNamespace(
        name="toy", class_names=names, class_paths=None, labels=lambda split: labels
    )
    config.hierarchy_csv, config.superclass_csv = str(tree), str(kinds)
    config.held_out = 0
    config.experiments.budget.num_classes = (4,)
    config.experiments.classes = {"bottom_up": (), "top_down": ("all",)}
    source = source_of(config, lambda fields: dataset)
    assert source.held_out == () and source.natural == {0, 2, 3, 4}
    found = by_question(config, source)
    assert found["unrelated"]["natural only"].task.dataset_classes == (0, 2, 3, 4)
    # One step up from each class; a tool is two steps below the root, so there is no second.
    assert list(found["classes"]) == ["all", "5 classes top-down"]
    assert found["classes"]["5 classes top-down"].task.class_map == (0, 1, 2, 3, 3, 1, 1, 4)
    config.hierarchy_csv = ""
    with pytest.raises(ValueError, match="toy has no class hierarchy"):
        source_of(config, lambda fields: dataset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": 39}, r"config\.held_out=39 leaves 1 classes"),
        ({"held_out": 41}, r"count must lie in 1 \.\. 40"),
        ({"held_out": 1}, r"targets\.held_out: 1 classes of .* hold out more than"),
        (
            {"experiments.targets": ("x",)},
            r"targets holds 'x'; expected some of \['held_out', .*\]",
        ),
        ({"targets.held_out.classes": "some"}, r"classes='some': expected 'all' or one of"),
        (
            {"targets.held_out.questions": ("why",)},
            r"questions holds \['why'\]; expected.*'budget'",
        ),
        (
            {"targets.held_out.train_per_class": 0},
            r"train_per_class=0 takes a dataset's own splits",
        ),
        ({"targets.held_out.train_per_class": 8}, r"class .* has 8 images in the splits val"),
        ({"experiments.classes.bottom_up": (7,)}, r"classes\.bottom_up holds 7; there are \[2, "),
        (
            {"experiments.budget.num_classes": (2.5,)},
            r"budget\.num_classes holds 2\.5: expected int",
        ),
        ({"experiments.budget.total_images": 90}, r"18 images of each of 5 classes are wanted"),
        ({"experiments.images_per_class": ("all",)}, r"images_per_class holds 'all'"),
        ({"experiments.halves": ("A", "C")}, r"halves holds \['C'\]: expected some of 'A', 'B'"),
        ({"seeds": ("x",)}, r"config\.seeds holds 'x': expected integers"),
    ],
)
def test_bad_configs_are_named(config, huh, change, message):
    config.update_from_flattened_dict(change)
    with pytest.raises(ValueError, match=message):
        study.plan(config, huh.open_dataset)


def test_the_imagenet_preset_is_the_papers_conditions():
    """On labels alone: ILSVRC's classes, of 1300 images each."""
    config = get_config("huh2016", "imagenet")
    labels = np.repeat(np.arange(1000), 1300).astype(np.int32)
    dataset = types.SimpleNamespace(
        name="ilsvrc", class_names=tuple(ilsvrc_indices()), class_paths=None,
        labels=lambda split: labels,
    )  # fmt: skip
    source = source_of(config, lambda fields: dataset)
    found = by_question(config, source)
    values = {q: [c.value for n, c in of.items() if n != "all"] for q, of in found.items()}
    assert values["images"] == [50, 125, 250, 500, 1000]
    assert values["classes"] == [918, 753, 486, 79, 9, 127, 10, 2]
    assert values["budget"] == [250, 500, 1000]
    assert [len(c.task.select(labels)[0]) for c in found["budget"].values()] == [125_000] * 3
    base = study.base_cell(config, Condition("images", "all", None, everything(source)), 0)
    assert base.network.num_params == 60_965_224 and base.recipe.steps == 450_000
