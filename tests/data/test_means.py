"""Means against float64, and the files in which they are kept."""

import image_trees
import numpy as np
import pytest

from transfer_jax.data import means
from transfer_jax.data.sources import DatasetSpec, open_dataset


@pytest.fixture(autouse=True)
def nothing_remembered():
    """Datasets of one content are equal, wherever they lie."""
    means.dataset_mean.cache_clear()


def random_images(count, height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def open_folder(tmp_path, **options):
    root = tmp_path / "photos"
    if not root.exists():
        image_trees.image_folder(root, train=9, size=24)
    spec = DatasetSpec("folder", path=str(root), **{"image_size": 24, **options})
    return open_dataset(spec, tmp_path / "data", progress=False)


@pytest.mark.parametrize("packed", [True, False])
def test_the_mean_of_a_dataset_is_that_of_its_pixels(tmp_path, monkeypatch, packed):
    """In blocks of four images, read from a file of all images or from records."""
    monkeypatch.setattr(means, "_BLOCK_LIMITS", (4, 4))
    monkeypatch.setattr("transfer_jax.data.datasets.PACK_BYTES", 2**31 if packed else 0)
    dataset = open_folder(tmp_path)
    source = dataset.record_source("train")
    pixels = np.array([source[i]["image"] for i in range(len(source))], np.float64)
    assert pixels.shape == (27, 24, 24, 3)
    found = means.keep_means(dataset, progress=False)
    assert (dataset.directory / "images-train.npy").exists() == packed
    np.testing.assert_array_equal(found["image"], pixels.mean(axis=0).astype(np.float32))
    np.testing.assert_allclose(found["channel"], pixels.mean(axis=(0, 1, 2)), rtol=6e-8)
    assert found["image"].dtype == found["channel"].dtype == np.float32
    for kind in means.KINDS:
        kept = np.load(dataset.directory / f"mean_{kind}_24x24.npy")
        np.testing.assert_array_equal(kept, found[kind])
        np.testing.assert_array_equal(means.dataset_mean(dataset, kind), found[kind])


def test_what_is_kept_is_read_and_not_computed_again(tmp_path):
    dataset = open_folder(tmp_path)
    np.save(dataset.directory / "mean_channel_24x24.npy", np.float32([1, 2, 3]))
    assert means.dataset_mean(dataset, "channel").tolist() == [1, 2, 3]
    assert not means.mean_file(dataset, "image").exists()


def test_squashed_and_cut_images_of_one_folder_have_means_of_their_own(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos", size=16)
    wide = image_trees.encoded(image_trees.pixels(77, 16, 40), "PNG")
    image_trees.write(root / "train/cat/wide.png", wide)
    stored = open_dataset(
        DatasetSpec("folder", path=str(root), image_size=40), tmp_path / "data", progress=False
    )
    name = stored.name.removesuffix("/1.0.0")
    opened = {
        fit: open_dataset(
            DatasetSpec("tfds", name=name, image_size=8, fit=fit), tmp_path / "data", progress=False
        )
        for fit in ("squash", "centre")
    }
    assert opened["squash"].directory == opened["centre"].directory
    files = {means.mean_file(dataset, "image").name for dataset in opened.values()}
    assert files == {"mean_image_8x8.npy", "mean_image_8x8_centre.npy"}


def test_what_has_no_mean(tmp_path):
    with pytest.raises(ValueError, match="of kind image or channel; got 'pixel'"):
        means.dataset_mean(open_folder(tmp_path), "pixel")
    empty = FoldOfNothing(open_folder(tmp_path))
    with pytest.raises(ValueError, match="nothing has no training images"):
        means.keep_means(empty)


class FoldOfNothing:
    name, num_records = "nothing", {"train": 0}

    def __init__(self, base):
        self.image_shape, self.directory, self.fit = base.image_shape, base.directory, base.fit


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch, caplog):
    dataset = open_folder(tmp_path)

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(means, "replacing", refuse)
    assert means.dataset_mean(dataset, "channel").shape == (3,)
    assert "mean (channel) cannot be kept" in caplog.text


def test_means_equal_float64_and_chunks_do_not_matter():
    images = random_images(2500, 6, 5, seed=4)
    exact = images.astype(np.float64).mean(axis=0)
    mean, channels = means.mean_image(images), means.channel_mean(images)
    assert mean.dtype == channels.dtype == np.float32
    np.testing.assert_array_equal(mean, exact.astype(np.float32))
    np.testing.assert_allclose(channels, images.astype(np.float64).mean((0, 1, 2)), rtol=6e-8)
    batches = (images[:7], images[7:1500], images[1500:])
    np.testing.assert_array_equal(means.mean_image(iter(batches)), mean)
    np.testing.assert_array_equal(means.channel_mean(iter(batches)), channels)


def test_means_do_not_drift_on_a_bright_set():
    # A float32 accumulator stops at 2**24 = 65,794 additions of 255.
    images = np.broadcast_to(np.uint8(255), (100_000, 2, 2, 3))
    assert (means.mean_image(images) == 255).all()
    assert (means.channel_mean(images) == 255).all()


def test_channel_mean_weighs_pixels_and_mean_image_needs_one_size():
    batches = [np.full((1, 2, 2, 3), 10, np.uint8), np.full((1, 4, 4, 3), 60, np.uint8)]
    np.testing.assert_allclose(means.channel_mean(batches), np.full(3, 50.0))
    with pytest.raises(ValueError, match=r"\(4, 4, 3\) where the ones before were \(2, 2, 3\)"):
        means.mean_image(batches)
    with pytest.raises(ValueError, match="4 channels where the ones before had 3"):
        means.channel_mean([batches[0], np.zeros((1, 2, 2, 4), np.uint8)])


@pytest.mark.parametrize("mean", [means.channel_mean, means.mean_image])
def test_means_of_nothing_are_refused(mean):
    for nothing in (np.zeros((0, 4, 4, 3), np.uint8), []):
        with pytest.raises(ValueError, match="no images"):
            mean(nothing)
    with pytest.raises(TypeError, match="float64; expected uint8"):
        mean(np.zeros((2, 4, 4, 3)))
