"""Yosinski et al. 2014, "How transferable are features in deep neural networks?".

`--config=configs/yosinski2014.py:PRESET`, a function below; folder=PATH hands over the path. Any
field can be overridden: `--config.experiments.random_halves.ns='(2, 4, 6)'`. With
`--config.imported.path=FILE` a network from a file is base A, see `experiments.imported`.
"""

import dataclasses

from ml_collections import ConfigDict

from transfer_jax.data.sources import DatasetSpec
from transfer_jax.data.views import Augmentation
from transfer_jax.studies.settings import (
    as_config,
    in_data_dir,
    network_config,
    pick,
    study_config,
    user_folder,
)
from transfer_jax.studies.yosinski2014_claims import TREATMENTS
from transfer_jax.training.loop import Runtime
from transfer_jax.training.recipe import SMALL_IMAGES, Recipe

ALL_LAYERS = (1, 2, 3, 4, 5, 6, 7)


def get_config(preset: str = "demo") -> ConfigDict:
    """The config of a preset."""
    return pick(preset, demo, folder, tiny_imagenet, tiny_imagenet_gpu, imagenet)


def base_config(dataset, network, recipe, runtime) -> ConfigDict:
    """All fields of the study, no experiment asked for. Units of an effect are (split, seed)."""
    config = study_config("yosinski2014", dataset, network, recipe, runtime)
    both = {"targets": ("A", "B"), "ns": ALL_LAYERS}
    halves = {**both, "splits": (), "seeds": (0,), "treatments": TREATMENTS}
    distant = {**both, "seeds": (), "treatments": ("transfer_frozen", "random_frozen")}
    config.experiments = {
        # long: bases of the targets trained twice as long, the control of all '+' cells, which
        # cost most and may have an n of their own; fine_tuned_ns=() stands for ns.
        "random_halves": {**halves, "fine_tuned_ns": (), "long": True},
        # superclass_csv: `wnid,superclass` where neither wnids nor a hierarchy tell.
        "man_natural": {**distant, "superclass_csv": ""},
        # On the whole dataset, as in the paper.
        "random_weights": {"seeds": (), "ns": ALL_LAYERS},
        "images_per_class": {"counts": (), "recipe": {}},
        # Asked for by `imported.path`: base A is that file, B the whole dataset.
        "imported": {"seeds": (0,), "ns": ALL_LAYERS, "treatments": TREATMENTS[2:]},
    }
    return config


def demo() -> ConfigDict:
    """The embedded world, in minutes. Five splits towards B with few images and steps: many units
    of few conditions. Bases do not converge in the time there is, so those trained twice as long
    are the reference."""
    widths = dict(conv1=12, conv2=24, conv3=32, conv4=32, conv5=24, fc6=96, fc7=96)
    recipe = dataclasses.replace(
        SMALL_IMAGES,
        solver="adamw",
        nesterov=False,
        batch_size=32,
        steps=400,
        learning_rate=0.002,
        weight_decay=0.01,
        augmentation=Augmentation(size=32, pad=0, mirror=True),
        eval_every=400,
    )
    config = base_config(
        DatasetSpec("world", train_per_class=60, val_per_class=100),
        network_config("alexnet_mini", widths=widths, dropout=0.0),
        recipe,
        Runtime(checkpoint_every=400, log_every=50),
    )
    common = {"targets": ("B",), "ns": (1, 2, 4, 7)}
    units = {"splits": (0, 1, 2, 3, 4), "fine_tuned_ns": (4,)}
    config.experiments.random_halves.update(common | units)
    config.experiments.man_natural.update(common | {"seeds": (0, 1, 2)})
    return config


def folder(path: str = "") -> ConfigDict:
    """The demo's grid on photographs of the user's: halves of their classes, or, of two or three
    classes, which have no halves, random lower layers under all of them."""
    found, config = user_folder(path, 32), demo()
    config.dataset = as_config(found.dataset)
    # Eight epochs over half of the classes.
    steps = max(400, found.train * found.classes // 8)
    config.recipe.update({"steps": steps, "eval_every": steps})
    config.experiments.man_natural.seeds = ()
    if found.classes < 4:
        config.experiments.random_halves.splits = ()
        config.experiments.random_weights.update({"seeds": (0, 1, 2, 3, 4), "ns": (1, 2, 4, 7)})
        config.notes = (
            f"{found.classes} classes cannot be divided into halves of two or more: nothing here "
            "is transferred, and most claims have no networks. Random lower layers alone are "
            "compared with learned ones.",
        )
    return config


def tiny_imagenet() -> ConfigDict:
    """200 ImageNet classes at 32x32: four splits in both directions, fine-tuned at two n, and
    man-made / natural in three seeds and one direction."""
    config = base_config(
        in_data_dir("tiny_imagenet"),
        network_config("alexnet_mini", dropout=0.0),
        dataclasses.replace(SMALL_IMAGES, eval_every=2000),
        Runtime(checkpoint_every=500),
    )
    config.experiments.random_halves.update({"splits": (0, 1, 2, 3), "fine_tuned_ns": (4, 7)})
    few = {"targets": ("B",), "seeds": (0, 1, 2), "ns": (2, 4, 6, 7)}
    config.experiments.man_natural.update(few)
    return config


def tiny_imagenet_gpu() -> ConfigDict:
    """The same with every n, man-made / natural in both directions, and bfloat16."""
    config = tiny_imagenet()
    gpu = {"batch_size": 256, "steps": 3000, "learning_rate": 0.05, "eval_every": 1000}
    config.recipe.update({**gpu, "precision": "bfloat16"})
    config.runtime = as_config(Runtime(checkpoint_every=3000, log_every=500))
    for experiment in (config.experiments.random_halves, config.experiments.man_natural):
        experiment.update({"targets": ("A", "B"), "ns": ALL_LAYERS})
    config.experiments.random_halves.fine_tuned_ns = ()
    return config


def imagenet() -> ConfigDict:
    """The paper's own grid and recipe with the controls, from ILSVRC2012 in data_dir, squashed as
    Caffe's tools do. One seed of man-made / natural, as in the paper, decides nothing."""
    config = base_config(
        in_data_dir("ilsvrc2012", image_size=256),
        network_config("caffenet"),
        Recipe(),
        Runtime(checkpoint_every=5000),
    )
    experiments = config.experiments
    experiments.random_halves.splits = (0, 1, 2, 3)
    experiments.man_natural.seeds = experiments.random_weights.seeds = (0,)
    counts = (1, 2, 5, 10, 25, 50, 100, 250, 500, 750, 1000, 1300)
    shorter = {"learning_rate": 0.0125, "decay_every": 64_000, "steps": 200_000}
    experiments.images_per_class.update({"counts": counts, "recipe": ConfigDict(shorter)})
    return config
