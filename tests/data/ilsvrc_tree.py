"""A miniature ILSVRC2012: right names, and the oddities that the real one has."""

import io
from pathlib import Path

import image_trees
import numpy as np
import scipy.io
import tensorflow_datasets as tfds

from transfer_jax.data.splits import ilsvrc_indices

WNIDS = ("n01440764", "n02105855", "n04074963", "n07930864")
"""In sorted order: a tench, a sheepdog, a remote control and a cup; not the first four of 1000."""

VAL = (2, 0, 3, 1, 0, 2, 1, 3)
"""Class of each validation image, in the order of their numbers."""

SIZES = ((40, 60), (60, 40), (41, 63), (80, 33), (37, 37))
"""(height, width) of the images, by turns: landscape, portrait, odd, narrow, square."""


def write(root: Path, *, truth: str = "caffe", train: int = 5, wnids=WNIDS, val=VAL) -> Path:
    """`train/<wnid>/*.JPEG` and flat `val/*.JPEG`; `truth`: devkit, caffe, kaggle or none."""
    for label, wnid in enumerate(wnids):
        for index in range(train):
            data = image_trees.encoded(train_pixels(label, index))
            image_trees.write(root / f"train/{wnid}/{wnid}_{index}.JPEG", data)
    for number, label in enumerate(val, start=1):
        data = image_trees.encoded(image_trees.pixels(500 + number, *SIZES[number % len(SIZES)]))
        image_trees.write(root / f"val/ILSVRC2012_val_{number:08d}.JPEG", data)
        assert label < len(wnids)
    if truth != "none":
        {"devkit": write_devkit, "caffe": write_caffe, "kaggle": write_kaggle}[truth](
            root, [wnids[label] for label in val]
        )
    return root


def train_pixels(label: int, index: int) -> np.ndarray:
    return image_trees.pixels(100 * label + index, *SIZES[index % len(SIZES)])


def write_odd_files(root: Path) -> dict[str, str]:
    """Puts odd files in the place of plain ones; what each is, by its id."""
    odd = {
        "train/n01440764/n01440764_1.JPEG": "CMYK",
        "train/n02105855/n02105855_2.JPEG": "PNG",
        "train/n04074963/n04074963_0.JPEG": "truncated",
        "train/n07930864/n07930864_3.JPEG": "grey",
        "val/ILSVRC2012_val_00000004.JPEG": "truncated",
    }
    for id, what in odd.items():
        array = image_trees.pixels(len(id), 45, 62)
        if what == "truncated":
            data = image_trees.encoded(array)[:-200]
        else:
            mode = {"CMYK": "CMYK", "grey": "L"}.get(what, "RGB")
            data = image_trees.encoded(array, "PNG" if what == "PNG" else "JPEG", mode)
        image_trees.write(root / id, data)
    return odd


def write_devkit(place: Path, wnids: list[str]) -> None:
    """The development kit's list, and its table whose numbers follow no order of the wnids."""
    order = np.random.default_rng(0).permutation(sorted(ilsvrc_indices()))
    # As in the original, inner nodes of the tree come after the 1000 classes.
    rows = [(number, str(wnid)) for number, wnid in enumerate(order, start=1)]
    rows += [(1001, "n00001740"), (1002, "n00004258")]
    fields = ["ILSVRC2012_ID", "WNID", "words", "num_children", "children", "num_train_images"]
    synsets = np.zeros((len(rows), 1), [(field, object) for field in fields])
    for place_in_table, (number, wnid) in enumerate(rows):
        children = np.zeros(0) if number <= 1000 else np.array([1, 2, 3])
        synsets[place_in_table, 0] = (number, wnid, f"a {wnid}", len(children), children, 1300)
    data = place / "ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    scipy.io.savemat(data / "meta.mat", {"synsets": synsets})
    number_of = {wnid: number for number, wnid in rows}
    lines = "".join(f"{number_of[wnid]}\n" for wnid in wnids)
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text(lines)


def write_caffe(place: Path, wnids: list[str], order: list[str] | None = None) -> None:
    """Caffe's list, of places among the 1000 sorted wnids or in another order."""
    place_of = ilsvrc_indices() if order is None else {wnid: i for i, wnid in enumerate(order)}
    lines = [
        f"ILSVRC2012_val_{number:08d}.JPEG {place_of[wnid]}\n"
        for number, wnid in enumerate(wnids, start=1)
    ]
    (place / "val.txt").write_text("".join(lines))


def write_kaggle(place: Path, wnids: list[str]) -> None:
    """Kaggle's list, in another order than the images and with one box or two."""
    lines = [
        f"ILSVRC2012_val_{number:08d},{wnid} 1 2 30 40 "
        + (f"{wnid} 5 6 7 8 " if number % 2 else "")
        for number, wnid in enumerate(wnids, start=1)
    ]
    text = "\n".join(["ImageId,PredictionString", *reversed(lines)]) + "\n"
    (place / "LOC_val_solution.csv").write_text(text)


class Imagenet2012(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The same images as TFDS lays them out: shuffled, named, with a split without classes."""

    name = "imagenet2012"
    VERSION = tfds.core.Version("5.1.0")

    def __init__(self, *, root: Path, label_names=WNIDS, **options):
        self.root, self.label_names = root, label_names
        super().__init__(**options)

    def _info(self):
        features = {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "label": tfds.features.ClassLabel(names=self.label_names),
            "file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        train = {path: path.parent.name for path in sorted(self.root.glob("train/*/*.JPEG"))}
        val = sorted(self.root.glob("val/*.JPEG"))
        return {
            "test": self._generate_examples(dict.fromkeys(val, -1), "test_"),
            "train": self._generate_examples(train),
            "validation": self._generate_examples(
                {path: WNIDS[label] for path, label in zip(val, VAL, strict=True)}
            ),
        }

    def _generate_examples(self, classes, prefix=""):
        for path, label in classes.items():
            image = io.BytesIO(path.read_bytes())
            yield path.name, {"image": image, "label": label, "file_name": prefix + path.name}
