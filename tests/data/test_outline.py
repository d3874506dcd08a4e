import numpy as np
import pytest

from transfer_jax.data.dataset_spec import DatasetSpec
from transfer_jax.data.folds import Fold, fold_dataset
from transfer_jax.data.listings import image_folder
from transfer_jax.data.outline import NoImagesError, outline
from transfer_jax.data.single_label import SingleLabelDataset
from transfer_jax.data.splits import ilsvrc_indices, man_made_natural, random_halves
from transfer_jax.data.tasks import subset_task, whole_task

IMAGENET = DatasetSpec("tfds", name="imagenet2012", image_size=256)


def test_its_classes_and_halves_are_those_of_the_folders_of_all_1000_classes(tmp_path):
    for wnid in reversed(ilsvrc_indices()):
        for split in ("train", "val"):
            folder = tmp_path / split / wnid
            folder.mkdir(parents=True)
            (folder / "1.JPEG").touch()
    names = image_folder(tmp_path).class_names
    known = outline(IMAGENET)
    assert known.class_names == names and len(set(names)) == 1000
    for seed in range(4):
        for half in random_halves(1000, seed):
            task = subset_task("A", known, half)
            assert [known.class_names[c] for c in task.dataset_classes] == [names[c] for c in half]
    assert man_made_natural(known.class_names, known.class_paths) == man_made_natural(names)


@pytest.mark.parametrize(
    "spec",
    [
        IMAGENET,
        DatasetSpec("ilsvrc2012", path="nowhere"),
        DatasetSpec("tfds", name="imagenet2012:5.1.0"),
    ],
)
def test_images_of_imagenet_are_spread_evenly(spec):
    known = outline(spec)
    counts = {split: np.bincount(known.labels(split)) for split in known.splits}
    assert counts["train"].sum() == 1_281_167 and counts["val"].tolist() == [50] * 1000
    # 1281 for each class, and one of the 167 that are left for each of the first.
    assert counts["train"].tolist() == [1282] * 167 + [1281] * 833
    indices, labels = whole_task("W", known, images_per_class=10).select(known.labels("train"))
    assert len(indices) == 10_000 and (np.bincount(labels) == 10).all()
    with pytest.raises(ValueError, match=r"has the splits train, val; got 'test'"):
        known.labels("test")


def test_it_follows_the_spec():
    known = outline(DatasetSpec("ilsvrc2012", path="x", image_size=128, fit="centre"))
    assert known.image_shape == (128, 128, 3)
    assert (known.image_size, known.fit) == (128, "centre")
    assert outline(DatasetSpec("tfds", name="imagenet2012")).image_shape is None


def test_it_refuses_everything_that_takes_files():
    known = outline(IMAGENET)
    for ask in (
        lambda: known.images("train", [0]),
        lambda: known.record_source("val"),
        lambda: known.directory,
    ):
        with pytest.raises(NoImagesError, match=r"imagenet2012 \(outline\) has no .*--dry_run"):
            ask()


@pytest.mark.parametrize(
    ("spec", "classes", "train", "val", "member"),
    [
        (DatasetSpec("tfds", "caltech101", image_size=256), 102, 3059, 6085, "background_google"),
        (DatasetSpec("class_folder", path="x/256_ObjectCategories"), 257, 30_607, 0, "257.clutter"),
        (DatasetSpec("sun397", path="SUN397"), 397, 50 * 397, 50 * 397, "001"),
        (DatasetSpec("tfds", "voc/2012"), 20, 5717, 5823, "dog"),
        (DatasetSpec("voc_actions", path="VOC2012"), 10, 3134, 3144, "reading"),
    ],
    ids=lambda value: value.kind if isinstance(value, DatasetSpec) else None,
)
def test_other_public_datasets(spec, classes, train, val, member):
    known = outline(spec)
    assert len(known.class_names) == classes and member in known.class_names
    assert (len(known.labels("train")), len(known.labels("val"))) == (train, val)


def test_others_are_not_known():
    for spec in (
        DatasetSpec("world"),
        DatasetSpec("folder", path="x"),
        DatasetSpec("tiny_imagenet", path="x"),
        DatasetSpec("class_folder", path="caltech"),
        DatasetSpec("tfds", name="cifar10"),
        DatasetSpec("tfds", name="sun397"),  # Its splits are others than the partitions'.
    ):
        assert outline(spec) is None


def test_folds_and_single_labels_are_drawn_from_it():
    pool = outline(DatasetSpec("class_folder", path="256_ObjectCategories", image_size=64))
    fold = fold_dataset(pool, Fold(0, train_per_class=60, test_per_class=20, classes=range(256)))
    assert fold.num_records["train"] == 60 * 256 and fold.num_records["val"] == 20 * 256
    people = outline(DatasetSpec("voc_actions", path="VOC2012", image_size=64))
    single = SingleLabelDataset(people)
    np.testing.assert_array_equal(single.labels("val"), people.labels("val"))
    assert set(np.unique(people.targets("train"))) == {-1, 1}
