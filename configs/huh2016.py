"""Huh et al. 2016, "What makes ImageNet good for transfer learning?".

`--config=configs/huh2016.py:PRESET`, a function below; folder=PATH hands over the path.
"""

from dataclasses import replace

from ml_collections import ConfigDict

from transfer_jax.data.sources import DatasetSpec
from transfer_jax.data.views import Augmentation
from transfer_jax.detection.proposals import SelectiveSearch
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


def get_config(preset: str = "demo") -> ConfigDict:
    """The config of a preset."""
    return pick(preset, demo, folder, tiny_imagenet, voc2007, imagenet)


def target(dataset: DatasetSpec | None = None, **settings) -> ConfigDict:
    """The fields of a target. kind: 'classification', 'actions' or 'detection'. classes:
    'held_out' from pretraining, 'held_out_natural' ones, or 'all' of `dataset`. train_per_class and
    at most test_per_class images of each are drawn anew for each seed; train_per_class=0 takes the
    dataset's own splits. questions: those whose networks are tried on it, () for all. recipe: what
    it changes of the fine-tuning's. 'detection' has the dataset's own splits, trainval and test
    where it has them, images squared to its image_size, and regions from `proposals`, a CSV file of
    boxes, or, where that is '', from the selective search of `search`."""
    fields = {"kind": "classification", "dataset": as_config(dataset or DatasetSpec("world"))}
    fields |= {"classes": "all", "train_per_class": 20, "test_per_class": 50, "questions": ()}
    fields |= {"recipe": {}, "proposals": "", "search": as_config(SelectiveSearch())}
    return ConfigDict({**fields, **settings}, type_safe=False)


def base_config(dataset, network, recipe) -> ConfigDict:
    """All fields of the study; no way to pretrain and no target is asked for."""
    config = study_config("huh2016", dataset, network, recipe, Runtime())
    config.seeds = (0, 1, 2)  # of weights, order of images, halves, budgets, the targets' images
    # Tables of `child,parent` and `wnid,superclass`, where class names and hierarchy do not tell.
    config.hierarchy_csv = config.superclass_csv = ""
    config.held_out = 0  # classes that are kept from pretraining, to be targets
    config.fine_tune_recipe, config.targets = {}, {}  # the recipe is also that from scratch
    wanted = {"images_per_class": (), "overlap": False, "unrelated": (), "long": False}
    wanted |= {"classes": {"bottom_up": (), "top_down": ()}, "halves": {"random": (), "apart": ()}}
    wanted |= {"budget": {"num_classes": (), "total_images": 0}}
    config.experiments = wanted
    return config


def demo() -> ConfigDict:
    """The embedded world, in minutes. Few networks of five seeds: the budget's are the random half
    and those of fewer images."""
    widths = dict(conv1=16, conv2=32, conv3=48, conv4=48, conv5=32, fc6=128, fc7=128)
    view = Augmentation(size=24, pad=0, mirror=True)
    data = DatasetSpec("world", image_size=24, train_per_class=60, val_per_class=250)
    network = network_config("alexnet_mini", widths=widths, input_size=24, dropout=0.0)
    recipe = replace(
        SMALL_IMAGES, solver="adamw", nesterov=False, steps=600, eval_every=600,
        learning_rate=0.003, weight_decay=0.02, augmentation=view,
    )  # fmt: skip
    config = base_config(data, network, recipe)
    config.seeds, config.held_out = (0, 1, 2, 3, 4), 12
    config.fine_tune_recipe = {"steps": 100, "batch_size": 32, "learning_rate": 0.002}
    few = {"train_per_class": 10, "test_per_class": 240}
    config.targets.held_out = target(classes="held_out", **few)
    config.targets.natural = target(classes="held_out_natural", questions=("unrelated",), **few)
    scenes = DatasetSpec("world_scenes", image_size=48, train_per_class=15, val_per_class=8)
    config.targets.scenes = target(scenes, questions=("images", "classes"), kind="detection")
    steps = {"steps": 1500, "eval_every": 1500, "batch_size": 2, "learning_rate": 0.003}
    config.targets.scenes.update({"recipe": steps, "search": {"side": 96}})
    wanted = {"images_per_class": (30,), "unrelated": ("natural",), "overlap": True, "long": True}
    wanted |= {"classes": {"bottom_up": (10,)}, "halves": {"random": "A"}}
    wanted |= {"budget": {"num_classes": (14, 28), "total_images": 840}}
    config.experiments.update(wanted)
    return config


def folder(path: str = "") -> ConfigDict:
    """The demo on photographs of the user's: a third of their classes is the target of what the
    others teach; less than six classes are the target of what the embedded world teaches."""
    found, config = user_folder(path, 24), demo()
    wanted, few = config.experiments, {"train_per_class": 10, "test_per_class": 240}
    if found.classes < 6:
        config.targets = {"photographs": target(found.dataset, **few)}
        config.fine_tune_recipe.batch_size = min(32, 10 * found.classes)
        wanted.unrelated, wanted.overlap, config.held_out = (), False, 0
        config.notes = (
            f"{found.classes} classes are too few to pretrain on some and transfer to others: "
            "networks are pretrained on the embedded world and fine-tuned on the photographs.",
        )
        return config
    config.dataset, config.held_out = as_config(found.dataset), found.classes // 3
    rest = found.classes - config.held_out
    few = {"train_per_class": max(1, min(10, found.val // 2)), "test_per_class": found.val}
    config.targets = {"held_out": target(classes="held_out", **few)}
    config.fine_tune_recipe.batch_size = min(32, few["train_per_class"] * config.held_out)
    wanted.update({"images_per_class": (found.train // 2,), "unrelated": ()})
    # What has no hierarchy has no coarser labels.
    wanted.update({"classes": {"bottom_up": (), "top_down": ()}})
    wanted.overlap = rest > config.held_out
    budget = {"num_classes": (rest // 2, rest), "total_images": rest // 2 * found.train}
    wanted.update({"budget": budget, "halves": {"random": "A"}})
    # No batch is larger than the smallest task.
    config.recipe.batch_size = min(64, rest // 2 * found.train, rest * (found.train // 2))
    return config


def tiny_imagenet() -> ConfigDict:
    """The paper's main questions, one network each, in three seeds. 50 of 200 ImageNet classes
    teach, so that 6,000 steps see their images 15 times; all others are the target."""
    config = demo()
    config.dataset = in_data_dir("tiny_imagenet")
    config.network = network_config("alexnet_mini", dropout=0.0)
    config.recipe = as_config(replace(SMALL_IMAGES, eval_every=2000))
    config.seeds, config.held_out = (0, 1, 2), 150
    config.fine_tune_recipe = {"steps": 800, "eval_every": 800, "learning_rate": 0.005}
    few = {"train_per_class": 20, "test_per_class": 30}
    config.targets = {"held_out": target(classes="held_out", **few)}
    wanted = {"images_per_class": (250,), "classes": {"bottom_up": (10,)}}
    wanted |= {"budget": {"num_classes": (12, 50), "total_images": 6000}}
    wanted |= {"unrelated": (), "overlap": False}
    config.experiments.update(wanted)
    config.notes = (
        "One division into 50 and 150 classes: seeds tell how trainings differ. It was chosen "
        "after 160 classes, whose transfer twice the steps improved by 3.8 points.",
    )
    return config


def voc2007() -> ConfigDict:
    """Detection of VOC 2007's objects on networks that learned 200 ImageNet classes at 32x32, and
    from scratch."""
    network = network_config("alexnet_mini", dropout=0.0)
    recipe = replace(SMALL_IMAGES, eval_every=3000)
    config = base_config(in_data_dir("tiny_imagenet"), network, recipe)
    voc = DatasetSpec("voc", path="VOCdevkit/VOC2007", image_size=144)
    config.targets.voc2007 = target(voc, kind="detection")
    steps = {"steps": 4000, "eval_every": 4000, "batch_size": 2, "learning_rate": 0.002}
    config.targets.voc2007.update({"recipe": steps, "search": {"side": 144, "k": 50}})
    return config


def imagenet() -> ConfigDict:
    """The paper's own ways to pretrain and recipes (sections 3 to 6): ILSVRC2012 from data_dir, VOC
    2007 detection, VOC 2012 actions and SUN397 beside it."""
    recipe = Recipe(best_evals=1)
    config = base_config(in_data_dir("ilsvrc2012"), network_config("caffenet"), recipe)
    tuning = {"steps": 50_000, "learning_rate": 0.001, "decay_every": 20_000, "eval_every": 5000}
    config.fine_tune_recipe, config.runtime.checkpoint_every = tuning, 5000
    actions = DatasetSpec("voc_actions", path="VOCdevkit/VOC2012", margin=0.1)
    config.targets.sun397 = target(DatasetSpec("sun397", path="SUN397"), train_per_class=0)
    config.targets.voc_actions = target(actions, kind="actions", train_per_class=0)
    voc = DatasetSpec("voc", path="VOCdevkit/VOC2007", image_size=600)
    config.targets.voc2007 = target(voc, kind="detection")
    # Girshick's 40,000 minibatches of two images, a tenth of the rate for the last quarter.
    steps = {"steps": 40_000, "decay_every": 30_000, "batch_size": 2, "mean": "channel"}
    config.targets.voc2007.update({"recipe": steps, "search": {"side": 400}})
    wanted = {"images_per_class": (50, 125, 250, 500, 1000)}
    wanted |= {"halves": {"random": "AB", "apart": "AB"}}
    wanted |= {"classes": {"bottom_up": (918, 753, 486, 79, 9), "top_down": (127, 10, 2)}}
    wanted |= {"budget": {"num_classes": (250, 500, 1000), "total_images": 125_000}}
    wanted |= {"unrelated": ("natural", "man-made")}
    config.experiments.update(wanted)
    return config
