"""What no config may hold, whatever its experiments ask for."""

import dataclasses

import pytest

from configs import azizpour2014, huh2016, oquab2014, yosinski2014, zeiler2013
from tests import small
from transfer_jax.grid.cell import Cell
from transfer_jax.studies.settings import check
from transfer_jax.transfer import Treatment

PRESETS = {
    azizpour2014: ("demo", "photographs", "imagenet"),
    huh2016: ("demo", "tiny_imagenet", "voc2007", "imagenet"),
    oquab2014: ("demo", "photographs", "voc2007", "voc2012", "voc2012_actions"),
    yosinski2014: ("demo", "tiny_imagenet", "tiny_imagenet_gpu", "imagenet"),
    zeiler2013: ("demo", "tiny_imagenet", "photographs", "imagenet"),
}


@pytest.mark.parametrize(("study", "preset"), [(s, p) for s, of in PRESETS.items() for p in of])
def test_presets_are_accepted(study, preset):
    check(study.get_config(preset))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("recipe.learning_rate", 1e9),
        ("recipe.learning_rate", float("nan")),
        ("recipe.weight_decay", 3.0),
        ("recipe.decay_factor", 1.5),
        ("recipe.momentum", 1.0),
        ("recipe.pixel_scale", 1e30),
        ("recipe.augmentation.pad", -1),
        ("network.widths", {"conv1": 2**31}),
        ("network.widths", {"fc6": -1}),
        ("network.input_size", -32),
        ("dataset.train_per_class", -1),
        ("dataset.seed", -1),
        ("reuse", (3,)),
        ("reuse", "runs/demo"),
        ("reuse", None),
        ("ray.num_gpus", 1.5),
        ("experiments.images_per_class.recipe.learning_rate", 1e9),
        ("experiments.images_per_class.recipe.steps", 0),
    ],
)
def test_nonsense_is_refused_by_its_name(field, value):
    config = yosinski2014.get_config()
    assert config.experiments.images_per_class.counts == ()
    with config.unlocked():
        *path, name = field.split(".")
        part = config
        for step in path:
            part = part[step]
        part[name] = value
    with pytest.raises(ValueError, match=name if "input" not in name else "conv1"):
        check(config)


def test_a_batch_larger_than_the_data_is_refused():
    task, network = small.tasks()[0], small.network()
    count = len(task.dataset.labels)
    Cell(network, task, Treatment("A"), dataclasses.replace(small.RECIPE, batch_size=count))
    with pytest.raises(ValueError, match=f"batch_size={count + 1}: its dataset has {count} images"):
        Cell(network, task, Treatment("A"), dataclasses.replace(small.RECIPE, batch_size=count + 1))
