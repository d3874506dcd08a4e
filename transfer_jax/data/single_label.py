"""Images of several labels, shown to a softmax that wants one: those with exactly one class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from transfer_jax.data.multilabel import MultiLabelDataset
from transfer_jax.data.records import RecordSource


@dataclasses.dataclass(frozen=True)
class SingleLabelDataset:
    """A multi-label dataset, to be used as a `Dataset`: most people do one of VOC's ten actions.

    All records keep their places; those that show several classes, or none, have label -1, which a
    `Task` leaves out of training and of its accuracy.

    Attributes:
      base: the dataset with a target for every class.

    Example:
      people = SingleLabelDataset(open_multilabel(DatasetSpec("voc_actions", path=kit), data_dir))
      task = whole_task("B", people)
    """

    base: MultiLabelDataset

    @property
    def name(self) -> str:
        """Identity of the content."""
        return f"{self.base.name}/single_label"

    @property
    def class_names(self) -> tuple[str, ...]:
        """In label order."""
        return self.base.class_names

    @property
    def class_paths(self) -> tuple[tuple[str, ...], ...] | None:
        """The hierarchy, one path from root to leaf per class, or None."""
        return self.base.class_paths

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return self.base.splits

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """(h, w, 3) where all images have one shape, else None."""
        return self.base.image_shape

    @property
    def image_size(self) -> int | None:
        """Side length of the squares that images are made, or None."""
        return self.base.image_size

    @property
    def fit(self) -> str:
        """How images are made squares as they are decoded, one of `images.FITS`."""
        return self.base.fit

    @property
    def directory(self) -> Path:
        """Where what is computed from the data is kept."""
        return self.base.directory

    @property
    def num_records(self) -> Mapping[str, int]:
        """How many records each split has, those without a label among them."""
        return self.base.num_records

    def labels(self, split: str) -> np.ndarray:
        """The only class of every record of a split, int32 (N,); -1 where there is not one only.

        A class that is merely ignored in an image (target 0) does not count as shown.
        """
        shown = self.base.targets(split) == 1
        return np.where(shown.sum(axis=1) == 1, shown.argmax(axis=1), -1).astype(np.int32)

    def images(
        self, split: str, indices: Sequence[int] | np.ndarray, *, progress: bool = False
    ) -> np.ndarray:
        """Decoded images of a split, see `MultiLabelDataset.images`."""
        return self.base.images(split, indices, progress=progress)

    def record_source(self, split: str) -> RecordSource:
        """Random access to the records of a split, see `MultiLabelDataset.record_source`."""
        return self.base.record_source(split)
