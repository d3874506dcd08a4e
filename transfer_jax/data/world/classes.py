"""The classes of the embedded world and their hierarchy: world -> kingdom -> family -> class."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from transfer_jax.data.world import garden, household, man_made, natural
from transfer_jax.data.world.canvas import Canvas

_TURN = 3.14159

# family: kingdom, largest rotation in rad, gloss of its surfaces, drawings of its classes
_FAMILIES = {
    "mammal": ("natural", 0.3, 0.1, {
        "zebra": natural.zebra, "leopard": natural.leopard,
        "elephant": natural.elephant, "giraffe": natural.giraffe}),
    "bird": ("natural", 0.35, 0.15, {
        "duck": natural.duck, "flamingo": natural.flamingo,
        "parrot": natural.parrot, "owl": natural.owl}),
    "insect": ("natural", _TURN, 0.6, {
        "butterfly": natural.butterfly, "dragonfly": natural.dragonfly,
        "ladybird": natural.ladybird, "bee": natural.bee}),
    "fruit": ("natural", 0.9, 0.8, {
        "apple": garden.apple, "pear": garden.pear,
        "banana": garden.banana, "strawberry": garden.strawberry}),
    "plant": ("natural", 0.2, 0.05, {
        "oak": garden.oak, "fir": garden.fir, "cactus": garden.cactus, "daisy": garden.daisy}),
    "vehicle": ("man_made", 0.2, 0.9, {
        "car": man_made.car, "bus": man_made.bus,
        "lorry": man_made.lorry, "tractor": man_made.tractor}),
    "building": ("man_made", 0.12, 0.05, {
        "house": man_made.house, "tower_block": man_made.tower_block,
        "church": man_made.church, "lighthouse": man_made.lighthouse}),
    "furniture": ("man_made", 0.2, 0.3, {
        "chair": household.chair, "table": household.table,
        "bookcase": household.bookcase, "bed": household.bed}),
    "tool": ("man_made", _TURN, 0.9, {
        "hammer": household.hammer, "screwdriver": household.screwdriver,
        "spanner": household.spanner, "saw": household.saw}),
    "vessel": ("man_made", 0.4, 1.2, {
        "mug": household.mug, "bottle": household.bottle,
        "vase": household.vase, "teapot": household.teapot}),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class WorldClass:
    """One class of the embedded world.

    Attributes:
      name: what it is, unique.
      family: the family it shares parts and textures with.
      kingdom: 'natural' or 'man_made'.
      spin: largest rotation of its objects in a picture, in rad.
      gloss: strength of the highlights on its surfaces.
      draw: paints one instance per picture onto a canvas.
    """

    name: str
    family: str
    kingdom: str
    spin: float
    gloss: float
    draw: Callable[[Canvas], None] = dataclasses.field(repr=False, compare=False)


CLASSES: tuple[WorldClass, ...] = tuple(
    sorted(
        (
            WorldClass(name, family, kingdom, spin, gloss, draw)
            for family, (kingdom, spin, gloss, drawings) in _FAMILIES.items()
            for name, draw in drawings.items()
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
