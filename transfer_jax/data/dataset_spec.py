"""The description of a dataset, as a config holds it."""

import dataclasses

from transfer_jax.data import world
from transfer_jax.data.images import FITS

KINDS = (
    "world",
    "tfds",
    "folder",
    "ilsvrc2012",
    "tiny_imagenet",
    "class_folder",
    "sun397",
    "world_scenes",
    "voc",
    "voc_actions",
)
MULTILABEL_KINDS = ("world_scenes", "voc", "voc_actions")
"""Kinds whose images have several labels: `transfer_jax.data.multilabel.open_multilabel`."""

_IMAGE_SIZES = {
    "world": 32,
    "folder": 256,
    "ilsvrc2012": 256,
    "tiny_imagenet": 32,
    "class_folder": 256,
    "sun397": 256,
    "world_scenes": 32,
    "voc": 256,
    "voc_actions": 256,
}
_OF_FILES = ("folder", "tiny_imagenet", "class_folder", "sun397", "voc", "voc_actions")
_RENDERED = ("world", "world_scenes")


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """Which dataset is wanted.

    Attributes:
      kind: of datasets with one label for each image, which `open_dataset` opens: 'world' (images
        that the package renders), 'tfds' (any TFDS dataset), 'folder' (`PATH/train/<class>/*` and
        `PATH/val/<class>/*`), 'ilsvrc2012' (ImageNet's 1000 classes or some of them, as its folders
        or as TFDS prepares it), 'tiny_imagenet' (its layout, as a folder or as the archive itself),
        'class_folder' (`PATH/<class>/*`, also nested, without splits: all images are in 'train',
        for `folds.fold_dataset` to draw from; Caltech-101 and Caltech-256) or 'sun397' (the nested
        folders of SUN397 with one of its partitions). Of datasets whose images have several
        labels, which `multilabel.open_multilabel` opens: 'world_scenes' (rendered images of several
        objects), 'voc' (the folder `VOCdevkit/VOC2012`), 'voc_actions' (the people in it and what
        they do), and 'tfds' with a name like 'voc/2012'.
      name: for 'tfds' the name as TFDS takes it: 'cifar10', 'cifar10:3.0.2', 'imagenet2012',
        'caltech101'; also 'image_folder/<config>' for a folder prepared before, wherever its files
        have gone. For 'ilsvrc2012', 'imagenet2012' where its images lie in a TFDS dataset of that
        name and not in folders; they are made squares and written anew.
      path: for 'folder', 'class_folder', 'sun397', 'voc' and 'voc_actions' the folder, for
        'tiny_imagenet' the folder or archive. For 'ilsvrc2012' the folder, see
        `ilsvrc2012.ilsvrc2012_folder`, or with a name the TFDS folder, empty for that of all data.
      image_size: side length in pixels of the squares that images are made. None: 32 for 'world',
        'world_scenes' and 'tiny_imagenet', for 'tfds' the size that is stored, and 256 otherwise.
        For 'tfds', 'voc' and 'voc_actions', images are resized each time they are decoded.
      seed: for 'world' and 'world_scenes', what it is drawn from.
      train_per_class: for 'world', training images per class, for 'world_scenes' those whose first
        object is of a class; None is its own default.
      val_per_class: the same for validation images.
      on_broken: for 'folder', 'ilsvrc2012', 'class_folder', 'sun397' and 'tiny_imagenet': 'raise'
        to stop at a broken image, 'skip' to leave broken images out and list them beside the data.
      max_objects: for 'world_scenes', the most objects in an image; None is its own default.
      margin: for 'voc_actions', what is added on each side of a person's box before it is cut out,
        as a share of the box's width and height.
      partition: for 'sun397', which of its partitions into training and test images, 1 .. 10.
      fit: how images become squares of image_size: 'squash', the whole image whatever its aspect
        ratio (Caffe, Yosinski et al. 2014), or 'centre', the short side resized and the central
        square cut out (Krizhevsky et al. 2012, Zeiler & Fergus 2013).

    Raises:
      ValueError: a field has no meaning, or one that the kind needs is missing.

    Example:
      >>> DatasetSpec("folder", path="~/flowers", image_size=64).image_size
      64
    """

    kind: str
    name: str = ""
    path: str = ""
    image_size: int | None = None
    seed: int = 0
    train_per_class: int | None = None
    val_per_class: int | None = None
    on_broken: str = "raise"
    max_objects: int | None = None
    margin: float = 0.0
    partition: int = 1
    fit: str = "squash"

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ValueError(f"dataset kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if self.kind == "tfds" and not self.name:
            raise ValueError("a dataset of kind 'tfds' needs a name, for instance 'cifar10'")
        if self.kind in _OF_FILES and not self.path:
            raise ValueError(f"a dataset of kind {self.kind!r} needs the path of its images")
        if self.kind == "ilsvrc2012" and not (self.path or self.name):
            raise ValueError(
                "a dataset of kind 'ilsvrc2012' needs the path of its folders, or the name of the "
                "TFDS dataset that holds it ('imagenet2012')"
            )
        if self.image_size is None:
            object.__setattr__(self, "image_size", _IMAGE_SIZES.get(self.kind))
        elif not 1 <= self.image_size <= 4096:
            raise ValueError(f"image_size must lie in 1 .. 4096 pixels, got {self.image_size}")
        if self.on_broken not in ("raise", "skip"):
            raise ValueError(f"on_broken must be 'raise' or 'skip', got {self.on_broken!r}")
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}; got {self.fit!r}")
        if self.fit != "squash":
            self._require_cut()
        for field in ("train_per_class", "val_per_class"):
            value = getattr(self, field)
            if value is not None and (self.kind not in _RENDERED or value < 1):
                raise ValueError(
                    f"{field} is a positive number for kind 'world' or 'world_scenes', got {value} "
                    f"for kind {self.kind!r}"
                )
        most = world.MOST_OBJECTS
        if self.max_objects is not None and (
            self.kind != "world_scenes" or not 1 <= self.max_objects <= most
        ):
            raise ValueError(
                f"max_objects lies in 1 .. {most} for kind 'world_scenes', got {self.max_objects} "
                f"for kind {self.kind!r}"
            )
        if self.margin and (self.kind != "voc_actions" or not 0 <= self.margin <= 10):
            raise ValueError(
                f"margin lies in 0 .. 10 for kind 'voc_actions', got {self.margin} for kind "
                f"{self.kind!r}"
            )
        if self.partition != 1 and (self.kind != "sun397" or not 1 <= self.partition <= 10):
            raise ValueError(
                f"partition lies in 1 .. 10 for kind 'sun397', got {self.partition} for kind "
                f"{self.kind!r}"
            )

    def _require_cut(self) -> None:
        if self.kind in (*_RENDERED, "tiny_imagenet"):
            raise ValueError(
                f"fit={self.fit!r} has no meaning for kind {self.kind!r}: its images are squares"
            )
        if self.kind == "tfds" and self.image_size is None:
            raise ValueError(
                f"fit={self.fit!r} needs an image_size: images of kind 'tfds' without one stay as "
                "they are stored"
            )

    def world_counts(self) -> dict[str, int]:
        """Those of the rendered kinds' numbers that are given."""
        names = ("train_per_class", "val_per_class", "max_objects")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}
