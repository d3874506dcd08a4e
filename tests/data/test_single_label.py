"""Images of several labels as images of one."""

import types

import numpy as np
import pytest
import voc_tree

from transfer_jax.data.folds import Fold, fold_dataset
from transfer_jax.data.multilabel import open_multilabel
from transfer_jax.data.pipeline import select
from transfer_jax.data.single_label import SingleLabelDataset
from transfer_jax.data.sources import DatasetSpec
from transfer_jax.data.tasks import whole_task

TARGETS = np.array(
    [
        [1, -1, -1],
        [-1, 1, 1],  # Two classes.
        [0, 0, 1],  # What is ignored does not count as shown.
        [-1, -1, -1],
        [0, -1, -1],
        [-1, 1, 0],
        [1, 1, 1],
    ],
    np.int8,
)


class Base:
    """Targets alone."""

    name, class_names, class_paths = "toy/1.0.0", ("a", "b", "c"), None

    def targets(self, split):
        return {"train": TARGETS, "val": TARGETS[[0, 2, 5]]}[split]


def test_the_label_is_the_only_class_of_an_image():
    single = SingleLabelDataset(Base())
    labels = single.labels("train")
    assert labels.dtype == np.int32 and labels.tolist() == [0, -1, 2, -1, -1, 1, -1]
    assert single.labels("val").tolist() == [0, 2, 1]


def test_a_task_leaves_the_others_out():
    single = SingleLabelDataset(Base())
    task = whole_task("B", single)
    assert task.dataset == single.name == "toy/1.0.0/single_label" and task.num_classes == 3
    places, labels = select(single, "train", task)
    assert places.tolist() == [0, 2, 5] and labels.tolist() == [0, 2, 1]


def test_a_class_that_is_never_alone_is_named():
    base = types.SimpleNamespace(
        name="toy", class_names=("a", "b"), targets=lambda split: np.array([[1, 1], [1, -1]])
    )
    single = SingleLabelDataset(base)
    with pytest.raises(ValueError, match=r"task class 1.*has no image in this split"):
        select(single, "train", whole_task("B", single))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    spec = DatasetSpec(
        "world_scenes", image_size=16, train_per_class=2, val_per_class=2, max_objects=2
    )
    return open_multilabel(spec, tmp_path_factory.mktemp("scenes"), progress=False)


def test_all_else_is_the_datasets_own(scenes):
    single = SingleLabelDataset(scenes)
    for field in ("class_names", "class_paths", "splits", "image_shape", "image_size",
                  "directory", "num_records"):  # fmt: skip
        assert getattr(single, field) == getattr(scenes, field), field
    assert single.name != scenes.name
    places = [5, 0, 79]
    np.testing.assert_array_equal(single.images("val", places), scenes.images("val", places))
    one, other = (dataset.record_source("train")[3] for dataset in (single, scenes))
    assert one["id"] == other["id"] and (one["targets"] == other["targets"]).all()
    for split in ("train", "val"):
        for label, targets in zip(single.labels(split), scenes.targets(split), strict=True):
            alone = np.flatnonzero(targets == 1)
            assert label == (alone[0] if len(alone) == 1 else -1)
    with pytest.raises(ValueError, match="has the splits train, val; got 'test'"):
        single.labels("test")


def test_folds_are_drawn_from_images_of_one_class(scenes):
    single = SingleLabelDataset(scenes)
    pooled = np.concatenate([single.labels(split) for split in ("train", "val")])
    counts = np.bincount(pooled[pooled >= 0], minlength=40)
    classes = tuple(np.flatnonzero(counts >= 2).tolist())
    assert len(classes) > 5
    fold = fold_dataset(single, Fold(0, 1, 1, classes))
    for split in ("train", "val"):
        assert fold.labels(split).tolist() == list(range(len(classes)))
        for (place, index), wanted in zip(fold.positions[split], classes, strict=True):
            assert single.labels(("train", "val")[place])[index] == wanted


def test_people_of_one_action(tmp_path):
    root = voc_tree.folder(tmp_path / "VOCdevkit")
    spec = DatasetSpec("voc_actions", path=str(root), image_size=16)
    people = SingleLabelDataset(open_multilabel(spec, tmp_path / "data", progress=False))
    # The second walks and phones at once; the first's phoning is ignored.
    labels = people.labels("train").tolist()
    assert labels == [people.class_names.index("running"), -1]
    assert people.labels("val").tolist() == [people.class_names.index("reading")]
