"""Images that may hold several classes at once, with a target for each class.

Sources are PASCAL VOC, from TFDS or from the folder of its development kit, the people of its
action task, and the embedded world's pictures of several objects.
"""

import dataclasses
import functools
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds

from transfer_jax.data import voc, world
from transfer_jax.data.datasets import random_access_info, read_images, split_names
from transfer_jax.data.images import size_name
from transfer_jax.data.multilabel_sources import LABELS, Source, TfdsSource, VocSource
from transfer_jax.data.records import RecordSource
from transfer_jax.data.sources import DatasetSpec, build, existing_path, tfds_directory

VOC_VERSION = "1.0.0"
"""Version of how VOC's folder is read: raise it when the same files would give other records."""


@dataclasses.dataclass(frozen=True)
class MultiLabelDataset:
    """Images with a target for every class. Made by `open_multilabel` or `read_multilabel`.

    Attributes:
      name: identity of the content: it changes with the content and not with the place.
      class_names: in the order of the targets' columns.
      class_paths: the hierarchy, one path from root to leaf per class, or None.
      splits: names of the splits; 'train' and 'val' are always among them.
      image_shape: (h, w, 3) where all images have one shape, else None.
      directory: where what is computed from the data is kept; no part of the identity.
      num_records: for each of `splits` how many records it has.
      image_size: side length of the squares that images are made, or None.
      sources: for each of `splits` how its records are read.
      fit: how images are made squares, one of `images.FITS`.
    """

    name: str
    class_names: tuple[str, ...]
    class_paths: tuple[tuple[str, ...], ...] | None
    splits: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    directory: Path = dataclasses.field(compare=False)
    num_records: Mapping[str, int] = dataclasses.field(compare=False)
    image_size: int | None
    sources: Mapping[str, Source] = dataclasses.field(compare=False, repr=False)
    fit: str = "squash"

    def targets(self, split: str) -> np.ndarray:
        """What is in each image of a split, in record order. No image is decoded.

        Args:
          split: one of `splits`.

        Returns:
          int8 (N, K): 1 where an image shows the class, -1 where it does not, and 0 where it is to
          be left out of the class's training and evaluation, because all that it shows of it is
          marked as difficult.

        Raises:
          ValueError: no such split, or one whose images are not annotated (VOC 2012's 'test').

        Example:
          >>> (dataset.targets("train") == 1).sum(axis=0)  # images of each class
        """
        targets = self._source(split).targets()
        if not (targets == 1).any():
            raise ValueError(
                f"the split {split} of {self.name} is not annotated: no image has a class"
            )
        return targets

    def images(
        self, split: str, indices: Sequence[int] | np.ndarray, *, progress: bool = False
    ) -> np.ndarray:
        """Decoded images of a split; kept beside the data as by `Dataset.images`.

        Args:
          split: one of `splits`.
          indices: (n,) positions in the split, in any order.
          progress: whether to show a progress bar while decoding.

        Returns:
          uint8 (n, h, w, 3), in the order of `indices`.

        Raises:
          ValueError: the images do not all have one shape.
          IndexError: an index lies outside the split.
        """
        source = self._source(split)
        size = f"-{size_name(self.image_size, self.fit)}" if self.image_size else ""
        return read_images(
            source.reader,
            self.directory / f"images-{source.stored}{size}.npy",
            indices,
            count=self.num_records[split],
            image_shape=self.image_shape,
            what=f"{self.name} {split}",
            progress=progress,
        )

    def record_source(self, split: str) -> RecordSource:
        """Random access to the records of a split; made for Grain, and can be pickled.

        Args:
          split: one of `splits`.

        Returns:
          An object with `len(source)` and `source[i]`, a dict of `image`: uint8 (h, w, 3);
          `targets`: int8 (K,), see `targets`; `id`: str; and, where the data has them, `boxes`:
          float32 (k, 4) of all objects, each (ymin, xmin, ymax, xmax) as fractions of the image's
          sides, and `box_labels`: int32 (k,), the class of each.
        """
        return self._source(split).records()

    def _source(self, split: str) -> Source:
        if split not in self.sources:
            raise ValueError(f"{self.name} has the splits {', '.join(self.splits)}; got {split!r}")
        return self.sources[split]


def open_multilabel(
    spec: DatasetSpec, data_dir: str | os.PathLike, *, progress: bool = True
) -> MultiLabelDataset:
    """Opens a dataset of images with several labels, preparing it under `data_dir` if it has to be.

    Args:
      spec: which dataset: kind 'tfds' with a name like 'voc/2012'; 'voc' and 'voc_actions' with the
        path of `VOCdevkit/VOC2012`, which is read as it lies; or 'world_scenes'.
      data_dir: the TFDS folder where prepared datasets, and what is computed from them, are kept;
        it is made if it is missing.
      progress: whether to show progress bars.

    Returns:
      The dataset.

    Raises:
      FileNotFoundError: the path, or a file that the lists name, is missing.
      ValueError: a dataset of another sort, or lists that contradict each other.
      ImportError: TFDS would have to prepare the data and lacks a package for it.
      OSError: the disk is full.

    Example:
      voc = open_multilabel(DatasetSpec("voc", path="VOCdevkit/VOC2012", image_size=256), data_dir)
      images, targets = voc.images("val", range(100)), voc.targets("val")[:100]
    """
    data_dir = Path(data_dir).expanduser()
    data_dir.mkdir(parents=True, exist_ok=True)
    if spec.kind == "tfds":
        directory = tfds_directory(spec.name, data_dir, progress)
        return read_multilabel(directory, image_size=spec.image_size, fit=spec.fit)
    if spec.kind == "world_scenes":
        config = world.scenes_config(size=spec.image_size, seed=spec.seed, **spec.world_counts())
        builder = world.EmbeddedScenes(config=config, data_dir=data_dir, file_format="array_record")
        return read_multilabel(build(builder, progress), class_paths=world.class_paths())
    if spec.kind in ("voc", "voc_actions"):
        path = existing_path(spec, data_dir)
        listing = (voc.classification if spec.kind == "voc" else voc.actions)(path)
        return _read_voc(listing, spec, data_dir)
    raise ValueError(
        f"a dataset of kind {spec.kind!r} has one label for each image: open it by "
        "transfer_jax.data.sources.open_dataset"
    )


def read_multilabel(
    directory: str | os.PathLike,
    *,
    class_paths: Sequence[Sequence[str]] | None = None,
    image_size: int | None = None,
    fit: str = "squash",
) -> MultiLabelDataset:
    """Opens a prepared TFDS dataset that has PASCAL VOC's features.

    Args:
      directory: the folder that holds `dataset_info.json`. Its features are `image`, `labels` (a
        sequence of classes) and, where some objects are difficult, `labels_no_difficult`.
      class_paths: the class hierarchy, one path from root to leaf per class, if there is one.
      image_size: side length in pixels of the squares that images are made as they are decoded;
        None takes them as they are stored.
      fit: how they are made squares, one of `images.FITS`.

    Returns:
      The dataset. 'val' is its 'val' or 'validation' split, or else its 'test' split.

    Raises:
      ValueError: features, splits or storage format are not such; the message says which.
    """
    directory = Path(directory)
    info = random_access_info(directory)
    image, labels = (dict(info.features).get(key) for key in ("image", LABELS))
    label = getattr(labels, "feature", None)
    is_image = isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8
    if not is_image or not isinstance(label, tfds.features.ClassLabel) or not label.num_classes:
        raise ValueError(
            f"{info.full_name} should have the features image (uint8) and labels (a sequence of "
            f"classes); its features are {info.features}"
        )
    class_names = tuple(label.names or map(str, range(label.num_classes)))
    stored_splits = split_names(info)
    num_records = {split: info.splits[name].num_examples for split, name in stored_splits.items()}
    height, width = (image_size, image_size) if image_size else image.shape[:2]
    return MultiLabelDataset(
        name=info.full_name + (f"/{size_name(image_size, fit)}" if image_size else ""),
        class_names=class_names,
        class_paths=None if class_paths is None else tuple(map(tuple, class_paths)),
        splits=tuple(stored_splits),
        image_shape=None if None in (height, width) else (height, width, 3),
        directory=directory,
        num_records=num_records,
        image_size=image_size,
        sources={
            split: TfdsSource(
                directory, name, num_records[split], len(class_names), image_size, fit
            )
            for split, name in stored_splits.items()
        },
        fit=fit,
    )


def _read_voc(listing: voc.VocListing, spec: DatasetSpec, data_dir: Path) -> MultiLabelDataset:
    config = f"{size_name(spec.image_size, spec.fit)}_{listing.fingerprint()}"
    if spec.kind == "voc_actions":
        config = f"margin{spec.margin:g}_{config}"
    directory = data_dir / f"{spec.kind}_folder" / config / VOC_VERSION
    directory.mkdir(parents=True, exist_ok=True)
    return MultiLabelDataset(
        name=str(directory.relative_to(data_dir)),
        class_names=listing.class_names,
        class_paths=None,
        splits=tuple(listing.splits),
        image_shape=(spec.image_size, spec.image_size, 3),
        directory=directory,
        num_records={split: len(entries) for split, entries in listing.splits.items()},
        image_size=spec.image_size,
        sources={
            split: VocSource(
                split,
                functools.partial(
                    voc.VocReader,
                    listing.root,
                    entries,
                    spec.image_size,
                    spec.margin,
                    spec.fit,
                ),
                entries,
            )
            for split, entries in listing.splits.items()
        },
        fit=spec.fit,
    )
