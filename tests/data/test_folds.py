import functools
import itertools
import pickle

import image_trees
import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given
from hypothesis import strategies as st

from transfer_jax.data import pipeline
from transfer_jax.data.folds import Fold, classes_without, fold_dataset
from transfer_jax.data.sources import DatasetSpec, open_dataset
from transfer_jax.data.tasks import Task, whole_task


class Pool:
    """Labels alone, in two splits: all that a fold is drawn from."""

    name = "pool/1.0.0"
    class_paths = None
    image_shape = (1, 1, 3)
    image_size = None

    def __init__(self, *labels):
        self._labels = dict(zip(("train", "val"), map(np.array, labels), strict=True))
        self.class_names = tuple(
            "abcdefgh"[: 1 + max(part.max() for part in self._labels.values())]
        )

    def labels(self, split):
        return self._labels[split].astype(np.int32)


def members(folded, split):
    """Of each class the set of records that a fold drew: (split, index) in the pool."""
    found = [set() for _ in folded.class_names]
    for place, label in zip(folded.positions[split], folded.labels(split), strict=True):
        found[label].add(tuple(place.tolist()))
    return found


@st.composite
def pools(draw):
    counts = draw(st.lists(st.integers(6, 15), min_size=1, max_size=5))
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.concatenate([labels, np.full(draw(st.integers(0, 3)), -1)])
    labels = np.random.default_rng(draw(st.integers(0, 99))).permutation(labels)
    cut = draw(st.integers(1, len(labels) - 1))
    return Pool(labels[:cut], labels[cut:]), counts


@given(pools(), st.integers(0, 9), st.integers(1, 5), st.none() | st.integers(1, 12))
def test_a_fold_divides_each_class(pool, seed, train, test):
    dataset, counts = pool
    folded = fold_dataset(dataset, Fold(seed, train, test))
    trained, tested = members(folded, "train"), members(folded, "val")
    for label, count in enumerate(counts):
        assert len(trained[label]) == train
        left = count - train
        assert len(tested[label]) == (left if test is None else min(test, left))
        assert not trained[label] & tested[label]
        for place, index in trained[label] | tested[label]:
            assert dataset.labels(("train", "val")[place])[index] == label
    for split in ("train", "val"):
        assert folded.num_records[split] == len(folded.labels(split)) == len(
            set(map(tuple, folded.positions[split].tolist()))
        )  # fmt: skip


@given(pools(), st.integers(0, 9))
def test_training_sets_of_one_reserve_are_nested_and_share_their_test_images(pool, seed):
    dataset, _ = pool
    folds = [fold_dataset(dataset, Fold(seed, n, 3, reserve=5)) for n in range(1, 6)]
    for small, large in itertools.pairwise(folds):
        np.testing.assert_array_equal(small.positions["val"], large.positions["val"])
        for few, more in zip(members(small, "train"), members(large, "train"), strict=True):
            assert few < more
    # The first images of a class in record order are those of the smaller fold.
    for count, small in enumerate(folds, start=1):
        task = whole_task("W", folds[-1], images_per_class=count)
        indices, _ = task.select(folds[-1].labels("train"))
        np.testing.assert_array_equal(
            folds[-1].positions["train"][indices], small.positions["train"]
        )


@given(pools(), st.data())
def test_classes_do_not_change_each_other(pool, data):
    dataset, counts = pool
    chosen = data.draw(st.sets(st.integers(0, len(counts) - 1), min_size=1))
    whole = fold_dataset(dataset, Fold(1, 4, 2))
    part = fold_dataset(dataset, Fold(1, 4, 2, classes=tuple(chosen)))
    kept = sorted(chosen)
    assert part.class_names == tuple(dataset.class_names[index] for index in kept)
    for split in ("train", "val"):
        expected = members(whole, split)
        assert members(part, split) == [expected[index] for index in kept]
        assert set(part.labels(split)) == set(range(len(kept)))


def test_every_image_is_as_likely_as_any_other():
    dataset = Pool(np.zeros(6, int), np.zeros(4, int))
    drawn = np.zeros(10)
    for seed in range(400):
        place, index = fold_dataset(dataset, Fold(seed, 3)).positions["train"].T
        drawn[6 * place + index] += 1
    # Three of ten in each of 400 draws: 120 expected, standard deviation 9.2.
    assert drawn.sum() == 1200 and abs(drawn - 120).max() < 37


def test_draws_are_the_same_on_every_machine():
    folded = fold_dataset(Pool(np.zeros(8, int), np.ones(8, int)), Fold(3, 2, 1))
    expected = [np.random.default_rng((3, label)).permutation(8)[:3] for label in (0, 1)]
    assert folded.positions["train"][:, 1].tolist() == [*expected[0][:2], *expected[1][:2]]
    assert folded.positions["val"].tolist() == [[0, expected[0][2]], [1, expected[1][2]]]


def test_everything_of_a_fold_is_in_its_name():
    plain = dict(seed=0, train_per_class=3, test_per_class=2, reserve=3)
    changes = [
        {}, {"seed": 1}, {"train_per_class": 2}, {"test_per_class": None}, {"reserve": 4},
        {"classes": (0, 1)}, {"classes": (0, 2)}, {"splits": ("train",)},
        {"splits": ("val", "train")},
    ]  # fmt: skip
    names = {Fold(**{**plain, **change}).name for change in changes}
    assert len(names) == len(changes)
    assert all("/" not in name for name in names)
    assert Fold(0, 30, 50).name == "fold0_30train_50test"
    assert Fold(0, 1, classes=(2, 0)) == Fold(0, 1, classes=(0, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed of a fold must not be negative, got -1"),
        ({"train_per_class": 0}, "train_per_class of a fold must be at least 1, got 0"),
        ({"test_per_class": 0}, "test_per_class of a fold must be at least 1, got 0"),
        ({"reserve": 2}, "at least its train_per_class, 3, got 2"),
        ({"splits": ()}, "splits of a fold"),
        ({"splits": ("val", "val")}, "splits of a fold must be different"),
        ({"classes": ()}, "classes of a fold"),
        ({"classes": (1, 1)}, "classes of a fold must be different"),
    ],
)
def test_bad_folds(arguments, message):
    with pytest.raises(ValueError, match=message):
        Fold(**{"seed": 0, "train_per_class": 3, **arguments})


def test_what_cannot_be_drawn():
    dataset = Pool([0] * 4 + [1] * 9, [0])
    with pytest.raises(ValueError, match=r"class a has 5 images in the splits train, val of pool/.*"
                       r"but 5 are set aside for training and at least 1"):  # fmt: skip
        fold_dataset(dataset, Fold(0, 5))
    with pytest.raises(ValueError, match="class a has 4 images in the splits train of"):
        fold_dataset(dataset, Fold(0, 4, splits=("train",)))
    assert fold_dataset(dataset, Fold(0, 5, classes=(1,))).class_names == ("b",)
    with pytest.raises(ValueError, match=r"class 2 of the fold is not one of the 2 classes"):
        fold_dataset(dataset, Fold(0, 2, classes=(0, 2)))


def test_dropping_classes_by_name():
    names = ("ant", "BACKGROUND_Google", "bee")
    assert classes_without(names) == (0, 1, 2)
    assert classes_without(names, "background_google", "Ant") == (2,)
    with pytest.raises(ValueError, match="no class 'cat' to drop among ant"):
        classes_without(names, "cat")
    with pytest.raises(ValueError, match="every class is dropped"):
        classes_without(("ant",), "ant")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    image_trees.image_folder(root / "images", train=5, val=3, size=12)
    spec = DatasetSpec("folder", path=str(root / "images"), image_size=8)
    return open_dataset(spec, root / "data", progress=False)


def test_a_fold_is_used_as_a_dataset(photos):
    folded = fold_dataset(photos, Fold(0, 4, 2, classes=(0, 2)))
    assert folded.name == f"{photos.name}/{folded.fold.name}"
    assert folded.class_names == ("cat", "owl") and folded.class_paths is None
    assert folded.splits == ("train", "val") and folded.image_shape == (8, 8, 3)
    assert folded.num_records == {"train": 8, "val": 4}
    assert hash(folded) == hash(fold_dataset(photos, Fold(0, 4, 2, classes=(0, 2))))
    assert set(members(folded, "train")[0]) & {(1, index) for index in range(3)}  # of val
    for split in folded.splits:
        source = pickle.loads(pickle.dumps(folded.record_source(split)))
        images = folded.images(split, range(folded.num_records[split]))
        assert len(source) == len(images) == folded.num_records[split]
        assert images.dtype == np.uint8
        for index, (place, position) in enumerate(folded.positions[split].tolist()):
            of_base = photos.record_source(("train", "val")[place])[position]
            record = source[index]
            np.testing.assert_array_equal(images[index], of_base["image"])
            np.testing.assert_array_equal(record["image"], of_base["image"])
            assert record["id"] == of_base["id"]
            assert folded.class_names[record["label"]] == record["id"].split("/")[1]
            assert record["label"] == folded.labels(split)[index]
    shuffled = [3, 0, 3]
    np.testing.assert_array_equal(folded.images("val", shuffled), images[shuffled])
    data = pipeline.load_resident(folded, "train", Task("owls", folded.name, (-1, 0)))
    np.testing.assert_array_equal(data.images, folded.images("train", range(4, 8)))
    with pytest.raises(IndexError):
        source[4]
    with pytest.raises(IndexError, match=r"lie in 0 \.\. 3, got 0 \.\. 4"):
        folded.images("val", [0, 4])
    with pytest.raises(ValueError, match="has the splits train, val; got 'test'"):
        folded.labels("test")


def test_its_folder_is_made_when_it_is_asked_for(photos):
    folded = fold_dataset(photos, Fold(7, 2))
    expected = photos.directory / "folds" / "fold7_2train_alltest"
    assert not expected.exists()
    assert folded.directory == expected and expected.is_dir()


def test_a_fold_of_a_fold(photos):
    outer = fold_dataset(photos, Fold(0, 5, classes=(1, 2)))
    inner = fold_dataset(outer, Fold(1, 3, 1, classes=(1,), splits=("train",)))
    assert inner.class_names == ("owl",) and inner.num_records == {"train": 3, "val": 1}
    source = inner.record_source("train")
    assert all(source[index]["id"].split("/")[1] == "owl" for index in range(3))
    np.testing.assert_array_equal(source[1]["image"], inner.images("train", [1])[0])


class Caltech101(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The layout of TFDS's caltech101: images of many sizes, a background class, train and test."""

    VERSION = tfds.core.Version("3.0.2")
    NAMES = ("accordion", "background_google", "yin_yang")

    def _info(self):
        features = {
            "image": tfds.features.Image(),
            "label": tfds.features.ClassLabel(names=self.NAMES),
            "image/file_name": tfds.features.Text(),
        }
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(3), "test": self._generate_examples(4)}

    def _generate_examples(self, count):
        for label, name in enumerate(self.NAMES):
            for index in range(count):
                array = image_trees.pixels(100 * count + 10 * label + index, 20 + index, 31 - label)
                file = f"image_{index:04d}.jpg"
                yield (
                    f"{name}/{file}",
                    {
                        "image": image_trees.io.BytesIO(image_trees.encoded(array)),
                        "label": name,
                        "image/file_name": file,
                    },
                )


def test_caltech_101(tmp_path):
    builder = Caltech101(data_dir=tmp_path, file_format="array_record")
    builder.download_and_prepare()
    spec = DatasetSpec("tfds", name="caltech101", image_size=16)
    dataset = open_dataset(spec, tmp_path, progress=False)
    kept = classes_without(dataset.class_names, "background_google")
    fold = functools.partial(Fold, train_per_class=4, test_per_class=2, classes=kept)
    folds = [fold_dataset(dataset, fold(seed)) for seed in range(5)]
    assert len({folded.name for folded in folds}) == 5
    for folded in folds:
        assert folded.class_names == ("accordion", "yin_yang")
        assert folded.labels("train").tolist() == [0] * 4 + [1] * 4
        assert folded.labels("val").tolist() == [0] * 2 + [1] * 2
        assert folded.images("train", range(8)).shape == (8, 16, 16, 3)
    assert len({tuple(map(tuple, folded.positions["val"].tolist())) for folded in folds}) > 1


def test_caltech_256(tmp_path):
    root = tmp_path / "256_ObjectCategories"
    for name in ("001.ak47", "002.american-flag", "257.clutter"):
        for index in range(1, 6):
            array = image_trees.pixels(index + len(name), 18 + index, 24)
            file = f"{name[:3]}_{index:04d}.jpg"
            image_trees.write(root / name / file, image_trees.encoded(array))
    # Such strays lie in the original.
    image_trees.write(root / "001.ak47" / "stray" / "001_0001.jpg", image_trees.encoded(array))
    image_trees.write(root / "002.american-flag" / "RENAME2", b"")
    spec = DatasetSpec("class_folder", path=str(root), image_size=16)
    dataset = open_dataset(spec, tmp_path / "data", progress=False)
    assert dataset.num_records == {"train": 15, "val": 0}
    kept = classes_without(dataset.class_names, "257.clutter")
    folded = fold_dataset(dataset, Fold(0, 3, classes=kept))
    assert folded.class_names == ("001.ak47", "002.american-flag")
    assert folded.num_records == {"train": 6, "val": 4}
    ids = [folded.record_source(split)[0]["id"] for split in ("train", "val")]
    assert all(id.startswith("001.ak47/001_000") for id in ids) and ids[0] != ids[1]
