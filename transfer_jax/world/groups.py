"""Pictures for other tasks than naming a class: which attributes an object has, which instance of
its class it is, what stands where, and the same object found again.

All return images (N, size, size, 3) uint8, labels, splits {'train': rows, 'val': rows},
class_names and class_paths; `*_per_class` are the pictures of each label unless said otherwise.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transfer_jax.world.arrays import both_splits
from transfer_jax.world.canvas import PATTERNS
from transfer_jax.world.classes import CLASSES, class_id, class_paths
from transfer_jax.world.randomness import Field, Tape, make_keys
from transfer_jax.world.rendering import image_keys, render
from transfer_jax.world.scenes import Dressed, sample_instance, sample_pose, sample_setting

COATS = {
    "red": (0.85, 0.12, 0.12),
    "yellow": (0.95, 0.8, 0.1),
    "green": (0.15, 0.6, 0.2),
    "blue": (0.12, 0.3, 0.85),
    "violet": (0.6, 0.2, 0.7),
    "white": (1.0, 1.0, 1.0),
}
ATTRIBUTES = {
    "colour": tuple(COATS),
    "pattern": PATTERNS,
    "pose": ("faces left", "large", "left", "high"),
    "setting": ("lit from left", "occluded", "outdoors"),
}
"""What is known of an object's coat, of its pose, and of what is around it."""

# Classes drawn facing right.
_SIDED = [c.family in ("mammal", "bird", "vehicle") and c.name != "owl" for c in CLASSES]

RELATIONS = ("left of", "in front of")
CHANGES = ("pose", "place", "both")


def attribute_arrays(
    size: int = 32, train_per_class: int = 25, val_per_class: int = 10, seed: int = 0
) -> dict:
    """Objects of all classes in coats, `*_per_class` of each class of the world; labels (N, 17)
    int8 of ATTRIBUTES in a row: 1, 0, or -1 where one cannot be told (the middle of a range, and
    where things face that have no front). No attribute depends on the class.
    """

    def draw(class_ids, indices, split):
        keys = make_keys("attributes", image_keys(class_ids, indices, split=split, seed=seed))
        drawn = Tape(make_keys("coat", keys)).numbers(5)
        coat, pattern = (drawn[:, :2] * (len(COATS), len(PATTERNS))).astype(np.int64).T
        colours = np.asarray(list(COATS.values()), np.float32)[coat]
        colours = np.clip(colours + 0.16 * (drawn[:, 2:] - 0.5), 0, 1).astype(np.float32)
        dressed = Dressed(class_ids, make_keys("instance", keys), colours, pattern)
        pose, setting = sample_pose(class_ids, keys), sample_setting(keys)
        images, _ = render([(dressed, pose)], setting, size=size)
        viewed = (
            np.where(np.array(_SIDED)[class_ids], pose.mirror < 0, -1),
            _told(pose.scale, 0.4, 0.44),
            _told(-pose.x, -0.54, -0.46),
            _told(-pose.y, -0.54, -0.46),
            _told(-np.cos(setting.light_angle), -0.2, 0.2),
            setting.occlusion,
            1 - setting.built,
        )
        worn = np.eye(len(COATS))[coat], np.eye(len(PATTERNS))[pattern]
        return images, np.column_stack([*worn, *viewed]).astype(np.int8)

    paths = [("attributes", kind, name) for kind, names in ATTRIBUTES.items() for name in names]
    return _arrays(draw, paths, train_per_class, val_per_class, len(CLASSES))


def _arrays(draw, paths, train_per_class: int, val_per_class: int, drawn: int) -> dict:
    images, labels, splits = both_splits(draw, train_per_class, val_per_class, drawn)
    names = {"class_names": tuple(path[-1] for path in paths), "class_paths": tuple(paths)}
    return {"images": images, "labels": labels, "splits": splits, **names}


def _told(values: Field, low: float, high: float) -> NDArray[np.int8]:
    """1 above `high`, 0 below `low`, -1 between."""
    return np.select([values > high, values < low], [1, 0], -1)


def render_views(
    class_ids: ArrayLike,
    which: ArrayLike,
    indices: ArrayLike,
    *,
    split: str,
    seed: int = 0,
    size: int = 32,
    scale: tuple[float, float] = (0.3, 0.5),
    change: str = "both",
) -> tuple[NDArray[np.uint8], Field]:
    """Renders views `indices` of objects `which` of classes `class_ids`, each (n,): the object is
    settled by (seed, class, which), the view by split and index too. `scale` is that of
    `sample_pose`. From view to view changes the 'pose' (in the middle of an empty picture), the
    'place', with size, clutter and light, or 'both'. Returns images (n, size, size, 3) and boxes
    (n, 4).
    """
    if change not in CHANGES:
        raise ValueError(f"what changes must be one of {', '.join(CHANGES)}; got {change!r}")
    objects = image_keys(class_ids, which, split="instances", seed=seed)
    keys = make_keys("view", split, indices, objects)
    pose, setting = sample_pose(class_ids, keys, scale=scale), sample_setting(keys)
    if change == "pose":
        half, none = np.full(len(keys), 0.5, np.float32), np.zeros(len(keys), np.float32)
        pose = dataclasses.replace(pose, x=half, y=half)
        setting = dataclasses.replace(setting, clutter=none, occlusion=none)
    elif change == "place":
        here = {side: getattr(pose, side) for side in ("x", "y", "scale")}
        pose = dataclasses.replace(sample_pose(class_ids, objects), **here)
    images, boxes = render([(sample_instance(class_ids, objects), pose)], setting, size=size)
    return images, boxes[:, 0]


def instance_arrays(
    size: int = 32,
    train_per_class: int = 20,
    val_per_class: int = 20,
    instances: int = 10,
    name: str = "butterfly",
    seed: int = 0,
) -> dict:
    """Which of some instances of the class `name`: labels (N,) int32 in 0 .. instances - 1, every
    instance in many views."""
    kind = class_id(name)

    def draw(which, indices, split):
        ids = np.full(len(which), kind)
        images, _ = render_views(ids, which, indices, split=split, seed=seed, size=size)
        return images, which.astype(np.int32)

    paths = [(name, f"{name} {k}") for k in range(instances)]
    return _arrays(draw, paths, train_per_class, val_per_class, instances)


def render_relations(
    subjects: ArrayLike,
    others: ArrayLike,
    relations: ArrayLike,
    indices: ArrayLike,
    *,
    split: str,
    seed: int = 0,
    size: int = 32,
) -> tuple[NDArray[np.uint8], Field]:
    """Renders pictures of two objects, of classes `subjects` and `others`, that stand in a relation
    (a place in RELATIONS), each (n,).

    Left of: side by side, either a little higher. In front of: the subject hides a part of the
    other, which looks out on any side. Sizes are the same in both. Returns images
    (n, size, size, 3) and boxes (n, 2, 4) of what is seen of the other and of the subject.
    """
    keys = image_keys(subjects, indices, split=split, seed=seed)
    keys = make_keys("relation", keys, others, relations)
    draw = Tape(make_keys("places", keys)).numbers(4).T
    side = 0.44 + 0.08 * draw[0], 0.3 * (draw[1] - 0.5)
    around = (0.11 + 0.06 * draw[1]) * (np.cos(2 * np.pi * draw[0]), np.sin(2 * np.pi * draw[0]))
    apart = np.where(relations, around, side)  # from the subject to the other
    middle = 0.5 + (0.25 - np.abs(apart) / 2).clip(0.01) * (2 * draw[2:] - 1)
    things = []
    for ids, sign in ((others, 0.5), (subjects, -0.5)):
        own = make_keys("object", int(sign > 0), keys)
        x, y = (middle + sign * apart).astype(np.float32)
        pose = dataclasses.replace(sample_pose(ids, own, scale=(0.22, 0.28)), x=x, y=y)
        things.append((sample_instance(ids, own), pose))
    setting = dataclasses.replace(sample_setting(keys), occlusion=np.zeros_like(x))
    return render(things, setting, size=size)


def relation_arrays(
    size: int = 32,
    train_per_class: int = 40,
    val_per_class: int = 20,
    name: str = "car,elephant,teapot",
    seed: int = 0,
) -> dict:
    """What stands left of or in front of what: labels (N,) int32, one for every ordered pair of the
    classes in `name` and every relation. Every two classes are seen in both orders as often, so
    that knowing which objects are there, or one of them, names no label.
    """
    pairs = itertools.permutations(name.split(","), 2)
    phrases = [(a, kind, b) for a, b in pairs for kind in range(len(RELATIONS))]
    parts = np.array([(class_id(a), kind, class_id(b)) for a, kind, b in phrases])

    def draw(labels, indices, split):
        subjects, kinds, others = parts[labels].T
        of = {"split": split, "seed": seed, "size": size}
        images, _ = render_relations(subjects, others, kinds, indices, **of)
        return images, labels.astype(np.int32)

    named = [(a, RELATIONS[kind], b) for a, kind, b in phrases]
    paths = [("relations", kind, f"{a} {kind} {b}") for a, kind, b in named]
    return _arrays(draw, paths, train_per_class, val_per_class, len(paths))


def retrieval_arrays(
    size: int = 32,
    instances: int = 2,
    train_per_class: int = 4,
    val_per_class: int = 1,
    name: str = "both",
    seed: int = 0,
) -> dict:
    """The same object again: `instances` of every class of the world, each in `train_per_class`
    references ('train') and `val_per_class` queries ('val'). `name` says what changes, as in
    `render_views`. Labels (N,) int32 tell the objects; as many others of every class, seen once,
    are distractors of label -1.
    """

    def draw(objects, indices, split):
        class_ids, which = np.divmod(objects, 2 * instances)
        known = which < instances
        seen = known if split == "val" else known | (indices == 0)
        ids, which, indices = class_ids[seen], which[seen], indices[seen]
        of = {"split": split, "seed": seed, "size": size, "scale": (0.22, 0.42)}
        images, _ = render_views(ids, which, indices, change=name, **of)
        labels = np.where(which < instances, ids * instances + which, -1)
        return images, labels.astype(np.int32)

    paths = [(*path, f"{path[-1]} {k}") for path in class_paths() for k in range(instances)]
    return _arrays(draw, paths, train_per_class, val_per_class, 2 * len(paths))
