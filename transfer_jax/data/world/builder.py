"""The embedded world as datasets of TensorFlow Datasets, prepared without TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Iterator

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from transfer_jax.data.world.classes import CLASSES, class_names
from transfer_jax.data.world.multi_object import MOST_OBJECTS, render_scenes
from transfer_jax.data.world.rendering import render_images
from transfer_jax.data.world.scenes import ABSENT

_BATCH = 128  # images rendered at a time

_DIFFICULT = 1 / 12  # share of the picture below which the box of an object counts as small


@dataclasses.dataclass(eq=False)
class WorldConfig(tfds.core.BuilderConfig):
    """Which pictures of the embedded world; see `world_config`.

    Attributes:
      size: height and width in pixels.
      train_per_class, val_per_class: number of images of each class in the two splits.
      seed: of the whole world.
    """

    size: int = 32
    train_per_class: int = 500
    val_per_class: int = 100
    seed: int = 0


def world_config(
    size: int = 32, train_per_class: int = 500, val_per_class: int = 100, seed: int = 0
) -> WorldConfig:
    """A config whose name tells all its settings, so that no two share files on disk.

    Args:
      size: height and width in pixels, at least 8.
      train_per_class, val_per_class: number of images of each class, at least 1.
      seed: not negative.

    Example:
      `world_config(64, 200, 50).name == '64px_200train_50val_seed0'`
    """
    _require_at_least(size=(size, 8), train_per_class=(train_per_class, 1),
                      val_per_class=(val_per_class, 1), seed=(seed, 0))  # fmt: skip
    return _config(int(size), int(train_per_class), int(val_per_class), int(seed))


# Cached because a builder takes its own default config only as the very same object.
@functools.cache
def _config(size: int, train_per_class: int, val_per_class: int, seed: int) -> WorldConfig:
    return WorldConfig(
        name=f"{size}px_{train_per_class}train_{val_per_class}val_seed{seed}",
        description=f"{len(CLASSES)} classes, {size} x {size} pixels",
        size=size,
        train_per_class=train_per_class,
        val_per_class=val_per_class,
        seed=seed,
    )


def _require_at_least(**limits: tuple[int, int]) -> None:
    for name, (value, least) in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")


def _png(image: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    # Stored, not deflated: sensor noise hardly shrinks (a fifth), and deflating takes most time.
    PIL.Image.fromarray(image).save(buffer, "png", compress_level=0)
    buffer.seek(0)
    return buffer


class EmbeddedWorld(tfds.core.GeneratorBasedBuilder):
    """Photographs-in-miniature of natural and man-made things, rendered where they are needed.

    Example::

      builder = EmbeddedWorld(
          config=world_config(size=32), data_dir=data_dir, file_format='array_record')
      builder.download_and_prepare()
      train = builder.as_data_source('train')
      train[0]['image'], train[0]['label'], train[0]['objects']['bbox']
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "40 classes."}  # noqa: RUF012
    BUILDER_CONFIGS = [world_config()]  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        size, names = self.builder_config.size, list(class_names())
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=names),
                    "id": tfds.features.Text(),
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": tfds.features.ClassLabel(names=names),
                        }
                    ),
                }
            ),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager
        config = self.builder_config
        return {
            "train": self._generate_examples("train", config.train_per_class),
            "val": self._generate_examples("val", config.val_per_class),
        }

    def _generate_examples(self, split: str, per_class: int) -> Iterator[tuple[str, dict]]:
        config = self.builder_config
        for label, name in enumerate(class_names()):
            for start in range(0, per_class, _BATCH):
                indices = np.arange(start, min(start + _BATCH, per_class))
                images, boxes = render_images(
                    label, indices, split=split, seed=config.seed, size=config.size
                )
                for index, image, box in zip(indices, images, boxes.tolist(), strict=True):
                    key = f"{split}/{name}/{index:05d}"
                    yield (
                        key,
                        {
                            "image": _png(image),
                            "label": label,
                            "id": key,
                            "objects": [{"bbox": tfds.features.BBox(*box), "label": label}],
                        },
                    )


@dataclasses.dataclass(eq=False)
class ScenesConfig(WorldConfig):
    """Which pictures of several objects; see `scenes_config`.

    Attributes:
      train_per_class, val_per_class: number of pictures whose first object is of each class.
      max_objects: the most objects in a picture.
    """

    train_per_class: int = 25
    val_per_class: int = 12
    max_objects: int = 3


def scenes_config(
    size: int = 32,
    train_per_class: int = 25,
    val_per_class: int = 12,
    seed: int = 0,
    max_objects: int = 3,
) -> ScenesConfig:
    """A config whose name tells all its settings, so that no two share files on disk.

    Args:
      size: height and width in pixels, at least 8.
      train_per_class, val_per_class: number of pictures whose first object is of each class, at
        least 1; with 40 classes the defaults make 1,000 and 480 pictures.
      seed: not negative.
      max_objects: the most objects in a picture, 1 .. `MOST_OBJECTS`.

    Example:
      `scenes_config().name == '32px_1to3objects_25train_12val_seed0'`
    """
    _require_at_least(size=(size, 8), train_per_class=(train_per_class, 1), seed=(seed, 0),
                      val_per_class=(val_per_class, 1), max_objects=(max_objects, 1))  # fmt: skip
    if max_objects > MOST_OBJECTS:
        raise ValueError(f"max_objects must lie in 1 .. {MOST_OBJECTS}, got {max_objects}")
    return _scenes_config(
        int(size), int(train_per_class), int(val_per_class), int(seed), int(max_objects)
    )


@functools.cache
def _scenes_config(
    size: int, train_per_class: int, val_per_class: int, seed: int, max_objects: int
) -> ScenesConfig:
    return ScenesConfig(
        name=f"{size}px_1to{max_objects}objects_{train_per_class}train_{val_per_class}val_seed{seed}",
        description=f"1 to {max_objects} objects of {len(CLASSES)} classes, {size} x {size} pixels",
        size=size,
        train_per_class=train_per_class,
        val_per_class=val_per_class,
        seed=seed,
        max_objects=max_objects,
    )


class EmbeddedScenes(tfds.core.GeneratorBasedBuilder):
    """Pictures of the embedded world with one to several objects of different classes.

    The features are those of PASCAL VOC (`tfds.builder('voc/2012')`) as far as they apply:
    `labels` are the classes in a picture, `labels_no_difficult` those that are not only there as a
    small or mostly covered object.

    Example::

      builder = EmbeddedScenes(
          config=scenes_config(max_objects=2), data_dir=data_dir, file_format='array_record')
      builder.download_and_prepare()
      train = builder.as_data_source('train')
      train[0]['image'], train[0]['labels'], train[0]['objects']['bbox']
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: dict[str, str] = {"1.0.0": "40 classes."}  # noqa: RUF012
    BUILDER_CONFIGS = [scenes_config()]  # noqa: RUF012

    def _info(self) -> tfds.core.DatasetInfo:
        size = self.builder_config.size
        label = tfds.features.ClassLabel(names=list(class_names()))
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
                    "id": tfds.features.Text(),
                    "objects": tfds.features.Sequence(
                        {
                            "bbox": tfds.features.BBoxFeature(),
                            "label": label,
                            "is_difficult": np.bool_,
                        }
                    ),
                    "labels": tfds.features.Sequence(label),
                    "labels_no_difficult": tfds.features.Sequence(label),
                }
            ),
        )

    def _split_generators(self, dl_manager) -> dict[str, Iterator]:
        del dl_manager
        config = self.builder_config
        return {
            "train": self._generate_examples("train", config.train_per_class),
            "val": self._generate_examples("val", config.val_per_class),
        }

    def _generate_examples(self, split: str, per_class: int) -> Iterator[tuple[str, dict]]:
        config, names = self.builder_config, class_names()
        firsts, indices = (grid.ravel() for grid in np.indices((len(names), per_class)))
        for start in range(0, len(firsts), _BATCH):
            rows = slice(start, start + _BATCH)
            images, labels, boxes = render_scenes(
                firsts[rows], indices[rows], split=split, seed=config.seed, size=config.size,
                max_objects=config.max_objects,
            )  # fmt: skip
            for index, image, found, where in zip(
                indices[rows], images, labels, boxes, strict=True
            ):
                key = f"{split}/{names[found[0]]}/{index:05d}"
                yield key, {"image": _png(image), "id": key, **_annotation(found, where)}


def _annotation(labels: np.ndarray, boxes: np.ndarray) -> dict:
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    # What is covered altogether cannot be asked for, as an annotator could not have marked it.
    seen = np.flatnonzero((labels != ABSENT) & (heights > 0))
    difficult = heights * widths < _DIFFICULT
    objects = [
        {
            "bbox": tfds.features.BBox(*boxes[k].tolist()),
            "label": int(labels[k]),
            "is_difficult": bool(difficult[k]),
        }
        for k in seen
    ]
    return {
        "objects": objects,
        "labels": sorted(int(labels[k]) for k in seen),
        "labels_no_difficult": sorted(int(labels[k]) for k in seen if not difficult[k]),
    }
