import collections
import importlib.util
from pathlib import Path

import pytest

from transfer_jax.data.splits import MAN_MADE, NATURAL, ilsvrc_indices, random_halves
from transfer_jax.studies.settings import recipe_from
from transfer_jax.studies.yosinski2014 import entries

CONFIG = Path(__file__).parents[2] / "configs" / "yosinski2014.py"


class Classes:
    """A dataset of which only the classes matter."""

    def __init__(self, names, paths=None):
        self.name, self.class_names, self.class_paths = "classes", tuple(names), paths


ILSVRC = Classes(ilsvrc_indices())
WORLD = Classes(
    [f"class{i}" for i in range(8)],
    [("world", "natural" if i % 2 else "man_made", f"class{i}") for i in range(8)],
)


def get_config(preset):
    spec = importlib.util.spec_from_file_location("config", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(preset)


def counts(found):
    return collections.Counter(experiment for experiment, _, _ in found)


def test_the_imagenet_preset_is_the_papers_grid():
    found = entries(get_config("imagenet"), ILSVRC)
    assert counts(found) == {
        "random_halves": 4 * (2 + 2 * 7 * 4),
        "man_natural": 2 + 2 * 7,
        "random_weights": 1 + 7,
        "images_per_class": 12,
    }
    assert len({cell.hash for _, _, cell in found}) == len(found)
    halves = {str(seed): random_halves(1000, seed) for seed in range(4)}
    for experiment, split, cell in found:
        recipe = cell.recipe
        if experiment == "images_per_class":
            settings = (recipe.learning_rate, recipe.decay_every, recipe.steps)
            assert settings == (0.0125, 64_000, 200_000)
            assert cell.task.images_per_class == int(split)
        else:
            settings = (recipe.learning_rate, recipe.decay_every, recipe.steps)
            assert settings == (0.01, 100_000, 450_000)
        assert recipe.batch_size == 256 and recipe.solver == "caffe" and recipe.momentum == 0.9
        assert recipe.weight_decay == 5e-4 and recipe.bias_lr_multiplier == 2
        assert cell.network.name == "caffenet" and cell.network.num_classes == cell.task.num_classes
        if experiment == "random_halves":
            classes = halves[split]["AB".index(cell.treatment.target)]
            assert list(cell.task.dataset_classes) == list(classes) and cell.seed == int(split)
        if experiment == "man_natural":
            classes = {"A": MAN_MADE, "B": NATURAL}[cell.treatment.target]
            assert cell.task.dataset_classes == tuple(classes)
        if experiment == "random_weights":
            assert cell.task.num_classes == 1000


def test_bases_come_before_the_cells_that_copy_them():
    for preset, dataset in (("demo", WORLD), ("tiny_imagenet", ILSVRC)):
        seen = set()
        for _, _, cell in entries(get_config(preset), dataset):
            assert cell.source is None or cell.source.hash in seen
            seen.add(cell.hash)


def test_the_demo_is_every_n_and_treatment_towards_one_target():
    found = entries(get_config("demo"), WORLD)
    names = {cell.name for _, _, cell in found}
    expected = {f"{s}{n}B{p}" for s in "AB" for n in range(1, 8) for p in ("", "+")}
    assert names == expected | {"baseA", "baseB"} and len(found) == 30


def test_the_tiny_imagenet_preset_has_every_experiment_but_the_images():
    found = entries(get_config("tiny_imagenet"), ILSVRC)
    assert counts(found) == {"random_halves": 2 * 58, "man_natural": 16, "random_weights": 8}


def test_random_weights_on_a_half_share_its_base_with_the_random_halves():
    config = get_config("demo")
    config.experiments.random_weights.ns = (2, 4)
    config.experiments.random_weights.task = "B"
    found = entries(config, WORLD)
    bases = {e: c.hash for e, _, c in found if c.name == "baseB"}
    assert bases["random_weights"] == bases["random_halves"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"random_halves.treatments": ("frozen",)}, "'frozen'.*selffer_frozen"),
        ({"random_halves.targets": ("C",)}, "'C'.*'A' or 'B'"),
        ({"random_halves.ns": (8,)}, "n=8.*1..7"),
        ({"random_weights.ns": (1,), "random_weights.task": "X"}, "'X'"),
        ({"random_halves.splits": ()}, "no cell"),
        ({"random_halves.splits": ("x",)}, r"random_halves\.splits holds 'x': expected integers"),
        ({"images_per_class.counts": (2.5,)}, r"images_per_class\.counts holds 2.5"),
    ],
)
def test_bad_experiments_are_named(change, message):
    config = get_config("demo")
    for field, value in change.items():
        config.update_from_flattened_dict({f"experiments.{field}": value})
    with pytest.raises(ValueError, match=message):
        entries(config, WORLD)


def test_unknown_presets_and_fields_are_named():
    with pytest.raises(ValueError, match=r"'huge'.*demo"):
        get_config("huge")
    with pytest.raises(ValueError, match=r"config\.recipe\.speed is unknown.*batch_size"):
        recipe_from(get_config("demo").recipe, speed=1)
