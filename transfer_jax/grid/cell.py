"""Cell: one network to train, identified by its content; and groups of cells, in order."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from typing import Any, get_args

import jax

from transfer_jax.data.tasks import Task
from transfer_jax.data.views import Augmentation
from transfer_jax.grid.imported import Imported
from transfer_jax.networks import Network, layers
from transfer_jax.training.recipe import Recipe
from transfer_jax.transfer import Treatment, lower_layers

# Raised when the same content would train to other numbers than before, and when the default of a
# field of Recipe or of a layer changes: fields at their defaults are not content.
CONTENT_VERSION = 4


@dataclasses.dataclass(frozen=True)
class Cell:
    """Network x Task x Treatment x Recipe x seed, and the base that it copies from.

    Attributes:
      network: its logits are the task's classes.
      task, treatment, recipe, seed: what is learned, from where, how, which repetition.
      source: the cell whose lower layers are copied; None for bases and random weights.
      imported: the file that a base's weights come from, instead of a training.
      snapshots: updates after which its params are kept for good; no part of its identity.

    Raises:
      ValueError: the parts do not fit together.
    """

    network: Network
    task: Task
    treatment: Treatment
    recipe: Recipe
    seed: int = 0
    source: Cell | None = None
    imported: Imported | None = None
    snapshots: tuple[int, ...] = dataclasses.field(default=(), compare=False)

    def __post_init__(self):
        def refuse(problem):
            raise ValueError(f"cell {self.treatment} of task {self.task.name}: {problem}")

        if (self.source is None) == self.treatment.copies:
            refuse(f"source={self.source and self.source.treatment}")
        if self.imported and self.treatment.source is not None:
            refuse(f"{self.imported.path} can only be a base")
        if self.network.num_classes != self.task.num_outputs:
            refuse(f"{self.network.num_classes} outputs for {self.task.num_classes} classes")
        size, (height, width, _) = self.recipe.augmentation.size, self.network.input_shape
        if self.task.objective is None and {size} != {height, width}:
            refuse(f"recipe.augmentation.size={size}: the network takes {height}x{width} pixels")
        if self.recipe.batch_size > (count := len(self.task.dataset.labels)):
            refuse(f"recipe.batch_size={self.recipe.batch_size}: its dataset has {count} images")
        if not self.imported and not len(self.task.val[0]):
            refuse(f"{self.task.dataset.name} has no images of its classes for testing ('val')")
        shape, origin = self.task.dataset.image_shape, self.root.task.dataset.image_shape
        if shape is None:
            refuse("its images have several shapes: set config.dataset.image_size")
        if self.recipe.mean == "image" and not self.root.imported and shape != origin:
            refuse(f"recipe.mean='image' of {origin} for images of {shape}: expected 'channel'")
        if self.root.imported and self.recipe.pixel_scale != self.root.recipe.pixel_scale:
            scale = self.root.recipe.pixel_scale
            refuse(f"recipe.pixel_scale={self.recipe.pixel_scale}: its base takes {scale}")
        lower_layers(self.network, self.treatment.n)

    @property
    def kind(self) -> str:
        """'imported', or the treatment's kind: the column `treatment` of results.csv."""
        return "imported" if self.imported else self.treatment.kind

    @property
    def root(self) -> Cell:
        """The base that its layers come from in the end, itself where nothing is copied."""
        return self if self.source is None else self.source.root

    @property
    def frozen(self) -> int:
        """Number of frozen lower layers."""
        return len(self.treatment.frozen_layers(self.network))

    def mean(self) -> Any:
        """What is subtracted from its images: that of the dataset (or file) of its root, for a
        network that moves must see its pixels on one scale."""
        if self.root.imported:
            return self.root.imported.mean_for(self.recipe.mean, self.task.dataset.image_shape)
        return self.root.task.mean(self.recipe.mean)

    @functools.cached_property
    def hash(self) -> str:
        """16 hex digits of everything that decides the trained weights, and of an imported base's
        task, on which its accuracy is measured; names are left out."""
        tested = {"task": self.task.digest} if self.imported else {}
        return _digest({"cell": self.content, **tested})

    @functools.cached_property
    def content(self) -> dict[str, Any]:
        """What decides the trained weights; fields that equal their default are left out."""
        if self.imported:
            shown = ("augmentation", "mean", "pixel_scale", "ten_crop", "precision")
            return {
                "version": CONTENT_VERSION,
                "network": to_json(self.network),
                "imported": [self.imported.digest, self.imported.mean_digest],
                "recipe": {name: to_json(getattr(self.recipe, name)) for name in shown},
            }
        return {
            "version": CONTENT_VERSION,
            "network": to_json(self.network),
            "task": self.task.digest,
            "copied_layers": self.treatment.n,
            "fine_tuned": self.treatment.fine_tuned,
            **({"held": self.treatment.held} if self.treatment.held else {}),
            "source": _digest({"cell": self.source.content})
            if self.source
            else self.treatment.source and "random",
            "recipe": to_json(self.recipe),
            "seed": self.seed,
        }

    @functools.cached_property
    def stream_seed(self) -> int:
        """Seed of the images' order, views and dropout: the same for all cells of one task, recipe
        and seed, which differ by their treatment only."""
        recipe = to_json(self.recipe)
        return _seed({"stream": [self.task.digest, recipe, self.seed]})

    def init_params(self, source_params: Any = None) -> dict:
        """Params before the first step, given those of `source` where there is one."""
        if self.treatment.n and not self.source:
            # Frozen random layers are one network's, cut at every n.
            seed = _seed({"random layers": [to_json(self.network), self.seed]})
            source_params = self.network.init(jax.random.key(seed), self.recipe.init)
        # Treatments of a task are compared in pairs: all but the base draw the same upper layers.
        drawn = [to_json(self.network), self.task.digest, to_json(self.recipe), self.seed]
        key = jax.random.key(_seed({"init": [*drawn, self.treatment.n > 0]}))
        return self.treatment.init_params(self.network, key, source_params, self.recipe.init)


Entry = tuple[dict[str, Any], Cell]
"""A cell that a study wants, and the tags that become columns of its results."""


def all_cells(cells: Iterable[Cell]) -> list[Cell]:
    """The cells and every one that they copy from, each once, sources first."""
    found: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        if cell.source is not None:
            add(cell.source)
        known = found.setdefault(cell.hash, cell)
        if wanted := set(cell.snapshots) - set(known.snapshots):
            steps = tuple(sorted({*known.snapshots, *wanted}))
            found[cell.hash] = dataclasses.replace(known, snapshots=steps)

    for cell in cells:
        add(cell)
    return list(found.values())


Group = tuple[Cell, ...]
"""Cells of one source that are trained side by side on the same batches: frozen ones share a
forward pass of their frozen layers."""


def group_hash(group: Group) -> str:
    """16 hex digits of the cells' hashes."""
    return _digest([cell.hash for cell in group])


def groups(
    cells: Sequence[Cell], finished: Collection[str] = (), opened: Iterable[Sequence[str]] = ()
) -> list[Group]:
    """The cells that need training, in groups, sources first.

    Args:
      cells: of `all_cells`.
      finished: hashes of cells that need none.
      opened: hashes of the cells of groups whose training was cut off; such a group is formed again
        as it was, so that it resumes from its checkpoint.
    """
    wanted = {cell.hash: cell for cell in cells if not cell.imported}
    found, taken = [], set(finished)
    for hashes in opened:
        rest = set(hashes) - taken
        if rest and set(hashes) <= set(wanted) and rest == set(hashes) - set(finished):
            found.append(tuple(wanted[h] for h in hashes))
            taken |= rest
    together: dict[tuple, list[Cell]] = {}
    for cell in wanted.values():
        if cell.hash not in taken:
            source = cell.source.hash if cell.source else cell.treatment.n and "random"
            # Of activations that are kept, cells share those of one layer.
            frozen = cell.frozen if cell.recipe.frozen_once else cell.frozen > 0
            key = (cell.network, cell.stream_seed, source, frozen)
            together.setdefault(key, []).append(cell)
    for sharing in together.values():
        sharing.sort(key=lambda cell: cell.treatment.n)
        most = 8 if sharing[0].frozen else _side_by_side(sharing[0])
        found += [tuple(sharing[i : i + most]) for i in range(0, len(sharing), most)]
    return sorted(found, key=lambda group: depth(group[0]))


def _side_by_side(cell: Cell) -> int:
    """How many cells without frozen layers are trained together: they share batches alone.

    On two CPU cores that gains nothing. On an accelerator (a guess, not measured) it fills the
    device where a step of one is over too soon.
    """
    small = cell.network.train_flops() * cell.recipe.batch_size <= 200e9
    return 8 if small and jax.default_backend() != "cpu" else 1


def depth(cell: Cell) -> int:
    """How many cells must be trained before, one after the other."""
    return 0 if cell.source is None else 1 + depth(cell.source)


def to_json(value: Any) -> Any:
    """Nested frozen dataclasses as dictionaries that name their types, defaults left out; tuples as
    lists.

    Example:
      >>> to_json(layers.Dense('fc8', 10))
      {'type': 'Dense', 'name': 'fc8', 'features': 10}
    """
    if dataclasses.is_dataclass(value):
        fields = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
        defaults = {f.name: f.default for f in dataclasses.fields(value)}
        kept = {name: to_json(v) for name, v in fields.items() if v != defaults[name]}
        return {"type": type(value).__name__, **kept}
    return [to_json(item) for item in value] if isinstance(value, (tuple, list)) else value


def from_json(content: Any) -> Any:
    """What `to_json` made of a network or a recipe, as it was."""
    if isinstance(content, list):
        return tuple(from_json(item) for item in content)
    if not isinstance(content, dict):
        return content
    parts = get_args(layers.Layer | layers.After)
    types = {kind.__name__: kind for kind in (Network, Recipe, Augmentation, *parts)}
    fields = {name: from_json(value) for name, value in content.items() if name != "type"}
    return types[content["type"]](**fields)


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _seed(content: Any) -> int:
    return int(_digest(content), 16) % 2**31
