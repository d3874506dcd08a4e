"""Datasets as plans see them where their files are not: classes and counts, no image.

What a grid costs follows from numbers that are public. So the grid can be planned on a laptop,
before anybody has fetched 150 GB.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath
from typing import NoReturn

import numpy as np

from transfer_jax.data import voc
from transfer_jax.data.dataset_spec import DatasetSpec
from transfer_jax.data.splits import ilsvrc_indices


class NoImagesError(ValueError):
    """Images were asked of a dataset of which only classes and counts are known."""


@dataclasses.dataclass(frozen=True)
class Outline:
    """What is known of a dataset without its files, to be planned with as a `Dataset`.

    Of most datasets the number of images is known and how many of them each class has is not: they
    are spread evenly then, which changes no cost. Cells planned over an outline have other hashes
    than those over the dataset itself.

    Attributes:
      name: says that this is an outline; no identity of content.
      class_names: in label order. Where the names are not known they are numbers.
      class_paths: None, as in the dataset itself.
      image_shape: (h, w, 3), or None where images have several shapes.
      num_records: for 'train', for 'val' and for each further split how many images it has.
      image_size: side length of the squares that images are made, or None.
      fit: how they are made squares, one of `images.FITS`.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int] | None
    num_records: Mapping[str, int] = dataclasses.field(hash=False)
    image_size: int | None = None
    fit: str = "squash"
    class_paths: None = None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return tuple(self.num_records)

    def labels(self, split: str) -> np.ndarray:
        """Classes of as many images as the split has, int32 (N,), in class order.

        They are spread evenly: where that does not come out, the first classes have one more.
        """
        if split not in self.num_records:
            raise ValueError(f"{self.name} has the splits {', '.join(self.splits)}; got {split!r}")
        count, classes = self.num_records[split], len(self.class_names)
        sizes = np.full(classes, count // classes)
        sizes[: count % classes] += 1
        return np.repeat(np.arange(classes, dtype=np.int32), sizes)

    def targets(self, split: str) -> np.ndarray:
        """Stands for `MultiLabelDataset.targets`, int8 (N, K), as if every image showed one class:
        1 for it and -1 for the others."""
        shown = self.labels(split)[:, None] == np.arange(len(self.class_names))
        return np.where(shown, 1, -1).astype(np.int8)

    def images(self, split: str, indices: Sequence[int], *, progress: bool = False) -> NoReturn:
        """Refuses.

        Raises:
          NoImagesError: always.
        """
        self._refuse("images")

    def record_source(self, split: str) -> NoReturn:
        """Refuses.

        Raises:
          NoImagesError: always.
        """
        self._refuse("records")

    @property
    def directory(self) -> NoReturn:
        """Refuses: no folder belongs to an outline.

        Raises:
          NoImagesError: always.
        """
        self._refuse("folder")

    def _refuse(self, what: str) -> NoReturn:
        raise NoImagesError(
            f"{self.name} has no {what}: only its classes and counts are known. It serves to plan "
            "(--dry_run); to train, open the dataset itself"
        )


def outline(spec: DatasetSpec) -> Outline | None:
    """What is known of a public dataset without its files.

    ILSVRC2012, Caltech-101, Caltech-256, SUN397, and VOC 2012 with its actions are known.

    Args:
      spec: as for `open_dataset` or `open_multilabel`. Caltech-101 and Caltech-256 as class folders
        are told by the name of their folder, '101_ObjectCategories' and '256_ObjectCategories'.

    Returns:
      The outline, or None for any other dataset.

    Example:
      >>> outline(DatasetSpec("tfds", name="imagenet2012", image_size=256)).num_records["train"]
      1281167
    """
    known = _KNOWN.get(_title(spec))
    if known is None:
        return None
    shape = (spec.image_size, spec.image_size, 3) if spec.image_size else None
    return Outline(
        name=f"{_title(spec)} (outline)",
        class_names=known.class_names(),
        image_shape=shape,
        num_records=known.counts,
        image_size=spec.image_size,
        fit=spec.fit,
    )


@dataclasses.dataclass(frozen=True)
class _Known:
    class_names: Callable[[], tuple[str, ...]]
    counts: Mapping[str, int]


def _title(spec: DatasetSpec) -> str:
    if spec.kind == "tfds":
        return spec.name.partition(":")[0]
    if spec.kind == "class_folder":
        return {"101_ObjectCategories": "caltech101", "256_ObjectCategories": "caltech256"}.get(
            PurePath(spec.path).name, ""
        )
    return _TITLES.get(spec.kind, "")


_TITLES = {
    "ilsvrc2012": "imagenet2012",
    "sun397": "sun397 partition",
    "voc": "voc/2012",
    "voc_actions": "voc/2012 actions",
}


def _numbered(count: int, *named: str) -> Callable[[], tuple[str, ...]]:
    return lambda: (*(f"{number:03d}" for number in range(1, count + 1)), *named)


_KNOWN = {
    "imagenet2012": _Known(lambda: tuple(ilsvrc_indices()), {"train": 1_281_167, "val": 50_000}),
    "caltech101": _Known(_numbered(101, "background_google"), {"train": 3059, "val": 6085}),
    "caltech256": _Known(_numbered(256, "257.clutter"), {"train": 30_607, "val": 0}),
    # Of each class 50 images to train and 50 to test in every partition.
    "sun397 partition": _Known(_numbered(397), {"train": 19_850, "val": 19_850}),
    "voc/2012": _Known(lambda: tuple(voc.CLASSES), {"train": 5717, "val": 5823, "test": 10_991}),
    # People, not images.
    "voc/2012 actions": _Known(lambda: tuple(voc.ACTIONS), {"train": 3134, "val": 3144}),
}
