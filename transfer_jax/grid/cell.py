"""Cell: one network to train, identified by its content."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from typing import Any

from transfer_jax.data.tasks import Task
from transfer_jax.grid.imported import Imported
from transfer_jax.networks import Network
from transfer_jax.training.recipe import Recipe
from transfer_jax.transfer import Treatment, lower_layers

# Raised when the same content would train to other numbers than before, and when the default of a
# field of Recipe, Task, Network or their parts changes: fields at their defaults are not content.
CONTENT_VERSION = 2

SHOWN_BY = ("augmentation", "mean", "pixel_scale", "ten_crop", "dtype")
"""Fields of a recipe by which a network is shown images once it is trained."""


@dataclasses.dataclass(frozen=True)
class Cell:
    """Network x Task x Treatment x Recipe x seed, and the base that it copies from.

    Attributes:
      network: what is trained; its logits are the task's classes.
      task: what is learned.
      treatment: where the lower layers come from and whether they learn.
      recipe: how it is trained.
      seed: tells repetitions apart.
      source: the base cell that lower layers are copied from; None for bases and random weights.
      imported: the file that a base's weights come from, in place of a training; None for every
        network that is trained. Such a base is shown images by its recipe, whose pixel_scale is
        folded into the first layer; see `imported_base.imported_base`.
    """

    network: Network
    task: Task
    treatment: Treatment
    recipe: Recipe
    seed: int
    source: Cell | None = None
    imported: Imported | None = None

    def __post_init__(self):
        if (self.source is None) != (self.treatment.base is None):
            found = "none was given" if self.source is None else f"{self.source.name} was given"
            raise ValueError(f"cell {self.name} copies from {self.treatment.base}, but {found}")
        if self.source is not None and self.source.treatment != self.treatment.base:
            raise ValueError(
                f"cell {self.name} copies from {self.treatment.base}, not {self.source.name}"
            )
        if self.network.num_classes != self.task.num_classes:
            raise ValueError(
                f"cell {self.name}: the network has {self.network.num_classes} logits and task "
                f"{self.task.name} {self.task.num_classes} classes"
            )
        if self.network.input_size != self.recipe.augmentation.size:
            raise ValueError(
                f"cell {self.name}: recipe.augmentation.size={self.recipe.augmentation.size}, but "
                f"network {self.network.name} takes images of {self.network.input_size} pixels"
            )
        lower_layers(self.network, self.treatment.n)
        self._check_imported()

    def _check_imported(self):
        if self.imported is not None and self.treatment.source is not None:
            raise ValueError(f"cell {self.name} is no base: {self.imported.file_name} cannot be it")
        if self.source is None or self.source.imported is None:
            return
        scale, ours = self.source.recipe.pixel_scale, self.recipe.pixel_scale
        if scale != ours:
            raise ValueError(
                f"cell {self.name}: recipe.pixel_scale={ours}, but the first layer of "
                f"{self.source.imported.file_name} was made for {scale}"
            )

    @property
    def name(self) -> str:
        """The treatment's notation, such as 'A3B+'."""
        return str(self.treatment)

    @property
    def kind(self) -> str:
        """'imported', or the treatment's kind: the column `treatment` of results.csv."""
        return "imported" if self.imported is not None else self.treatment.kind

    @functools.cached_property
    def hash(self) -> str:
        """16 hexadecimal digits of everything that decides the trained weights.

        Names do not count: the same images, classes and layers under another task letter, study or
        experiment are the same cell, and are trained once.
        """
        return _digest({"cell": self.content})

    @property
    def content(self) -> dict[str, Any]:
        """What the hash is taken of, as JSON-able data.

        Fields that equal their declared default are left out, so that a new option whose default
        changes nothing leaves every old cell its hash, its seeds and its results. Of an imported
        base neither the task nor how it might have been trained is content.
        """
        if self.imported is not None:
            shown = Recipe(**{name: getattr(self.recipe, name) for name in SHOWN_BY})
            return {
                "version": CONTENT_VERSION,
                "network": _essence(self.network),
                "imported": self.imported.content,
                "recipe": _essence(shown),
            }
        source = self.source.hash if self.source else "random" if self.treatment.n else None
        return {
            "version": CONTENT_VERSION,
            "network": _essence(self.network),
            "task": _task_content(self.task),
            "copied_layers": self.treatment.n,
            "fine_tuned": self.treatment.fine_tuned,
            "source": source,
            "recipe": _essence(self.recipe),
            "seed": self.seed,
        }

    @property
    def init_seed(self) -> int:
        """Seed of the fresh draw of this cell's weights."""
        return int(_digest({"init": self.content}), 16) % 2**31

    @property
    def random_layers_seed(self) -> int:
        """Seed of frozen random lower layers: one network's, cut at every n."""
        content = {"network": _essence(self.network), "seed": self.seed}
        return int(_digest({"random layers": content}), 16) % 2**31

    @property
    def stream_seed(self) -> int:
        """Seed of the images' order, views and dropout.

        Every cell of one task, recipe and seed sees the same batches in the same views: cells
        differ by their treatment only, and frozen cells can share one forward pass.
        """
        content = {
            "task": _task_content(self.task),
            "recipe": _essence(self.recipe),
            "seed": self.seed,
        }
        return int(_digest({"stream": content}), 16) % 2**31


def to_json(value: Any, *, omit_defaults: bool = False) -> Any:
    """Nested frozen dataclasses as dictionaries that name their types; tuples as lists.

    Args:
      value: dataclasses, tuples, lists and plain values, nested as they like.
      omit_defaults: leaves out the fields that equal the default that their class declares.

    Example:
      >>> to_json(Dense('fc8', 10), omit_defaults=True)
      {'type': 'Dense', 'name': 'fc8', 'features': 10}
    """
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: to_json(getattr(value, field.name), omit_defaults=omit_defaults)
            for field in dataclasses.fields(value)
            if not (omit_defaults and _is_default(field, getattr(value, field.name)))
        }
        return {"type": type(value).__name__, **fields}
    if isinstance(value, (tuple, list)):
        return [to_json(item, omit_defaults=omit_defaults) for item in value]
    return value


def _is_default(field: dataclasses.Field, value: Any) -> bool:
    if field.default_factory is not dataclasses.MISSING:
        return bool(value == field.default_factory())
    return field.default is not dataclasses.MISSING and bool(value == field.default)


def _essence(value: Any) -> Any:
    return to_json(value, omit_defaults=True)


def _task_content(task: Task) -> dict[str, Any]:
    return {name: value for name, value in _essence(task).items() if name != "name"}


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
