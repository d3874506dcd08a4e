"""The classes of the embedded world and their hierarchy: world -> kingdom -> family -> class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from transfer_jax.world import man_made as m, natural as n
from transfer_jax.world.canvas import Canvas

_TURN = 3.14159

# kingdom, family, largest rotation in rad, gloss of its surfaces, drawings of its classes
_FAMILIES = (
    ("natural", "mammal", 0.3, 0.1, (n.zebra, n.leopard, n.elephant, n.giraffe)),
    ("natural", "bird", 0.35, 0.15, (n.duck, n.flamingo, n.parrot, n.owl)),
    ("natural", "insect", _TURN, 0.6, (n.butterfly, n.dragonfly, n.ladybird, n.bee)),
    ("natural", "fruit", 0.9, 0.8, (n.apple, n.pear, n.banana, n.strawberry)),
    ("natural", "plant", 0.2, 0.05, (n.oak, n.fir, n.cactus, n.daisy)),
    ("man_made", "vehicle", 0.2, 0.9, (m.car, m.bus, m.lorry, m.tractor)),
    ("man_made", "building", 0.12, 0.05, (m.house, m.tower_block, m.church, m.lighthouse)),
    ("man_made", "furniture", 0.2, 0.3, (m.chair, m.table, m.bookcase, m.bed)),
    ("man_made", "tool", _TURN, 0.9, (m.hammer, m.screwdriver, m.spanner, m.saw)),
    ("man_made", "vessel", 0.4, 1.2, (m.mug, m.bottle, m.vase, m.teapot)),
)


@dataclasses.dataclass(frozen=True)
class WorldClass:
    """One class of the embedded world."""

    name: str
    family: str  # whose parts and textures it shares
    kingdom: str  # 'natural' or 'man_made'
    spin: float  # largest rotation of its objects in a picture, in rad
    gloss: float  # strength of the highlights on its surfaces
    draw: Callable[[Canvas], None] = dataclasses.field(repr=False, compare=False)


CLASSES: tuple[WorldClass, ...] = tuple(
    sorted(
        (
            WorldClass(draw.__name__, family, kingdom, spin, gloss, draw)
            for kingdom, family, spin, gloss, drawings in _FAMILIES
            for draw in drawings
        ),
        key=lambda record: record.name,
    )
)
"""All classes, in the order of their labels (alphabetical)."""


def class_names() -> tuple[str, ...]:
    """Names of all classes in the order of their labels."""
    return tuple(record.name for record in CLASSES)


def class_paths() -> tuple[tuple[str, ...], ...]:
    """The path from the root of the hierarchy to each class, in the order of the labels.

    Example: `class_paths()[0] == ('world', 'natural', 'fruit', 'apple')`.
    """
    return tuple(("world", record.kingdom, record.family, record.name) for record in CLASSES)


def class_id(name: str) -> int:
    """The label of the class called `name`; ValueError for a name that no class has."""
    names = class_names()
    if name not in names:
        raise ValueError(f"no class {name!r} in the embedded world; it has {', '.join(names)}")
    return names.index(name)
