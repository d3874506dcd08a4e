"""Yosinski et al. 2014, "How transferable are features in deep neural networks?".

Presets, chosen by `--config=configs/yosinski2014.py:<preset>`:
  demo           the embedded world, one split, one direction, all of n = 1..7: minutes on a laptop
  tiny_imagenet  200 ImageNet classes at 32x32 from `--config.data_dir` (the folder or archive)
  tiny_imagenet_gpu  the whole grid on these, four splits, for one GPU (never run on one)
  imagenet       the paper: CaffeNet on ILSVRC2012, four splits, both directions, 450,000 iterations

Any field can be overridden: `--config.recipe.steps=2000`,
`--config.experiments.random_halves.ns='(2, 4, 6)'`. An unknown field is an error.
`--config.imported.path=FILE` makes a network from a file base A, see `experiments.imported`.
"""

import dataclasses

from ml_collections import ConfigDict

from transfer_jax.data.augment import Augmentation
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.studies.settings import (
    as_config,
    common_fields,
    imported_config,
    network_config,
)
from transfer_jax.studies.yosinski2014 import TREATMENTS
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.trainer import Runtime

ALL_LAYERS = (1, 2, 3, 4, 5, 6, 7)
IMAGES_PER_CLASS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 750, 1000, 1300)

# After 500 steps of 64 images of an earlier, harder embedded world (half A of split 0), AdamW at
# 2e-3 had reached 48 % top-1 and Nesterov SGD with a peak of 0.05 36 %.
SMALL_IMAGES = Recipe(
    solver="adamw",
    learning_rate=0.002,
    schedule="cosine",
    warmup_fraction=0.1,
    weight_decay=0.02,
    bias_lr_multiplier=1.0,
    augmentation=Augmentation(size=32, pad=2, mirror=True),
    mean="channel",
    pixel_scale=1 / 60,
    best_evals=2,
)


def get_config(preset: str = "demo") -> ConfigDict:
    """The config of a preset.

    Raises:
      ValueError: for an unknown preset.
    """
    presets = {
        "demo": demo,
        "tiny_imagenet": tiny_imagenet,
        "tiny_imagenet_gpu": tiny_imagenet_gpu,
        "imagenet": imagenet,
    }
    if preset not in presets:
        raise ValueError(f"preset {preset!r} is unknown; expected one of {sorted(presets)}")
    return presets[preset]()


def base_config(dataset: DatasetSpec, network: ConfigDict, recipe: Recipe, runtime: Runtime):
    """All fields of the study, no experiment asked for."""
    return ConfigDict(
        {
            "study": "yosinski2014",
            "seed": 0,
            **common_fields(runtime),
            "dataset": as_config(dataset),
            "network": network,
            # A file of weights of such a network, see `settings.imported_config`.
            "imported": imported_config(),
            "recipe": as_config(recipe),
            "experiments": {
                "random_halves": {
                    "splits": (),
                    "targets": ("A", "B"),
                    "ns": ALL_LAYERS,
                    "treatments": TREATMENTS,
                },
                "man_natural": {
                    "targets": (),
                    "ns": ALL_LAYERS,
                    "treatments": ("transfer_frozen",),
                    # `wnid,superclass` for datasets that are neither ILSVRC nor a hierarchy.
                    "superclass_csv": "",
                },
                # task: 'W', the whole dataset as in the paper, or 'A' or 'B' of split 0.
                "random_weights": {"ns": (), "task": "W"},
                "images_per_class": {"counts": (), "recipe": {}},
                # Asked for by `imported.path`: base A is that file. task: 'W', or 'A' or 'B' of
                # split 0, is what B learns.
                "imported": {
                    "task": "W",
                    "ns": ALL_LAYERS,
                    "treatments": ("transfer_frozen", "transfer_finetuned"),
                },
            },
        }
    )


def demo() -> ConfigDict:
    """All of n = 1..7, BnB, AnB, BnB+, AnB+ towards B, and both bases, on the embedded world."""
    # A third of the default network's multiply-adds, and a recipe for few steps: 30 networks in
    # minutes on two cores.
    widths = dict(conv1=16, conv2=32, conv3=48, conv4=48, conv5=32, fc6=128, fc7=128)
    recipe = dataclasses.replace(
        SMALL_IMAGES,
        batch_size=32,
        steps=700,
        learning_rate=0.003,
        weight_decay=0.01,
        augmentation=Augmentation(size=32, pad=0, mirror=True),
        eval_every=175,
    )
    config = base_config(
        DatasetSpec("world"),
        network_config("alexnet_mini", widths=widths, dropout=0.0),
        recipe,
        Runtime(checkpoint_every=350, log_every=50),
    )
    config.experiments.random_halves.splits = (0,)
    config.experiments.random_halves.targets = ("B",)
    return config


def tiny_imagenet() -> ConfigDict:
    """Two random splits in both directions, man-made/natural and random weights."""
    config = base_config(
        DatasetSpec("tiny_imagenet", path="."),
        network_config("alexnet_mini", dropout=0.2, init="he_quiet_conv1"),
        dataclasses.replace(SMALL_IMAGES, batch_size=64, steps=12_000, eval_every=1000),
        Runtime(checkpoint_every=500),
    )
    config.dataset.path = ""
    config.experiments.random_halves.splits = (0, 1)
    config.experiments.man_natural.targets = ("A", "B")
    config.experiments.random_weights.ns = ALL_LAYERS
    return config


def tiny_imagenet_gpu() -> ConfigDict:
    """The whole grid on one GPU: four splits, both directions, man-made/natural, random weights.

    256 networks of 7.7 epochs each, 11,290 TFLOP counted with shared forward passes once: ten
    minutes take 19 TFLOP/s. Never run on a GPU: rate, form and calls are guesses to start from.
    """
    config = tiny_imagenet()
    recipe = dataclasses.replace(
        SMALL_IMAGES,
        batch_size=256,
        steps=3000,
        learning_rate=0.004,
        eval_every=1000,
        dtype="bfloat16",
    )
    runtime = Runtime(
        checkpoint_every=3000,
        log_every=500,
        steps_per_call=500,
        data_mode="resident",
        largest_trained=7,
        side_by_side="vmap",
    )
    config.recipe, config.runtime = as_config(recipe), as_config(runtime)
    config.experiments.random_halves.splits = (0, 1, 2, 3)
    return config


def imagenet() -> ConfigDict:
    """The paper's own grid and recipe, from ILSVRC2012 in data_dir; images are squashed, as Caffe's
    tools do."""
    config = base_config(
        DatasetSpec("ilsvrc2012", path=".", image_size=256),
        network_config("caffenet"),
        Recipe(),
        Runtime(checkpoint_every=5000),
    )
    config.dataset.path = ""
    config.experiments.random_halves.splits = (0, 1, 2, 3)
    config.experiments.man_natural.targets = ("A", "B")
    config.experiments.random_weights.ns = ALL_LAYERS
    config.experiments.images_per_class.counts = IMAGES_PER_CLASS
    config.experiments.images_per_class.recipe = {
        "learning_rate": 0.0125,
        "decay_every": 64_000,
        "steps": 200_000,
    }
    return config
