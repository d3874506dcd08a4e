"""Oquab et al. 2014, "Learning and Transferring Mid-Level Image Representations using CNNs".

`--config=configs/oquab2014.py:PRESET`, a function below; folder=PATH hands over the path. With
`--config.imported.path=FILE --config.pretraining.ways='()'` a file of weights is the base.
"""

from dataclasses import replace

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
from transfer_jax.training.loop import Runtime
from transfer_jax.training.recipe import SMALL_IMAGES, Recipe

SCALES = (1.0, 1.3, 1.6, 2.0, 2.4, 2.8, 3.2, 3.6, 4.0)
LIKE = (  # classes of ILSVRC2012, all of them in Tiny ImageNet, that are like those of VOC
    "n02058221 n02002724 n02056570 n01855672 n03662601 n03447447 n02823428 n03983396 n04146614 "
    "n04487081 n02814533 n04285008 n02123045 n02123394 n04099969 n02403003 n02410509 n03201208 "
    "n03179701 n02085620 n02099601 n02415577 n02917067 n03393912 n03444034 n03085013"
)


def get_config(preset: str = "demo") -> ConfigDict:
    """The config of a preset."""
    return pick(preset, demo, folder, photographs, voc2007, voc2012, voc2012_actions)


def base_config(dataset, network, recipe, target: DatasetSpec) -> ConfigDict:
    """All fields of the study; `target` is what networks are adapted to."""
    config = study_config("oquab2014", dataset, network, recipe, Runtime())
    config.seeds = (0, 1, 2)  # of weights, order, pretraining classes, windows
    # classes: names, () for all; never pretrained on. learn, test: splits. folds: parts of the test
    # images; each seed takes one, so with as many as seeds none are shared.
    fields = {"classes": (), "learn": "trainval", "test": "test", "folds": 1}
    config.target = {"dataset": as_config(target), **fields}
    # ways: some of 'all', 'random', 'near', 'long'. count: classes of 'random' and of 'near'. Near
    # ones share an ancestor at `depth` with the targets, or with those named in `like`, by the
    # dataset's hierarchy or a table of `child,parent`; random ones fill up.
    config.pretraining = {"ways": ("all",), "count": 0, "like": (), "depth": 0, "hierarchy_csv": ""}
    # Windows to learn from: see data.windows.Grid and patch_task.
    config.windows = {"scales": SCALES, "overlap": 0.65, "per_class": 5000, "background": 0.1}
    config.pyramid = {"scales": SCALES, "stride": 1}  # to be tested on: see readout.windows
    config.adaptation_width = 2048
    # What differs from the base's recipe, on a frozen base and where all layers learn.
    config.adapt_recipe, config.train_recipe = {"frozen_once": True}, {}
    fields = {"layers": ("fc6", "fc7", "fc8"), "adaptation_layers": (1, 2, 3)}
    fields |= {"images_per_class": (), "fine_tuned": True}
    config.experiments = fields
    config.maps = 8  # pictures a row
    return config


def demo() -> ConfigDict:
    """The embedded world, in minutes. Scenes of one to three objects, ten classes of which are told
    apart, two of each of five families; pretraining sees pictures of the other thirty, ten of them
    of these families."""
    widths = dict(conv1=16, conv2=32, conv3=48, conv4=48, conv5=32, fc6=128, fc7=128)
    view = Augmentation(size=24, pad=0, mirror=True)
    data = DatasetSpec("world", image_size=24, train_per_class=200, val_per_class=25)
    scenes = DatasetSpec("world_scenes", image_size=64, train_per_class=60, val_per_class=50)
    network = network_config("alexnet_mini", widths=widths, input_size=24, dropout=0.0)
    recipe = replace(SMALL_IMAGES, solver="adamw", nesterov=False, weight_decay=0.02, steps=600)
    recipe = replace(recipe, learning_rate=0.003, eval_every=600, augmentation=view)
    config = base_config(data, network, recipe, scenes)
    config.seeds = (0, 1, 2, 3, 4)
    names = "zebra giraffe duck owl apple banana car tractor mug teapot"
    splits = {"learn": "train", "test": "val", "folds": 5}
    config.target.update({"classes": tuple(names.split()), **splits})
    config.pretraining.update({"ways": ("all", "random", "near", "long"), "count": 10, "depth": 2})
    config.windows.per_class, config.pyramid.scales = 300, (1.0, 1.6, 2.4)
    config.adaptation_width = 128
    config.adapt_recipe.update({"steps": 300, "eval_every": 300, "learning_rate": 0.002})
    config.train_recipe.update({"steps": 300, "eval_every": 300, "learning_rate": 0.002})
    config.experiments.images_per_class = (5, 20)
    return config


def folder(path: str = "") -> ConfigDict:
    """What the embedded world teaches, adapted to photographs of the user's, one class each: the
    object is the whole image, and maps cannot be judged."""
    found, config = user_folder(path, 64), demo()
    config.target.dataset, config.target.classes = as_config(found.dataset), ()
    config.pretraining.ways = ("all", "random", "long")
    amounts = tuple(n for n in (5, 20) if n < found.train)
    config.experiments.images_per_class = amounts
    # No batch is larger than the smallest task.
    batch = {"batch_size": min(64, found.classes * min(amounts, default=found.train))}
    config.adapt_recipe.update(batch)
    config.train_recipe.update(batch)
    config.notes = (
        "Networks are pretrained on the embedded world and adapted to the photographs. These have "
        "no boxes: each shows one class, all of it.",
    )
    return config


def photographs() -> ConfigDict:
    """4,952 photographs of VOC 2007 of 144 pixels, in the devkit's layout, and Tiny ImageNet from
    data_dir; each seed is tested on a third of the test images."""
    network = network_config("alexnet_mini", dropout=0.0)
    recipe = replace(SMALL_IMAGES, eval_every=3000)
    voc = DatasetSpec("voc", path="voc2007_small/VOCdevkit", image_size=None)
    config = base_config(in_data_dir("tiny_imagenet"), network, recipe, voc)
    config.target.folds = 3
    ways = {"ways": ("all", "random", "near", "long"), "count": 100, "like": tuple(LIKE.split())}
    config.pretraining.update({**ways, "depth": 7})
    config.windows.per_class = 1500
    config.adaptation_width = 512
    config.adapt_recipe.update({"steps": 2000, "eval_every": 1000, "learning_rate": 0.01})
    config.train_recipe.update({"steps": 2000, "eval_every": 2000, "learning_rate": 0.02})
    config.experiments.images_per_class = (30,)
    config.notes = (
        "The photographs are VOC 2007's test images, divided anew: 2,952 to learn from, 2,000 to "
        "be tested on, a third of these a seed. Published figures are of another task.",
    )
    return config


def voc2007() -> ConfigDict:
    """The paper on VOC 2007, trainval and test: ILSVRC2012 from data_dir, `VOCdevkit` beside it."""
    return _voc(DatasetSpec("voc", path="VOCdevkit/VOC2007", image_size=None))


def voc2012() -> ConfigDict:
    """VOC 2012; the objects of its test images are secret, so val is tested on."""
    config = _voc(DatasetSpec("voc", path="VOCdevkit/VOC2012", image_size=None))
    config.target.update({"learn": "train", "test": "val"})
    return config


def voc2012_actions() -> ConfigDict:
    """What people do; a person's score is that of the windows that overlap their box."""
    config = _voc(DatasetSpec("voc_actions", path="VOCdevkit/VOC2012", image_size=None))
    config.target.update({"learn": "train", "test": "val"})
    return config


def _voc(target: DatasetSpec) -> ConfigDict:
    # One mean colour: a mean image would not fit windows.
    recipe = Recipe(best_evals=1, mean="channel", eval_every=5000)
    config = base_config(in_data_dir("ilsvrc2012"), network_config("caffenet"), recipe, target)
    config.runtime.checkpoint_every = 5000
    ways = {"ways": ("all", "random", "near"), "count": 500, "like": tuple(LIKE.split())}
    config.pretraining.update({**ways, "depth": 7})
    tuning = {"steps": 20_000, "learning_rate": 0.001, "decay_every": 8000}
    config.adapt_recipe.update(tuning)
    config.train_recipe.update({**tuning, "steps": 50_000, "decay_every": 20_000})
    config.experiments.images_per_class = (20, 100, 300)
    return config
