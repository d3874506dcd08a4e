"""A task small enough that its steps compile in a second, and networks to match."""

import dataclasses

import jax
import numpy as np

from transfer_jax.data.augment import Augmentation
from transfer_jax.data.tasks import Task
from transfer_jax.networks import alexnet_mini
from transfer_jax.training import devices
from transfer_jax.training.feed import TaskData
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.step import Program, Source, initial_state
from transfer_jax.transfer import lower_layers, splice

WIDTHS = {"conv1": 4, "conv2": 4, "conv3": 4, "conv4": 4, "conv5": 4, "fc6": 16, "fc7": 16}
NET = alexnet_mini(4, widths=WIDTHS, dropout=0.3)
RECIPE = Recipe(
    batch_size=16,
    steps=12,
    solver="sgd",
    learning_rate=0.02,
    schedule="cosine",
    augmentation=Augmentation(size=32, pad=2, mirror=True),
    mean="channel",
    pixel_scale=1 / 60,
    eval_every=6,
    best_evals=1,
)
MEAN = np.array([120.0, 125.0, 130.0], np.float32)


@dataclasses.dataclass(frozen=True)
class Pictures:
    """A dataset in memory with the face of `transfer_jax.data.datasets.Dataset`."""

    name: str = "pictures"
    class_names: tuple = ("a", "b", "c", "d")
    class_paths: None = None
    image_shape: tuple = (32, 32, 3)

    def labels(self, split):
        return np.arange({"train": 64, "val": 40}[split], dtype=np.int32) % 4

    def images(self, split, indices):
        labels = self.labels(split)
        rng = np.random.default_rng(len(labels))
        patterns = np.random.default_rng(0).integers(0, 255, (4, 4, 4, 3))
        images = np.kron(patterns[labels], np.ones((1, 8, 8, 1)))
        images = images + rng.normal(size=images.shape) * 40
        return np.clip(images, 0, 255).astype(np.uint8)[indices]

    def record_source(self, split):
        images, labels = self.images(split, slice(None)), self.labels(split)
        return [{"image": i, "label": int(k)} for i, k in zip(images, labels, strict=True)]


DATA = TaskData(Pictures(), Task("B", "pictures", (0, 1, 2, 3)), MEAN, resident=True)


def cell_params(frozen, network=NET):
    """Initial params of cells that share a base's lower layers."""
    base = network.init(jax.random.key(99))
    return tuple(
        splice(base, network.init(jax.random.key(n)), lower_layers(network, n)) for n in frozen
    )


def start(frozen, recipe=RECIPE, network=NET):
    """(program, replicated state, replicated shared layers) of a group before its first step."""
    program = Program(network, recipe, frozen)
    state, shared = initial_state(program, cell_params(frozen, network))
    return program, devices.replicate(state), devices.replicate(shared)


def source(split="train"):
    """All images of a split on the devices."""
    images, labels = DATA.dataset.images(split, slice(None)), DATA.dataset.labels(split)
    return devices.replicate(Source(images, labels, MEAN))


def key_data(seed=5):
    """The stream key as the compiled step takes it."""
    return jax.random.key_data(jax.random.key(seed))
