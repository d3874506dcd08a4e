import ilsvrc_tree
import numpy as np
import pytest
from ilsvrc_tree import WNIDS
from PIL import Image

from transfer_jax.data import tfds_listing
from transfer_jax.data.sources import DatasetSpec, open_dataset


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return ilsvrc_tree.write(tmp_path_factory.mktemp("imagenet"))


def build(root, data_dir, **options):
    builder = ilsvrc_tree.Imagenet2012(
        root=root, data_dir=data_dir, file_format="array_record", **options
    )
    builder.download_and_prepare()
    return data_dir / "imagenet2012/5.1.0"


def test_it_lists_what_the_folders_list(root, tmp_path):
    listing = tfds_listing.tfds_images(build(root, tmp_path), progress=False)
    assert listing.class_names == WNIDS
    for split, folder in (("train", "train/*"), ("val", "val")):
        files = {path.name: path for path in root.glob(f"{folder}/*.JPEG")}
        entries = listing.splits[split]
        assert len(entries) == len(files) > 0
        assert [(e.label, e.id) for e in entries] == sorted((e.label, e.id) for e in entries)
        for entry in entries:
            data = files[entry.id].read_bytes()
            assert entry.num_bytes == len(data)
            assert listing.read(entry.id) == data
    assert [entry.label for entry in listing.splits["val"]] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert [entry.id[:9] for entry in listing.splits["train"]] == [
        w for w in WNIDS for _ in "12345"
    ]


def test_classes_are_sorted_whatever_their_order_in_tfds(root, tmp_path):
    directory = build(root, tmp_path, label_names=WNIDS[::-1])
    listing = tfds_listing.tfds_images(directory, progress=False)
    assert listing.class_names == WNIDS
    assert all(WNIDS[e.label] == e.id[:9] for e in listing.splits["train"])


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("fit", ["squash", "centre"])
def test_it_is_prepared_like_the_folders(root, tmp_path, monkeypatch, fit, beside):
    build(root, tmp_path / "tfds")
    data_dir = tmp_path / ("data" if beside else "tfds")
    path = str(tmp_path / "tfds") if beside else ""
    spec = DatasetSpec("ilsvrc2012", name="imagenet2012", path=path, image_size=24, fit=fit)
    dataset = open_dataset(spec, data_dir, progress=False)
    folders = DatasetSpec("ilsvrc2012", path=str(root), image_size=24, fit=fit)
    expected = open_dataset(folders, tmp_path / "other", progress=False)
    size = {"squash": "24px", "centre": "24px_centre"}[fit]
    assert dataset.name.startswith(f"ilsvrc2012/{size}_") and dataset.name != expected.name
    for split in ("train", "val"):
        np.testing.assert_array_equal(dataset.labels(split), expected.labels(split))
        indices = range(len(expected.labels(split)))
        images = dataset.images(split, indices)
        np.testing.assert_array_equal(images, expected.images(split, indices))
    first = dataset.record_source("train")[0]
    assert first["id"] == "n01440764_0.JPEG"
    if fit == "squash":
        original = Image.open(root / "train/n01440764/n01440764_0.JPEG")
        squashed = original.resize((24, 24), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(first["image"], squashed)

    def refuse(*_, **__):
        raise AssertionError("the records were read again")

    monkeypatch.setattr(tfds_listing, "tfds_images", refuse)
    assert open_dataset(spec, data_dir, progress=False) == dataset


def test_a_name_that_tfds_cannot_prepare_here(tmp_path):
    spec = DatasetSpec("ilsvrc2012", name="no_such_images", path=str(tmp_path))
    with pytest.raises(ValueError, match=f"no dataset 'no_such_images' under {tmp_path}"):
        open_dataset(spec, tmp_path / "data", progress=False)


def test_other_features(root, tmp_path):
    open_dataset(DatasetSpec("ilsvrc2012", path=str(root), image_size=8), tmp_path, progress=False)
    (directory,) = tmp_path.glob("ilsvrc2012/8px_*/1.0.0")
    with pytest.raises(ValueError, match="should have the features image, label, file_name; its"):
        tfds_listing.tfds_images(directory, progress=False)
