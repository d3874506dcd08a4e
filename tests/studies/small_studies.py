"""The studies' configs, made minuscule."""

from __future__ import annotations

import csv
import dataclasses
import runpy
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from transfer_jax import main
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.grid.store import Store
from transfer_jax.studies import STUDIES
from transfer_jax.studies.analysis import trained
from transfer_jax.studies.settings import Opener, Work, as_config, dataset_opener

CONFIGS = Path(__file__).parents[2] / "configs"


def get_config(study: str, preset: str = "demo", **changes) -> ConfigDict:
    """A preset of a study's config, with some fields changed: `**{'recipe.steps': 3}`."""
    config = runpy.run_path(str(CONFIGS / f"{study}.py"))["get_config"](preset)
    config.update_from_flattened_dict(changes)
    return config


def small_zeiler2013(data_dir: Path) -> ConfigDict:
    """Every part of the study on 32x32 pictures of the embedded world: 20 classes are the source,
    20 the target. The networks keep two convolutions and one hidden dense layer."""
    config = get_config("zeiler2013", data_dir=str(data_dir))
    config.dataset = as_config(
        DatasetSpec("world", image_size=32, train_per_class=8, val_per_class=6)
    )
    for name in ("zfnet", "alexnet"):
        config[name].widths = {"conv1": 4, "conv2": 8, "fc7": 16}
        config[name].remove = ("conv3", "conv4", "conv5", "fc6")
        config[name].input_size = 32
    config.recipe.augmentation.size = 32
    config.recipe.augmentation.pad = 2
    config.recipe.batch_size, config.recipe.steps, config.recipe.eval_every = 16, 20, 10
    config.runtime.checkpoint_every = 20
    # The scratch network is then the source's own program.
    config.scratch_recipe = {}
    wanted = config.experiments
    wanted.alexnet = False
    wanted.ablations = {"alexnet": (), "zfnet": ()}
    wanted.ensemble_seeds = (0, 1)
    wanted.evolution_epochs = (0.5, 1, 100)
    wanted.projections = {"maps": 2, "evolution_maps": 2, "second_layer": 3, "images": 60}
    wanted.occlusion = {"square": 12, "stride": 10, "tested": 4, "shown": 2}
    config.targets.others.update(
        {"train_per_class": (4,), "curve": (1, 2), "scratch": (2,), "test_per_class": 5, "folds": 2}
    )
    scenes = DatasetSpec("world_scenes", image_size=32, train_per_class=6, val_per_class=6,
                         max_objects=2)  # fmt: skip
    wanted.multilabel.dataset = as_config(scenes)
    return config


def small_huh2016(data_dir: Path) -> ConfigDict:
    """Two questions on 16x16 pictures of the embedded world, half of whose classes are held out."""
    config = get_config("huh2016", data_dir=str(data_dir))
    config.dataset = as_config(
        DatasetSpec("world", image_size=16, train_per_class=8, val_per_class=8)
    )
    config.network.widths = {"conv1": 4, "conv2": 8, "fc7": 16}
    config.network.remove = ("conv3", "conv4", "conv5", "fc6")
    config.network.input_size = 16
    config.recipe.augmentation.size = 16
    config.recipe.batch_size, config.recipe.steps, config.recipe.eval_every = 16, 12, 12
    config.runtime.checkpoint_every = 12
    config.seeds = (0,)
    config.held_out = 20
    # Targets of as many classes then share the programs of pretraining.
    config.fine_tune_recipe = {}
    config.targets.held_out.update({"train_per_class": 3, "test_per_class": 5})
    scenes = DatasetSpec("world_scenes", image_size=16, train_per_class=6, val_per_class=6,
                         max_objects=2)  # fmt: skip
    config.targets.scenes = {**config.targets.held_out.to_dict(), "dataset": as_config(scenes),
                             "classes": "all", "train_per_class": 0}  # fmt: skip
    config.experiments = {
        **config.experiments.to_dict(),
        "targets": ("held_out", "scenes"),
        "images_per_class": (),
        # The same task by two names.
        "classes": {"bottom_up": (2,), "top_down": (2,)},
        "budget": {"num_classes": (), "total_images": 0},
        "overlap": True,
        "halves": (),
        "unrelated": False,
    }
    return config


@dataclasses.dataclass(frozen=True, eq=False)
class Finished:
    """A run that is done, and what its program had in hand."""

    config: ConfigDict
    workdir: Path
    page: Path
    open_dataset: Opener
    work: Work

    @classmethod
    def of(cls, config: ConfigDict, workdir: Path) -> Finished:
        """Runs a config, and plans it once more."""
        page = main.run(config, workdir, "the command")
        open_dataset = dataset_opener(config.data_dir, workdir)
        work = STUDIES[config.study].plan(config, open_dataset)
        return cls(config, workdir, page, open_dataset, work)

    @property
    def store(self) -> Store:
        """Where its networks are."""
        return Store(self.workdir)

    @property
    def source(self):
        """The dataset of the source networks."""
        return self.open_dataset(self.config.dataset)

    def rows(self, name: str) -> list[dict[str, str]]:
        """The lines of a table of the analysis."""
        with open(self.workdir / "analysis" / name, newline="") as file:
            return list(csv.DictReader(file))

    def arrays(self, name: str) -> dict[str, np.ndarray]:
        """The arrays of a file of the analysis."""
        with np.load(self.workdir / "analysis" / name) as kept:
            return dict(kept)

    def trained(self, split: str, step: int | None = None):
        """The network of the entry that is called this."""
        (cell,) = (cell for _, name, cell in self.work.entries if name == split)
        return trained(self.store, cell, step)
