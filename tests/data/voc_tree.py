"""A miniature of the folder of PASCAL VOC's development kit, and of TFDS's voc/2012."""

import io

import image_trees
import numpy as np
import tensorflow_datasets as tfds

from transfer_jax.data import voc

IMAGES = {
    "train": {
        "2008_000001": [("person", 0), ("dog", 0)],
        "2008_000002": [("chair", 1)],
        "2008_000003": [("person", 1), ("person", 0), ("car", 1)],
    },
    "val": {"2009_000004": [("cat", 0)], "2009_000005": [("cat", 1), ("tvmonitor", 0)]},
}
"""For each image its objects: class, and whether it is difficult."""

SIZES = {"2008_000001": (30, 41), "2008_000002": (25, 20), "2008_000003": (33, 37),
         "2009_000004": (21, 50), "2009_000005": (50, 33)}  # fmt: skip
"""Height and width."""

PEOPLE = {
    "train": {
        ("2008_000001", 1): {"running": 1, "phoning": 0},
        ("2008_000003", 2): {"walking": 1, "phoning": 1},
    },
    "val": {("2008_000003", 1): {"reading": 1}},
}
"""For each person, an object's place counted from 1, what the lists say other than -1."""


def box(place):
    """(xmin, ymin, xmax, ymax) of an object, pixels counted from 1, the last one included."""
    return 3 + place, 5, 12 + 2 * place, 20


def picture(name):
    """Striped in both directions, so that a crop that is off by a pixel shows."""
    return image_trees.pixels(int(name[-1]), *SIZES[name])


def jpeg(name):
    return image_trees.encoded(picture(name))


def target(objects, wanted):
    marks = [difficult for name, difficult in objects if name == wanted]
    return -1 if not marks else int(0 in marks)


def folder(root):
    """`root/VOC2012` with images, annotations and the lists of both tasks."""
    home = root / "VOC2012"
    for split, images in IMAGES.items():
        for name, objects in images.items():
            image_trees.write(home / "JPEGImages" / f"{name}.jpg", jpeg(name))
            annotation = "".join(_object(place, *item) for place, item in enumerate(objects, 1))
            text = f"<annotation><filename>{name}.jpg</filename>{annotation}</annotation>"
            image_trees.write(home / "Annotations" / f"{name}.xml", text.encode())
        lists = home / "ImageSets" / "Main"
        image_trees.write(lists / f"{split}.txt", "".join(f"{n}\n" for n in images).encode())
        for wanted in voc.CLASSES:
            lines = [f"{name} {target(objects, wanted):2d}\n" for name, objects in images.items()]
            image_trees.write(lists / f"{wanted}_{split}.txt", "".join(lines).encode())
        for action in voc.ACTIONS:
            lines = [
                f"{name}  {place} {said.get(action, -1):2d}\n"
                for (name, place), said in PEOPLE[split].items()
            ]
            path = home / "ImageSets" / "Action" / f"{action}_{split}.txt"
            image_trees.write(path, "".join(lines).encode())
    return root


def _object(place, name, difficult):
    edges = zip(("xmin", "ymin", "xmax", "ymax"), box(place), strict=True)
    inner = "".join(f"<{edge}>{value}.0</{edge}>" for edge, value in edges)
    return (
        f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated>"
        f"<difficult>{difficult}</difficult><bndbox>{inner}</bndbox></object>"
    )


class Voc(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The features, config, version and splits of TFDS's voc/2012."""

    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name="2012", version=tfds.core.Version("5.0.0"))
    ]

    def _info(self):
        label = tfds.features.ClassLabel(names=voc.CLASSES)
        pose = tfds.features.ClassLabel(names=["frontal", "rear", "left", "right", "unspecified"])
        features = {
            "image": tfds.features.Image(),
            "image/filename": tfds.features.Text(),
            "objects": tfds.features.Sequence(
                {
                    "label": label,
                    "bbox": tfds.features.BBoxFeature(),
                    "pose": pose,
                    "is_truncated": np.bool_,
                    "is_difficult": np.bool_,
                }
            ),
            "labels": tfds.features.Sequence(label),
            "labels_no_difficult": tfds.features.Sequence(label),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {
            "test": self._generate_examples({"2008_000001": []}),
            "train": self._generate_examples(IMAGES["train"]),
            "validation": self._generate_examples(IMAGES["val"]),
        }

    def _generate_examples(self, images):
        for key, (name, objects) in enumerate(images.items()):
            _, width = SIZES[name]
            yield (
                key,
                {
                    "image": io.BytesIO(jpeg(name)),
                    "image/filename": f"{name}.jpg",
                    "objects": [
                        {
                            "label": item,
                            "bbox": tfds.features.BBox(0.0, place / width, 0.5, 1.0),
                            "pose": "left",
                            "is_truncated": False,
                            "is_difficult": bool(difficult),
                        }
                        for place, (item, difficult) in enumerate(objects)
                    ],
                    "labels": sorted({item for item, _ in objects}),
                    "labels_no_difficult": sorted({item for item, hard in objects if not hard}),
                },
            )


def tfds_folder(data_dir):
    Voc(data_dir=data_dir, file_format="array_record").download_and_prepare()
    return data_dir
