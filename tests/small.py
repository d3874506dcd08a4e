"""A network, a recipe and a dataset that train in a moment, shared by the tests of several parts.

Programs are compiled once for each (network, recipe, frozen layers), so tests should use these very
ones and change what does not enter a compilation.
"""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from tests.data.image_trees import image_folder
from transfer_jax.data.augment import Augmentation
from transfer_jax.data.datasets import Dataset
from transfer_jax.data.sources import DatasetSpec, open_dataset
from transfer_jax.networks import (
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Network,
    Relu,
)
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.step import Source

IMAGE_SIZE = 8
WIDTHS = {name: 4 for name in ("conv1", "conv2", "conv3", "conv4", "conv5")} | {
    "fc6": 16,
    "fc7": 16,
}
"""Of a very narrow `alexnet_mini`."""

RECIPE = Recipe(
    batch_size=8,
    steps=10,
    solver="caffe",
    learning_rate=0.02,
    schedule="step",
    decay_every=6,
    weight_decay=0.01,
    augmentation=Augmentation(size=IMAGE_SIZE, pad=2, mirror=True),
    mean="channel",
    pixel_scale=1 / 60,
    eval_every=4,
    best_evals=2,
)


def network(num_classes: int = 2, dropout: float = 0.5) -> Network:
    """Four layers with everything that a layer can have: groups, pooling, LRN, dropout."""
    layers = (
        Conv("conv1", 4, 3, padding=1, then=(Relu(), MaxPool(3, 2), LocalResponseNorm())),
        Conv("conv2", 4, 3, padding=1, groups=2, then=(Relu(), MaxPool(3, 2))),
        Dense("fc3", 16, then=(Relu(), Dropout(dropout))),
        Dense("fc4", num_classes),
    )
    he = tuple(dataclasses.replace(layer, weight_std=None) for layer in layers)
    return Network("small", IMAGE_SIZE, he)


def dataset(folder: Path, classes=("ant", "bee", "cat", "dog"), seed: int = 0) -> Dataset:
    """Four classes of twelve training and five validation images, on disk."""
    images = image_folder(folder / "images", classes=classes, train=12, val=5, size=12, seed=seed)
    spec = DatasetSpec("folder", path=str(images), image_size=IMAGE_SIZE)
    return open_dataset(spec, folder / "prepared", progress=False)


def source(count: int, num_classes: int, size: int = IMAGE_SIZE) -> Source:
    """Random images and labels."""
    rng = np.random.default_rng(0)
    return Source(
        rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8),
        rng.integers(0, num_classes, count).astype(np.int32),
        np.array([120.0, 110.0, 100.0], np.float32),
    )


def same_bits(one, other) -> bool:
    """Whether two trees of float32 arrays hold the same bits, -0.0 and NaN told apart."""
    bits = [
        [(leaf.shape, np.asarray(leaf, np.float32).tobytes()) for leaf in jax.tree.leaves(tree)]
        for tree in (one, other)
    ]
    return bits[0] == bits[1]
