"""The embedded world as a dataset of TensorFlow Datasets, prepared without TensorFlow."""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Iterator

import numpy as np
import PIL.Image
import tensorflow_datasets as tfds

from transfer_jax.data.world.classes import CLASSES, class_names
from transfer_jax.data.world.rendering import render_images

_BATCH = 128  # images rendered at a time


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
    limits = {"size": (size, 8), "train_per_class": (train_per_class, 1),
              "val_per_class": (val_per_class, 1), "seed": (seed, 0)}  # fmt: skip
    for name, (value, least) in limits.items():
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} is {value!r}; expected a whole number of at least {least}")
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
