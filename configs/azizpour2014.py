"""Azizpour et al. 2014, "Factors of Transferability for a Generic ConvNet Representation".

`--config=configs/azizpour2014.py:PRESET`, a function below; folder=PATH hands over the path.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from transfer_jax.data.benchmarks import BENCHMARKS, GROUPS
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.data.views import Augmentation
from transfer_jax.readout.reading import Reading
from transfer_jax.studies.settings import (
    as_config,
    in_data_dir,
    network_config,
    pick,
    study_config,
    user_folder,
)
from transfer_jax.training.loop import Runtime
from transfer_jax.training.recipe import SMALL_IMAGES, Recipe

CLASSES, ATTRIBUTES, FINE, RELATIONS, RETRIEVAL = GROUPS
POOLS = ("max1", "avg1", "max2", "avg2", "maxpyramid", "avgpyramid", "flat")


def get_config(preset: str = "demo") -> ConfigDict:
    """The config of a preset."""
    return pick(preset, demo, folder, photographs, imagenet)


def target(group: str, protocol: str = "single", *, dataset: dict, **more) -> ConfigDict:
    """A target of a user's own: the other fields of `Benchmark` keep their defaults."""
    return ConfigDict({"group": group, "protocol": protocol, "dataset": dataset, **more},
                      type_safe=False)  # fmt: skip


def base_config(dataset, network, recipe, reading: Reading) -> ConfigDict:
    """All fields of the study; no setting but the defaults and no target is asked for."""
    config = study_config("azizpour2014", dataset, network, recipe, Runtime())
    config.seeds = (0, 1, 2)  # of weights, order of images, budgets, the targets' images
    config.held_out = ()  # classes, or what lies above them, that the source does not learn
    config.fine_tune_recipe = {}  # what differs from the recipe
    config.targets = {}  # name -> fields of `data.benchmarks.Benchmark`
    # Source networks: updates after which training stops, multiples of width (none are tried where
    # network.widths gives layers their own), names of other networks, rates; man-made and natural
    # classes apart (data); numbers of classes with a budget.
    wanted = {"snapshots": (), "widths": (), "depths": (), "dropouts": (), "weight_decays": ()}
    wanted |= {"data": False, "budget": {"num_classes": (), "total_images": 0}}
    wanted |= {"fine_tuning": False, "long": False}
    config.sources = wanted
    # Readings: the default one, and what is tried beside it. Poolings are those of the layer
    # `pooled`; `whitened` is a number of principal components; `levels` are of patches, in
    # retrievals; `combined` is a grid; `others` are layers that are read of other networks.
    wanted = {"default": as_config(reading), "layers": (), "pooled": "conv5", "pools": ()}
    wanted |= {"dimensions": (), "whitened": 0, "scaling": False, "copies": (), "levels": ()}
    wanted |= {"combined": {"layers": (), "dimensions": ()}, "others": ()}
    config.readings = wanted
    return config


def demo() -> ConfigDict:
    """The embedded world, in minutes: ten targets in five groups, drawn anew for each of four
    seeds."""
    view = Augmentation(size=24, pad=2, mirror=True)
    data = DatasetSpec("world", image_size=24, train_per_class=100, val_per_class=40)
    network = network_config("deep8", width=0.5, input_size=24, dropout=0.0)
    recipe = replace(SMALL_IMAGES, solver="adamw", nesterov=False, weight_decay=0.02, init="he",
                     learning_rate=0.002, batch_size=32, steps=1000, eval_every=1000,
                     augmentation=view)  # fmt: skip
    config = base_config(data, network, recipe, Reading("fc6"))
    config.seeds = (0, 1, 2, 3)
    one_by_one = ("apple", "bee", "cactus", "zebra", "bed", "bus", "church", "mug")
    config.held_out = ("bird", "tool", *one_by_one)
    config.fine_tune_recipe = {"steps": 100, "eval_every": 100, "learning_rate": 0.001}
    wanted = {"snapshots": (0, 125, 250, 500), "widths": (0.25, 1.0), "depths": ("deep13",)}
    wanted |= {"data": True, "budget": {"num_classes": (12, 24), "total_images": 1200}}
    config.sources.update({**wanted, "fine_tuning": True, "long": True})
    convs = ("conv2_1", "conv3_1", "conv4_1", "conv4_2")
    wanted = {"layers": (*convs, "fc6", "fc7", "fc8"), "pooled": "conv4_2", "pools": POOLS}
    wanted |= {"dimensions": (4, 8, 16, 32, 64), "whitened": 32, "scaling": True}
    wanted |= {"copies": (1, 10), "levels": (1, 2), "others": ("conv4_2",)}
    wanted |= {"combined": {"layers": ("conv3_1", "conv4_2", "fc7"), "dimensions": (16, 64)}}
    config.readings.update(wanted)
    size = {"image_size": 24}
    few = {**size, "train_per_class": 20, "val_per_class": 80}
    world, objects = {"kind": "world", **few}, {"kind": "world_instances", **few}
    dressed = {"kind": "world_attributes", **size, "train_per_class": 10, "val_per_class": 20}
    pairs = {"kind": "world_relations", "name": "car,elephant,teapot", **size}
    pairs |= {"train_per_class": 40, "val_per_class": 100}
    again = {"kind": "world_retrieval", **size, "instances": 2, "val_per_class": 4}
    config.targets.update(
        {
            "other classes": target(CLASSES, dataset=world, classes=one_by_one),
            "other families": target(CLASSES, dataset=world, classes=("bird", "tool")),
            "colours": target(ATTRIBUTES, "multilabel", dataset=dressed, classes=("colour",)),
            "poses": target(ATTRIBUTES, "multilabel", dataset=dressed, classes=("pose",)),
            "butterflies": target(FINE, dataset={**objects, "name": "butterfly"}),
            "vases": target(FINE, dataset={**objects, "name": "vase"}),
            "left of": target(RELATIONS, dataset=pairs, classes=("left of",)),
            "in front of": target(RELATIONS, dataset=pairs, classes=("in front of",)),
            "another pose": target(RETRIEVAL, "retrieval", dataset={**again, "name": "pose"}),
            "another place": target(RETRIEVAL, "retrieval", dataset={**again, "name": "place"}),
        }
    )
    config.notes = (
        "Targets, layers and recipe were settled on after looking at two of the seeds.",
    )
    return config


def folder(path: str = "") -> ConfigDict:
    """The demo with one more target, photographs of the user's: which setting serves them, chosen
    on the embedded world's targets."""
    found, config = user_folder(path, 24), demo()
    few = {"train_per_class": min(20, found.train), "test_per_class": min(50, found.val)}
    files = {"kind": "folder", "path": path, "image_size": 24}
    config.targets.photographs = target(CLASSES, dataset=files, **few)
    config.notes = (
        f"Networks are trained on the embedded world; the photographs, {found.classes} classes of "
        "them, are one of the targets.",
    )
    return config


def photographs() -> ConfigDict:
    """200 ImageNet classes at 32x32 and targets in folders of data_dir; the order of distance is
    ours: objects, scenes, the same objects in four styles with textures between them. Its default
    networks are those of three seeds on all classes."""
    config, view = demo(), Augmentation(size=32, pad=2, mirror=True)
    config.dataset = in_data_dir("tiny_imagenet")
    config.network = network_config("alexnet_mini", dropout=0.0)
    recipe = replace(SMALL_IMAGES, eval_every=3000, augmentation=view)
    config.recipe, config.seeds, config.held_out = as_config(recipe), (0, 1, 2), ()
    config.fine_tune_recipe = {"steps": 800, "eval_every": 800, "learning_rate": 0.005}
    wanted = {"snapshots": (0, 3000), "widths": (0.5,), "depths": (), "data": False}
    wanted |= {"budget": {"num_classes": (100, 200), "total_images": 50_000}, "long": True}
    config.sources.update(wanted)
    layers = ("conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
    wanted = {"layers": layers, "pooled": "conv5", "others": ("conv5",), "whitened": 64}
    wanted |= {"dimensions": (8, 16, 32, 64, 128, 256)}
    wanted |= {"combined": {"layers": ("conv3", "conv5", "fc7"), "dimensions": (32, 128)}}
    config.readings.update(wanted)
    folders = {"caltech101": "caltech101/101_ObjectCategories", "scenes": "scene15/train"}
    folders |= {"photo": "pacs/photo", "art painting": "pacs/art_painting", "textures": "dtd10"}
    folders |= {"cartoon": "pacs/cartoon", "sketch": "pacs/sketch"}
    config.targets = {}
    for place, (name, path) in enumerate(folders.items(), 2):
        files = {"kind": "class_folder", "path": path, "image_size": 32}
        few = {"train_per_class": 10, "test_per_class": 20 if name == "caltech101" else 60}
        config.targets[name] = target(CLASSES, dataset=files, distance=float(place), **few)
    config.targets.caltech101.without = ("BACKGROUND_Google",)
    files = {"kind": "voc", "path": "voc2007_small/VOCdevkit/VOC2007", "image_size": 32}
    config.targets.voc2007 = target(
        CLASSES, "multilabel", dataset=files, distance=1.0, splits=("trainval", "test"),
        train_per_class=20, test_per_class=50,
    )  # fmt: skip
    config.notes = ("The order of distance is ours. VOC 2007 is its test images, divided anew.",)
    return config


def imagenet() -> ConfigDict:
    """The paper: ILSVRC2012 and 17 targets; those that data_dir lacks are left out, with a line."""
    network = network_config("caffenet", dropout=0.5)
    recipe = Recipe(best_evals=1)
    config = base_config(in_data_dir("ilsvrc2012"), network, recipe, Reading("fc6"))
    config.runtime.checkpoint_every = 5000
    tuning = {"steps": 20_000, "learning_rate": 0.001, "decay_every": 10_000, "eval_every": 5000}
    config.fine_tune_recipe = tuning
    wanted = {"snapshots": (0, 50_000, 100_000, 200_000), "widths": (0.5, 1.5), "data": True}
    wanted |= {"budget": {"num_classes": (500, 1000), "total_images": 500_000}}
    config.sources.update({**wanted, "fine_tuning": True, "long": True})
    wanted = {"layers": ("conv3", "conv4", "conv5", "fc6", "fc7", "fc8"), "pools": POOLS}
    wanted |= {"dimensions": (64, 128, 256, 512, 1024), "whitened": 512, "scaling": True}
    wanted |= {"copies": (1, 10), "levels": (1, 2, 3), "others": ("conv5", "fc7")}
    wanted |= {"combined": {"layers": ("conv5", "fc7"), "dimensions": (256, 1024)}}
    config.readings.update(wanted)
    for name, benchmark in BENCHMARKS.items():
        fields = {"dataset": {**benchmark.dataset, "image_size": 256}}
        config.targets[name] = as_config(replace(benchmark, **fields))
        del config.targets[name].name
    return config
