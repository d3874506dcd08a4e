"""What no config may hold, whatever its experiments ask for."""

import pytest

from configs import azizpour2014, huh2016, oquab2014, yosinski2014, zeiler2013
from transfer_jax.studies.settings import check, ray_from

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
        ("recipe.weight_decay", 3.0),
        ("recipe.decay_factor", 1.5),
        ("recipe.pixel_scale", 1e30),
        ("recipe.augmentation.pad", -1),
        ("network.widths", {"conv1": 2**31}),
        ("network.widths", {"fc6": -1}),
        ("network.input_size", -32),
        ("dataset.train_per_class", -1),
        ("reuse", (3,)),
        ("reuse", "runs/demo"),
        ("ray.num_gpus", 1.5),
        ("experiments.images_per_class.recipe.learning_rate", 1e9),
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


def test_an_executor_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"config\.executor='slurm'"):
        ray_from({"executor": "slurm"})
