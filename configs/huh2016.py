"""Huh et al. 2016, "What makes ImageNet good for transfer learning?".

Presets, chosen by `--config=configs/huh2016.py:<preset>`:
  demo           the embedded world at 24x24, 12 of its 40 classes held out as targets: minutes
  tiny_imagenet  200 ImageNet classes at 32x32 from `--config.data_dir`; targets are 40 held-out
                 classes and the embedded world
  imagenet       the paper: AlexNet on ILSVRC2012; targets SUN397 and VOC 2012 actions
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
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.trainer import Runtime

SMALL_IMAGES = Recipe(
    batch_size=64,
    solver="adamw",
    learning_rate=0.002,
    schedule="cosine",
    warmup_fraction=0.1,
    weight_decay=0.02,
    bias_lr_multiplier=1.0,
    augmentation=Augmentation(size=32, pad=2, mirror=True),
    mean="channel",
    pixel_scale=1 / 60,
    best_evals=1,
)


def get_config(preset: str = "demo") -> ConfigDict:
    """The config of a preset.

    Raises:
      ValueError: for an unknown preset.
    """
    presets = {"demo": demo, "tiny_imagenet": tiny_imagenet, "imagenet": imagenet}
    if preset not in presets:
        raise ValueError(f"preset {preset!r} is unknown; expected one of {sorted(presets)}")
    return presets[preset]()


def target(dataset: DatasetSpec, **settings) -> ConfigDict:
    """The fields of a target.

    classes: 'held_out', the classes of the pretraining dataset that pretraining never sees;
    'held_out_natural', the natural ones among them; or 'all' of `dataset`. train_per_class images
    of each class are trained on and at most test_per_class tested, drawn anew for each seed;
    train_per_class=0 takes the dataset's own training and validation images. questions: those whose
    networks are tried on it, () for all.
    """
    fields = {
        "dataset": as_config(dataset),
        "classes": "all",
        "train_per_class": 20,
        "test_per_class": 50,
        "questions": (),
    }
    return ConfigDict({**fields, **settings}, type_safe=False)


def base_config(
    dataset: DatasetSpec, network: ConfigDict, recipe: Recipe, runtime: Runtime
) -> ConfigDict:
    """All fields of the study; no condition and no target is asked for."""
    return ConfigDict(
        {
            "study": "huh2016",
            "seed": 0,
            **common_fields(runtime),
            # Repetitions: initial weights, order of images, and draw of the targets' images.
            "seeds": (0, 1, 2),
            "dataset": as_config(dataset),
            # `child,parent` for datasets whose classes are neither wnids nor come with a hierarchy.
            "hierarchy_csv": "",
            # `wnid,superclass` for the same, to tell natural from man-made.
            "superclass_csv": "",
            # Classes that are kept from pretraining, to be targets.
            "held_out": 0,
            "network": network,
            # A file of weights of such a network, see `settings.imported_config`.
            "imported": imported_config(),
            "recipe": as_config(recipe),
            # What differs when a network is fine-tuned on, or trained from scratch on, a target.
            "fine_tune_recipe": {},
            "targets": {},
            "experiments": {
                # Names in `targets`.
                "targets": (),
                "images_per_class": (),
                # Numbers of classes to merge to, or ('all',) levels of the hierarchy.
                "classes": {"bottom_up": (), "top_down": ()},
                "budget": {"num_classes": (), "total_images": 0},
                "overlap": False,
                # Which halves are pretrained on alone: of a random division of the classes, and of
                # one that shares as few ancestors as can be.
                "halves": (),
                "unrelated": False,
                # Nearest neighbours over the fine classes, and siblings among them.
                "neighbours": True,
                # Linear SVMs on frozen features, beside fine-tuning.
                "frozen_features": True,
                "scratch": True,
            },
        },
        type_safe=False,
    )


def demo() -> ConfigDict:
    """Every question on the embedded world, three seeds each."""
    widths = dict(conv1=16, conv2=32, conv3=48, conv4=48, conv5=32, fc6=128, fc7=128)
    recipe = dataclasses.replace(
        SMALL_IMAGES,
        steps=600,
        learning_rate=0.003,
        eval_every=600,
        augmentation=Augmentation(size=24, pad=0, mirror=True),
    )
    config = base_config(
        DatasetSpec("world", image_size=24, val_per_class=300),
        network_config(
            "alexnet_mini", widths=widths, input_size=24, dropout=0.0, init="he_quiet_conv1"
        ),
        recipe,
        Runtime(checkpoint_every=600, log_every=100),
    )
    config.held_out = 12
    config.fine_tune_recipe = {"steps": 100, "eval_every": 100}
    config.targets.held_out = target(
        DatasetSpec("world"), classes="held_out", train_per_class=10, test_per_class=280
    )
    config.targets.natural = target(
        DatasetSpec("world"),
        classes="held_out_natural",
        train_per_class=10,
        test_per_class=280,
        questions=("unrelated",),
    )
    config.experiments = {
        **config.experiments.to_dict(),
        "targets": ("held_out", "natural"),
        "images_per_class": (60, 250),
        "classes": {"bottom_up": ("all",), "top_down": ()},
        "budget": {"num_classes": (7, 28), "total_images": 3500},
        "overlap": True,
        "halves": ("A",),
        "unrelated": True,
    }
    return config


def tiny_imagenet() -> ConfigDict:
    """Photographs; the label sets of the paper for their classes."""
    config = base_config(
        DatasetSpec("tiny_imagenet", path="."),
        network_config("alexnet_mini", dropout=0.2, init="he_quiet_conv1"),
        dataclasses.replace(SMALL_IMAGES, steps=12_000, eval_every=2000),
        Runtime(checkpoint_every=1000),
    )
    config.dataset.path = ""
    config.held_out = 40
    config.fine_tune_recipe = {"steps": 800, "eval_every": 800, "learning_rate": 0.0005}
    config.targets.held_out = target(
        DatasetSpec("world"), classes="held_out", train_per_class=20, test_per_class=30
    )
    config.targets.natural = target(
        DatasetSpec("world"),
        classes="held_out_natural",
        train_per_class=20,
        test_per_class=30,
        questions=("unrelated",),
    )
    config.targets.world = target(DatasetSpec("world"), train_per_class=20, test_per_class=50)
    config.experiments = {
        **config.experiments.to_dict(),
        "targets": ("held_out", "natural", "world"),
        "images_per_class": (50, 125, 250),
        "classes": {"bottom_up": ("all",), "top_down": ("all",)},
        "budget": {"num_classes": (40, 80, 160), "total_images": 20_000},
        "overlap": True,
        "halves": ("A", "B"),
        "unrelated": True,
    }
    return config


def imagenet() -> ConfigDict:
    """The paper's own conditions and recipes (sections 3 to 6), from ILSVRC2012 in data_dir, with
    SUN397 and VOCdevkit beside it."""
    config = base_config(
        DatasetSpec("ilsvrc2012", path=".", image_size=256),
        network_config("caffenet"),
        Recipe(best_evals=1),
        Runtime(checkpoint_every=5000),
    )
    config.dataset.path = ""
    config.fine_tune_recipe = {
        "steps": 50_000,
        "learning_rate": 0.001,
        "decay_every": 20_000,
        "eval_every": 5000,
    }
    sun397 = DatasetSpec("sun397", path="SUN397", image_size=256)
    actions = DatasetSpec("voc_actions", path="VOCdevkit/VOC2012", image_size=256, margin=0.1)
    config.targets.sun397 = target(sun397, train_per_class=0)
    config.targets.voc_actions = target(actions, train_per_class=0)
    config.experiments = {
        **config.experiments.to_dict(),
        "targets": ("sun397", "voc_actions"),
        "images_per_class": (50, 125, 250, 500, 1000),
        "classes": {"bottom_up": (918, 753, 486, 79, 9), "top_down": (127, 10, 2)},
        "budget": {"num_classes": (250, 500, 1000), "total_images": 125_000},
        "halves": ("A", "B"),
        "unrelated": True,
    }
    return config
