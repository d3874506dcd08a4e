"""Renders scenes of the embedded world: from instances, poses and settings to uint8 pictures."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transfer_jax.world import scenes, surroundings
from transfer_jax.world.canvas import Canvas
from transfer_jax.world.classes import CLASSES
from transfer_jax.world.randomness import Field, Keys, Tape, make_keys, pixel_noise
from transfer_jax.world.scenes import ABSENT, Dressed, Instance, Pose, Setting

_CHUNK_PIXELS = 1 << 17  # per field: large for NumPy's calls, small for a core's cache


def _take(record, rows):
    """The given rows of every array in a record of arrays."""
    return type(record)(**{name: values[rows] for name, values in vars(record).items()})


def _paint_objects(picture: Field, instance: Instance, pose: Pose, setting: Setting) -> Field:
    """Paints one object into each picture; returns how much of each pixel it covers."""
    alpha = np.zeros_like(picture[:, 0])
    for class_id in np.unique(instance.class_ids[instance.class_ids != ABSENT]):
        rows = np.flatnonzero(instance.class_ids == class_id)
        kind, seen = CLASSES[class_id], _take(pose, rows)
        part = picture if len(rows) == len(picture) else picture[rows]
        tilt = np.stack([seen.tilt_u, seen.tilt_v], axis=1)
        canvas = Canvas(part, seen.affine(), Tape(instance.keys[rows]), tilt)
        kind.draw(canvas)
        if isinstance(instance, Dressed):
            canvas.dress(instance.colours[rows], instance.patterns[rows])
        light = setting.light_angle[rows, None, None], setting.light_strength[rows, None, None]
        canvas.light(*light, kind.gloss)
        if part is not picture:
            picture[rows] = part
        alpha[rows] = canvas.alpha
    return alpha


def _develop(picture: Field, setting: Setting) -> NDArray[np.uint8]:
    """From light to pixels: exposure, vignette, contrast, sensor noise."""
    size = picture.shape[-1]
    edge = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    vignette = 1 - 0.08 * (edge[:, None] ** 2 + edge**2)
    picture = picture * (setting.exposure[:, :, None, None] * vignette)
    picture = (picture - 0.45) * setting.contrast[:, None, None, None] + 0.45
    picture += pixel_noise(setting.keys, size) * setting.noise[:, None, None, None]
    pixels = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def _boxes(visible: Field) -> Field:
    """The box of each (n, size, size) silhouette as (n, 4); zeros where nothing is seen."""
    seen = visible > 0.5
    size = seen.shape[-1]
    box = np.zeros((len(seen), 4), np.float32)
    for column, axis in ((0, 2), (1, 1)):
        along = seen.any(axis=axis)
        box[:, column] = along.argmax(axis=1) / size
        box[:, column + 2] = 1 - along[:, ::-1].argmax(axis=1) / size
    box[~seen.any(axis=(1, 2))] = 0
    return box


def render(
    objects: Sequence[tuple[Instance, Pose]], setting: Setting, *, size: int = 32
) -> tuple[NDArray[np.uint8], Field]:
    """Renders n scenes, in threads.

    Geometry, textures and light live in unit coordinates, so a scene at another size is the same
    picture; sensor noise alone belongs to the pixels.

    `objects` holds, back to front, `(instances, poses)` of n objects each, one per scene; one of
    class `ABSENT` is left out of its scene. Returns images, uint8 (n, size, size, 3), and boxes,
    float32 (n, len(objects), 4): ymin, xmin, ymax, xmax in 0..1 of what is visible of each object's
    silhouette, zeros where nothing is. Two views of one zebra::

      zebra = np.full(2, class_id('zebra'))
      one = sample_instance(zebra, make_keys('the zebra', [7, 7]))
      pose, setting = sample_view(zebra, make_keys('my study', np.arange(2)))
      images, boxes = render([(one, pose)], setting, size=64)
    """
    count = len(setting.keys)
    images = np.empty((count, size, size, 3), np.uint8)
    boxes = np.zeros((count, len(objects), 4), np.float32)
    chunk = max(1, _CHUNK_PIXELS // size**2)

    def render_chunk(start: int) -> None:
        rows = slice(start, start + chunk)
        here = _take(setting, rows)
        things = [(_take(instance, rows), _take(pose, rows)) for instance, pose in objects]
        picture = np.zeros((len(here.keys), 3, size, size), np.float32)
        back = surroundings.frame(picture, Tape(make_keys("background", here.keys)))
        surroundings.paint_background(back, here)
        for instance, pose in things:
            surroundings.paint_shadow(back, instance, pose)
        visible: list[Field] = []
        for instance, pose in things:
            alpha = _paint_objects(picture, instance, pose, here)
            visible = [below * (1 - alpha) for below in visible] + [alpha]
        front = surroundings.frame(picture, Tape(make_keys("occluder", here.keys)))
        clear = 1 - surroundings.paint_occluder(front, here)
        for k, alpha in enumerate(visible):
            boxes[rows, k] = _boxes(alpha * clear)
        images[rows] = _develop(picture, here)

    with concurrent.futures.ThreadPoolExecutor() as pool:
        list(pool.map(render_chunk, range(0, count, chunk)))
    return images, boxes


def image_keys(class_ids: ArrayLike, indices: ArrayLike, *, split: str, seed: int) -> Keys:
    """Keys (n,) of images `indices` of classes `class_ids` in a split: all that they depend on."""
    words = np.concatenate([make_keys(record.name) for record in CLASSES])
    return make_keys("embedded world", seed, split, words[class_ids], indices)


def _broadcast(class_ids: ArrayLike, indices: ArrayLike):
    return np.broadcast_arrays(np.atleast_1d(class_ids), np.asarray(indices))


def render_images(
    class_ids: ArrayLike, indices: ArrayLike, *, split: str, seed: int = 0, size: int = 32
) -> tuple[NDArray[np.uint8], Field]:
    """Renders single-object pictures, each settled by (seed, split, class, index) alone.

    `class_ids` and `indices` (which picture of its class, from 0) are broadcast to (n,); `split` is
    'train' or 'val' in the world's datasets; `size` is at least 8 pixels. Returns images, uint8
    (n, size, size, 3), and boxes, float32 (n, 4): ymin, xmin, ymax, xmax in 0..1.
    """
    class_ids, indices = _broadcast(class_ids, indices)
    order = np.argsort(class_ids, kind="stable")  # pictures of one class are drawn together
    class_ids, back = class_ids[order], np.argsort(order)
    keys = image_keys(class_ids, indices[order], split=split, seed=seed)
    pose, setting = scenes.sample_view(class_ids, keys)
    images, boxes = render([(scenes.sample_instance(class_ids, keys), pose)], setting, size=size)
    return images[back], boxes[back, 0]


def render_scenes(
    class_ids: ArrayLike,
    indices: ArrayLike,
    *,
    split: str,
    seed: int = 0,
    size: int = 32,
    max_objects: int = 3,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], Field]:
    """Renders pictures of 1 to `max_objects` objects, settled by (seed, split, class, index).

    The first object, of the class asked for, stands in front; see `sample_scene` for the others,
    and `render_images` for the arguments. Returns images, uint8 (n, size, size, 3); labels, int64
    (n, max_objects), `ABSENT` where a picture holds fewer; and boxes, float32 (n, max_objects, 4)
    of what is visible of each object, zeros where nothing is.
    """
    class_ids, indices = _broadcast(class_ids, indices)
    # Apart from the keys of the pictures of one object, whose looks would be the same otherwise.
    keys = make_keys("several", image_keys(class_ids, indices, split=split, seed=seed))
    labels, setting, objects = scenes.sample_scene(class_ids, keys, max_objects)
    images, boxes = render(objects[::-1], setting, size=size)
    return images, labels, boxes[:, ::-1]
