"""Renders scenes of the embedded world: from instances, poses and settings to uint8 pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transfer_jax.data.world import scenes
from transfer_jax.data.world.canvas import Canvas
from transfer_jax.data.world.classes import CLASSES
from transfer_jax.data.world.randomness import Field, Tape, make_keys, pixel_noise

_CHUNK_SAMPLES = 1 << 17  # per field: large for NumPy's calls, small for a core's cache

Objects = Sequence[tuple[scenes.Instance, scenes.Pose]]


def _take(record, rows):
    """The given rows of every array in a record of arrays."""
    return type(record)(**{name: values[rows] for name, values in vars(record).items()})


def _paint_objects(
    picture: Field, instance: scenes.Instance, pose: scenes.Pose, setting: scenes.Setting
) -> Field:
    """Paints one object into each picture; returns how much of each sample it covers."""
    alpha = np.zeros_like(picture[:, 0])
    for class_id in np.unique(instance.class_ids):
        if class_id == scenes.ABSENT:
            continue
        rows = np.flatnonzero(instance.class_ids == class_id)
        kind, own, seen = CLASSES[class_id], _take(instance, rows), _take(pose, rows)
        part = picture if len(rows) == len(picture) else picture[rows]
        tilt = np.stack([seen.tilt_u, seen.tilt_v], axis=1)
        canvas = Canvas(part, seen.affine(), Tape(own.keys), tilt)
        kind.draw(canvas)
        canvas.light(
            setting.light_angle[rows, None, None],
            setting.light_strength[rows, None, None],
            np.full((len(rows), 1, 1), kind.gloss, np.float32),
        )
        if part is not picture:
            picture[rows] = part
        alpha[rows] = canvas.alpha
    return alpha


def _enlarge(picture: Field, side: int) -> Field:
    if side == 1:
        return picture
    return np.repeat(np.repeat(picture, side, axis=-1), side, axis=-2)


def _shrink(picture: Field, side: int) -> Field:
    """The mean over side x side samples."""
    if side == 1:
        return picture
    rows = sum(picture[..., i::side, :] for i in range(side))
    return sum(rows[..., i::side] for i in range(side)) * np.float32(1 / side**2)


def _develop(picture: Field, setting: scenes.Setting) -> NDArray[np.uint8]:
    """From light to pixels: exposure, vignette, contrast, sensor noise."""
    size = picture.shape[-1]
    edge = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    vignette = 1 - 0.08 * (edge[:, None] ** 2 + edge**2)
    picture = picture * (setting.exposure[:, :, None, None] * vignette)
    contrast = setting.contrast[:, None, None, None]
    picture = (picture - 0.45) * contrast + 0.45
    picture += pixel_noise(setting.keys, size) * setting.noise[:, None, None, None]
    pixels = np.clip(picture * 255 + 0.5, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(pixels.transpose(0, 2, 3, 1))


def _boxes(visible: Field) -> Field:
    """The box of each (n, samples, samples) silhouette as (n, 4); zeros where nothing is seen."""
    seen = visible > 0.5
    samples = seen.shape[-1]
    box = np.zeros((len(seen), 4), np.float32)
    for column, axis in ((0, 2), (1, 1)):
        along = seen.any(axis=axis)
        box[:, column] = along.argmax(axis=1) / samples
        box[:, column + 2] = 1 - along[:, ::-1].argmax(axis=1) / samples
    box[~seen.any(axis=(1, 2))] = 0
    return box


def render(
    objects: Objects, setting: scenes.Setting, *, size: int = 32, oversampling: int = 1
) -> tuple[NDArray[np.uint8], Field]:
    """Renders n scenes.

    Geometry, textures and light live in unit coordinates, so a scene at another size is the same
    picture; sensor noise alone belongs to the pixels.

    Args:
      objects: back to front, `(instances, poses)` of n objects each, one per scene; an object of
        class `scenes.ABSENT` is left out of its scene.
      setting: surroundings, light and sensor of the n scenes.
      size: height and width in pixels.
      oversampling: samples of an object along each side of a pixel. Outlines and noise are
        antialiased without it; 2 also smooths windows and stripes finer than a pixel, at about
        twice the time.

    Returns:
      Images, uint8 (n, size, size, 3), and boxes, float32 (n, len(objects), 4): ymin, xmin, ymax,
      xmax in 0..1 of what is visible of each object's silhouette, zeros where nothing is.

    Example:
      Two views of one zebra::

        keys = make_keys('my study', np.arange(2))
        zebra = np.full(2, class_id('zebra'))
        one = sample_instance(zebra, make_keys('the zebra', [7, 7]))
        view = sample_view(zebra, keys)
        images, boxes = render([(one, view.pose)], view.setting, size=64)
    """
    if size < 8:
        raise ValueError(f"size is {size}; pictures need at least 8 pixels a side")
    if oversampling < 1:
        raise ValueError(f"oversampling is {oversampling}; expected 1 or more")
    count, samples = len(setting.keys), size * oversampling
    images = np.empty((count, size, size, 3), np.uint8)
    boxes = np.zeros((count, len(objects), 4), np.float32)
    chunk = max(1, _CHUNK_SAMPLES // samples**2)
    for start in range(0, count, chunk):
        rows = slice(start, start + chunk)
        here = _take(setting, rows)
        picture = np.zeros((len(here.keys), 3, size, size), np.float32)
        frame = scenes.picture_frame(picture, Tape(make_keys("background", here.keys)))
        scenes.paint_background(frame, here)
        for instance, pose in objects:
            scenes.paint_shadow(frame, _take(instance, rows), _take(pose, rows))
        picture = _enlarge(picture, oversampling)
        visible: list[Field] = []
        for instance, pose in objects:
            alpha = _paint_objects(picture, _take(instance, rows), _take(pose, rows), here)
            visible = [below * (1 - alpha) for below in visible] + [alpha]
        picture = _shrink(picture, oversampling)
        front = frame.over(picture, Tape(make_keys("occluder", here.keys)))
        clear = 1 - _enlarge(scenes.paint_occluder(front, here), oversampling)
        for k, alpha in enumerate(visible):
            boxes[rows, k] = _boxes(alpha * clear)
        images[rows] = _develop(picture, here)
    return images, boxes


def image_keys(class_ids: ArrayLike, indices: ArrayLike, *, split: str, seed: int):
    """Keys (n,) of images `indices` of classes `class_ids` in a split: all that they depend on."""
    words = np.concatenate([make_keys(record.name) for record in CLASSES])
    return make_keys("embedded world", seed, split, words[np.asarray(class_ids)], indices)


def render_images(
    class_ids: ArrayLike, indices: ArrayLike, *, split: str, seed: int = 0, size: int = 32
) -> tuple[NDArray[np.uint8], Field]:
    """Renders single-object pictures, each settled by (seed, split, class, index) alone.

    Args:
      class_ids: (n,) labels, see `classes.class_names`.
      indices: (n,) which picture of its class each is, from 0.
      split: name of the split, 'train' or 'val' in the prepared dataset.
      seed: of the whole world, not negative.
      size: height and width in pixels.

    Returns:
      Images, uint8 (n, size, size, 3), and boxes, float32 (n, 4): ymin, xmin, ymax, xmax in 0..1.
    """
    class_ids = np.atleast_1d(np.asarray(class_ids, np.int64))
    class_ids, indices = np.broadcast_arrays(class_ids, np.asarray(indices, np.int64))
    if seed < 0 or (indices.size and indices.min() < 0):
        raise ValueError(f"seed and indices must not be negative, got seed {seed} and {indices}")
    if class_ids.size and not 0 <= class_ids.min() <= class_ids.max() < len(CLASSES):
        raise ValueError(f"class_ids must lie in 0..{len(CLASSES) - 1}, got {class_ids}")
    order = np.argsort(class_ids, kind="stable")
    back = np.argsort(order, kind="stable")
    keys = image_keys(class_ids[order], indices[order], split=split, seed=seed)
    instance = scenes.sample_instance(class_ids[order], keys)
    view = scenes.sample_view(class_ids[order], keys)
    images, boxes = render([(instance, view.pose)], view.setting, size=size)
    return images[back], boxes[back, 0]
