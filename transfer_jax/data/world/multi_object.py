"""Pictures of the embedded world with several objects of different classes."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transfer_jax.data.world import scenes
from transfer_jax.data.world.classes import CLASSES
from transfer_jax.data.world.randomness import Field, Keys, Tape, make_keys
from transfer_jax.data.world.rendering import image_keys, render

_SCALES = {1: (0.34, 0.5), 2: (0.26, 0.38), 3: (0.21, 0.31), 4: (0.18, 0.27), 5: (0.16, 0.24)}
"""Range of half an object's extent, by how many share the picture."""

MOST_OBJECTS = max(_SCALES)
"""The most objects that one picture can hold."""

_CANDIDATES = 12  # places that are tried for each object, of which the emptiest is taken


def render_scenes(
    class_ids: ArrayLike,
    indices: ArrayLike,
    *,
    split: str,
    seed: int = 0,
    size: int = 32,
    max_objects: int = 3,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], Field]:
    """Renders pictures of one to `max_objects` objects, settled by (seed, split, class, index).

    The first object, of the class asked for, stands in front; the others are of classes drawn
    evenly from the rest, no two alike. All numbers of objects are equally frequent.

    Args:
      class_ids: (n,) label of each picture's first object.
      indices: (n,) which picture of that class it is, from 0.
      split: name of the split, 'train' or 'val' in the prepared dataset.
      seed: of the whole world, not negative.
      size: height and width in pixels.
      max_objects: 1 .. `MOST_OBJECTS`.

    Returns:
      Images, uint8 (n, size, size, 3); labels, int64 (n, max_objects), `scenes.ABSENT` where a
      picture holds fewer; and boxes, float32 (n, max_objects, 4): ymin, xmin, ymax, xmax in 0..1 of
      what is visible of each object, zeros where nothing is.

    Raises:
      ValueError: an argument out of range.

    Example:
      >>> images, labels, boxes = render_scenes([0, 0], [0, 1], split="train")
      >>> labels[:, 0].tolist()
      [0, 0]
    """
    class_ids, indices = np.broadcast_arrays(
        np.atleast_1d(np.asarray(class_ids, np.int64)), np.asarray(indices, np.int64)
    )
    if not 1 <= max_objects <= MOST_OBJECTS:
        raise ValueError(f"max_objects must lie in 1 .. {MOST_OBJECTS}, got {max_objects}")
    if seed < 0 or (indices.size and indices.min() < 0):
        raise ValueError(f"seed and indices must not be negative, got seed {seed} and {indices}")
    if class_ids.size and not 0 <= class_ids.min() <= class_ids.max() < len(CLASSES):
        raise ValueError(f"class_ids must lie in 0..{len(CLASSES) - 1}, got {class_ids}")
    # Apart from the keys of the pictures of one object, whose looks would be the same otherwise.
    keys = make_keys("several", image_keys(class_ids, indices, split=split, seed=seed))
    labels = _draw_classes(class_ids, keys, max_objects)
    poses = _place(labels, keys)
    objects = [
        (scenes.sample_instance(labels[:, slot], make_keys("object", slot, keys)), poses[slot])
        for slot in range(max_objects)
    ]
    setting = scenes.sample_view(class_ids, keys).setting
    images, boxes = render(objects[::-1], setting, size=size)
    return images, labels, boxes[:, ::-1]


def _draw_classes(class_ids: NDArray[np.int64], keys: Keys, most: int) -> NDArray[np.int64]:
    tape = Tape(make_keys("classes", keys))
    count = 1 + (tape.numbers(1)[:, 0] * most).astype(np.int64)
    draw = tape.numbers(len(CLASSES)).copy()
    draw[np.arange(len(keys)), class_ids] = -1
    labels = np.argsort(draw, axis=1, kind="stable")[:, :most]
    labels[np.arange(most) >= count[:, None]] = scenes.ABSENT
    return labels


def _place(labels: NDArray[np.int64], keys: Keys) -> list[scenes.Pose]:
    """Poses, each where it is farthest from those before, of some candidates."""
    count = (labels != scenes.ABSENT).sum(axis=1)
    scales = np.array([(0, 0), *_SCALES.values()], np.float32)[count]
    poses: list[scenes.Pose] = []
    for slot in range(labels.shape[1]):
        own = make_keys("object", slot, keys)
        pose = scenes.sample_pose(labels[:, slot], own, scale=(scales[:, 0], scales[:, 1]))
        draw = Tape(make_keys("place", own)).numbers(2 * _CANDIDATES)
        places = draw.reshape(len(keys), _CANDIDATES, 2)
        room = np.clip(0.5 - 0.8 * pose.scale, 0.04, None)[:, None, None]
        places = 0.5 + room * (2 * places - 1)
        nearest = np.full(places.shape[:2], np.inf)
        for other in poses:
            centre = np.stack([other.x, other.y], axis=1)[:, None]
            nearest = np.minimum(nearest, np.linalg.norm(places - centre, axis=2))
        best = places[np.arange(len(keys)), nearest.argmax(axis=1)].astype(np.float32)
        poses.append(
            scenes.Pose(**{**vars(pose), "x": best[:, 0], "y": best[:, 1]}),
        )
    return poses
