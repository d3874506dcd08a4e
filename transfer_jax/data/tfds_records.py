"""Datasets that TFDS prepared, read from its records without TensorFlow."""

from __future__ import annotations

import contextlib
import functools
import logging
from pathlib import Path

import numpy as np
from array_record.python.array_record_data_source import ArrayRecordDataSource

from transfer_jax.data.batches import stream
from transfer_jax.data.dataset import Dataset, digest
from transfer_jax.data.image import size_name
from transfer_jax.data.listing import with_val
from transfer_jax.data.records import Boxes, Records, example_features, read_index, write_index
from transfer_jax.data.seals import file_digests, kept
from transfer_jax.data.splits import with_fifth

log = logging.getLogger(__name__)

_IDS = ("id", "file_name", "image/filename")
_THREADS = 8


def read_tfds(directory: Path, image_size: int | None = None, fit: str = "squash") -> Dataset:
    """Opens a dataset that TFDS stored as ArrayRecord in the folder that holds `dataset_info.json`,
    its images made squares of `image_size` as they are decoded, or as they are.

    Its features are `image` and either `label` (a class) or `labels` (a sequence of classes) with
    perhaps `labels_no_difficult`; `objects` (`bbox`, perhaps `label` and `is_difficult`) or `bbox`
    become boxes, unless `fit` cuts through them. Labels and boxes are read once and then kept
    beside the data. The name ends in twelve digits of the classes, the splits and the records'
    content. 'validation' or else 'test' stands for 'val', or else `splits.with_fifth`. Splits of
    several labels without any are left out (VOC 2012's 'test'), and 'trainval' is both 'train' and
    'val' there.
    """
    import tensorflow_datasets as tfds

    try:
        info = tfds.builder_from_directory(directory).info
        pieces = [piece for split in info.splits.values() for piece in split.file_instructions]
    except Exception as error:  # of many types
        reason = f"{type(error).__name__}: {' '.join(str(error).split()).rstrip('.')}"
        raise ValueError(f"{directory} holds no dataset that TFDS can read: {reason}") from error
    formats = [file_format.value for file_format in info.available_file_formats()]
    if "array_record" not in formats:
        raise ValueError(
            f"{info.full_name} in {directory} is stored as {', '.join(formats)}, which cannot be "
            "read at random: prepare it again with file_format='array_record'"
        )
    files = ArrayRecordDataSource(pieces)  # all splits in a row
    features = dict(info.features)
    image, feature = features.get("image"), features.get("label", features.get("labels"))
    label = getattr(feature, "feature", feature)  # of a sequence
    is_image = isinstance(image, tfds.features.Image)
    if not is_image or not isinstance(label, tfds.features.ClassLabel):
        raise ValueError(
            f"{info.full_name} should have the features image and label or labels (of classes); "
            f"it has {', '.join(features)}"
        )
    class_names = tuple(label.names or map(str, range(label.num_classes)))
    counts = {split: info.splits[split].num_examples for split in info.splits}
    names = sorted({Path(piece.filename).name for piece in pieces})
    digests, _ = file_digests(directory, names, directory / ".files.json")
    name = f"{info.full_name}_{digest(class_names, counts, digests)[:12]}"
    index = directory / "index.npz"
    source = Records(files, index, is_example=True, image_size=image_size, fit=fit)
    describe = functools.partial(_index_of, source, label is not feature, label.num_classes)
    write = lambda: write_index(index, name, splits={}, **describe())  # noqa: E731
    try:
        known = kept(index, write, lambda: read_index(index, name))
    except OSError as error:
        log.warning("labels cannot be kept in %s: %s", directory, error)
        known = describe()
    labels, boxes = known["labels"], known["boxes"] if fit == "squash" else None
    starts = dict(zip(counts, np.cumsum([0, *counts.values()]), strict=False))
    splits = with_val({split: starts[split] + np.arange(n) for split, n in counts.items()})
    if labels.ndim == 2:
        splits = {split: rows for split, rows in splits.items() if (labels[rows] == 1).any()}
        if {"train", "val"} <= set(splits):
            splits["trainval"] = np.concatenate([splits["train"], splits["val"]])
    if "train" in splits and "val" not in splits:
        splits = with_fifth(splits, labels)
        count, said = len(splits["val"]), "no images for testing: a fifth of each class"
        log.warning("%s has %s, %d images, is kept for it", info.full_name, said, count)
    shape = (image_size, image_size) if image_size else image.shape[:2]
    cache = directory / size_name(image_size, fit) if image_size else directory
    with contextlib.suppress(OSError):
        cache.mkdir(exist_ok=True)
    return Dataset(
        name=name + (f"/{cache.name}" if image_size else ""),
        class_names=class_names,
        labels=labels,
        splits=splits,
        boxes=boxes,
        source=source,
        image_shape=None if None in shape else (*shape, 3),
        directory=cache,
    )


def tfds_directory(name: str, data_dir: Path) -> Path:
    """The folder of a dataset by its TFDS name; FileNotFoundError, which says how it gets there,
    where there is none."""
    folder = data_dir / name.replace(":", "/")
    for found in (folder, *sorted(folder.glob("*"), key=_version, reverse=True)):
        if (found / "dataset_info.json").exists():
            return found
    raise FileNotFoundError(
        f"there is no {folder}: `tfds build {name} --file_format=array_record "
        f"--data_dir={data_dir}` prepares it, where TensorFlow is installed"
    )


def _version(folder: Path) -> list[int]:
    return [int(part) if part.isdecimal() else -1 for part in folder.name.split(".")]


def _index_of(source: Records, several: bool, num_classes: int) -> dict:
    """Labels, boxes and ids of all records; no image is decoded."""

    def describe(row: int) -> tuple:
        features = example_features(source.record(row))

        def numbers(key: str) -> list[int]:
            return list(features[key].int64_list.value)

        if several:
            label = np.zeros(num_classes, np.int8)
            label[numbers("labels")] = -1
            label[numbers("labels_no_difficult" if has_clear else "labels")] = 1
        else:
            (label,) = numbers("label")
        boxes = None
        if box_key:
            edges = np.reshape(features[box_key].float_list.value, (-1, 4))
            of_box = numbers("objects/label") or [-1 if several else label] * len(edges)
            boxes = of_box, edges, numbers("objects/is_difficult") or [False] * len(edges)
        id = features[id_key].bytes_list.value[0].decode() if id_key else str(row)
        return label, boxes, id

    known = set(example_features(source.record(0)))
    box_key = next((key for key in ("objects/bbox", "bbox") if key in known), None)
    id_key = next((key for key in _IDS if key in known), None)
    has_clear = "labels_no_difficult" in known
    rows = stream(describe, range(len(source.files)), _THREADS)
    labels, boxes, ids = zip(*rows, strict=True)
    return {
        "labels": np.array(labels, np.int8 if several else np.int32),
        "boxes": Boxes.of_rows(boxes) if box_key else None,
        "ids": np.array(ids),
    }
