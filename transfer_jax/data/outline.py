"""Public datasets as plans see them where their files are not: classes and counts, no image.

What a grid costs follows from numbers that are public. So it can be planned on a laptop, before
anybody has fetched 150 GB.
"""

from __future__ import annotations

from pathlib import PurePath

import numpy as np

from transfer_jax.data.dataset import Boxes, Dataset
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.data.splits import ilsvrc_indices
from transfer_jax.data.voc import ACTIONS, CLASSES


class NoImagesError(ValueError):
    """Images were asked of a dataset of which only classes and counts are known."""


def outline(spec: DatasetSpec) -> Dataset | None:
    """A public dataset without its files, None where it is not known.

    ILSVRC2012, Caltech-101, Caltech-256, SUN397, and VOC 2007 and 2012 are known. How many images
    each class has is not: they are spread evenly, which changes no cost, one object in the middle
    of each of VOC's. Its name says that it is an outline, and reading an image raises
    NoImagesError.
    """
    title = {"ilsvrc2012": "imagenet2012"}.get(spec.kind, spec.kind)
    if spec.kind == "tfds":
        title = spec.name.partition(":")[0]
    elif spec.kind in ("class_folder", "voc"):
        title = _FOLDERS.get(PurePath(spec.path).name, title)
    if title not in _KNOWN:
        return None
    class_names, counts = _KNOWN[title]
    class_names = [f"{name:03d}" if isinstance(name, int) else name for name in class_names()]
    labels = [np.arange(n) * len(class_names) // n for n in counts.values()]
    labels = np.concatenate(labels).astype(np.int32)
    rows = np.split(np.arange(len(labels)), np.cumsum([*counts.values()]))
    splits, boxes = {split: part for split, part in zip(counts, rows, strict=False) if split}, None
    if title.startswith("voc"):
        middle = np.full((len(labels), 4), (0.25, 0.25, 0.75, 0.75), np.float32)
        boxes = Boxes(np.arange(len(labels) + 1), labels, middle, np.zeros(len(labels), bool))
        labels = (labels[:, None] == np.arange(len(class_names))).astype(np.int8)
        splits["trainval"] = np.concatenate([splits["train"], splits["val"]])
    return Dataset(
        name=f"{title} (outline)",
        class_names=tuple(class_names),
        labels=labels,
        splits=splits,
        source=_NoImages(),
        boxes=boxes,
        image_shape=(spec.image_size, spec.image_size, 3) if spec.image_size else None,
    )


class _NoImages:
    def shape(self, row: int) -> tuple[int, int]:
        return 375, 500

    def image(self, row: int) -> np.ndarray:
        raise NoImagesError("only classes and counts are known: this dataset serves to plan")


_FOLDERS = {
    "101_ObjectCategories": "caltech101_folder",
    "256_ObjectCategories": "caltech256",
    "VOC2007": "voc/2007",
    "VOC2012": "voc/2012",
}

_KNOWN = {
    "imagenet2012": (ilsvrc_indices, {"train": 1_281_167, "val": 50_000}),
    "caltech101": (lambda: [*range(1, 102), "background_google"], {"train": 3059, "val": 6085}),
    "caltech101_folder": (lambda: ["BACKGROUND_Google", *range(1, 102)], {"": 9144}),
    "caltech256": (lambda: [*range(1, 257), "257.clutter"], {"": 30_607}),
    # Of each class 50 images to train and 50 to test in every partition.
    "sun397": (lambda: range(1, 398), {"train": 19_850, "val": 19_850}),
    "voc/2007": (lambda: CLASSES, {"train": 2501, "val": 2510, "test": 4952}),
    "voc/2012": (lambda: CLASSES, {"train": 5717, "val": 5823}),
    # People, not images.
    "voc_actions": (lambda: ACTIONS, {"train": 3134, "val": 3144}),
}
