"""A network, a recipe and data that train in a moment, shared by the tests of several rooms.

Programs are compiled once for each (network, recipe, frozen layers) in a process, so tests should
use these very ones and change what does not enter a compilation.
"""

from __future__ import annotations

import jax
import numpy as np

from transfer_jax.data.dataset import Dataset
from transfer_jax.data.tasks import Task, subset_task
from transfer_jax.data.views import Augmentation
from transfer_jax.grid.cell import Cell
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
from transfer_jax.transfer import Treatment

SIZE = 8
RECIPE = Recipe(
    batch_size=8,
    steps=10,
    learning_rate=0.02,
    decay_every=6,
    weight_decay=0.01,
    augmentation=Augmentation(size=SIZE, pad=2, mirror=True),
    mean="channel",
    pixel_scale=1 / 60,
    eval_every=4,
    best_evals=2,
)


def network(num_classes: int = 2) -> Network:
    """Four layers with everything that a layer can have: groups, pooling, LRN, dropout."""
    layers = (
        Conv("conv1", 4, 3, padding=1, then=(Relu(), MaxPool(3, 2), LocalResponseNorm())),
        Conv("conv2", 4, 3, padding=1, groups=2, then=(Relu(), MaxPool(3, 2))),
        Dense("fc3", 16, then=(Relu(), Dropout(0.5))),
        Dense("fc4", num_classes),
    )
    return Network("small", SIZE, layers)


def dataset(num_classes: int = 4, train: int = 12, val: int = 5, seed: int = 0) -> Dataset:
    """Noise around one random picture a class, in memory."""
    rng = np.random.default_rng(seed)
    pictures = rng.integers(0, 128, (num_classes, SIZE, SIZE, 3))

    def images(labels):
        noise = rng.integers(0, 128, (len(labels), SIZE, SIZE, 3))
        return (pictures[labels] + noise).astype(np.uint8)

    train, val = (np.repeat(np.arange(num_classes), count) for count in (train, val))
    names = [f"class{i}" for i in range(num_classes)]
    return Dataset.from_arrays(images(train), train, names, val=(images(val), val))


def tasks() -> tuple[Task, Task]:
    """Two tasks of two classes over one dataset."""
    data = dataset()
    return subset_task("A", data, [0, 1]), subset_task("B", data, [2, 3])


def cells(*treatments: str, recipe: Recipe = RECIPE, seed: int = 0) -> list[Cell]:
    """Cells of the two tasks by their notation, with the bases that they copy from."""
    by_letter, found = dict(zip("AB", tasks(), strict=True)), {}
    for text in treatments:
        treatment = Treatment.parse(text)
        source = found.get(f"base{treatment.source}") if treatment.copies else None
        task = by_letter[treatment.target]
        found[text] = Cell(network(), task, treatment, recipe, seed, source)
    return list(found.values())


def same_bits(one, other) -> bool:
    """Whether two trees of float32 arrays hold the same bits, -0.0 and NaN told apart."""
    bits = [
        [(leaf.shape, np.asarray(leaf, np.float32).tobytes()) for leaf in jax.tree.leaves(tree)]
        for tree in (one, other)
    ]
    return bits[0] == bits[1]


def products(program: str) -> list[str]:
    """The lines of a lowered program that multiply matrices or convolve."""
    kinds = "stablehlo.convolution", "stablehlo.dot_general"
    return [line for line in program.splitlines() if any(kind in line for kind in kinds)]
