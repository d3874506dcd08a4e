"""Means against float64, and the files in which they are kept."""

import dataclasses

import numpy as np
import pytest

from transfer_jax.data import means
from transfer_jax.data.dataset import Dataset
from transfer_jax.data.tasks import subset_task, whole_task


def random_dataset(count, directory=None, **options):
    images = np.random.default_rng(4).integers(0, 256, (count, 6, 5, 3), np.uint8)
    dataset = Dataset.from_arrays(images, np.arange(count) % 3, name=str(count), **options)
    return images.astype(np.float64), dataclasses.replace(dataset, directory=directory)


@pytest.mark.parametrize("block", [2**10, 2**28])
def test_means_are_those_of_the_training_pixels(monkeypatch, block):
    monkeypatch.setattr(means, "_BLOCK_BYTES", block)
    train, dataset = random_dataset(500, val=(np.zeros((9, 6, 5, 3), np.uint8), np.arange(9) % 3))
    for task in (whole_task("W", dataset), subset_task("A", dataset, [0, 2])):
        image, channel = task.mean("image"), task.mean("channel")
        assert image.dtype == channel.dtype == np.float32
        np.testing.assert_array_equal(image, train.mean(axis=0).astype(np.float32))
        np.testing.assert_allclose(channel, train.mean(axis=(0, 1, 2)), rtol=6e-8)


def test_without_a_training_split_the_mean_is_over_the_tasks_own_images():
    pixels, dataset = random_dataset(9, splits={"all": np.arange(9)})
    task = subset_task("A", dataset, [1], splits=("all", "val"))
    np.testing.assert_allclose(task.mean("channel"), pixels[1::3].mean(axis=(0, 1, 2)), rtol=6e-8)


def test_means_do_not_drift_on_a_bright_set():
    # A float32 accumulator stops at 2**24 = 65,794 additions of 255.
    images = np.broadcast_to(np.uint8(255), (100_000, 1, 1, 3))
    dataset = Dataset.from_arrays(images, np.zeros(100_000, int), name="bright")
    assert (means.mean_of(dataset, np.arange(100_000), "image") == 255).all()


def test_no_mean_of_no_images():
    with pytest.raises(ValueError, match="no mean of no images"):
        means.mean_of(random_dataset(3)[1], np.arange(0), "image")


class Unreadable(Dataset):
    def read(self, rows):
        raise AssertionError("read again")


def test_a_mean_is_computed_once_and_kept(tmp_path):
    pixels, dataset = random_dataset(20, tmp_path)
    want = pixels.mean(axis=0).astype(np.float32)
    np.testing.assert_array_equal(means.mean_of(dataset, np.arange(20), "image"), want)
    fields = {f.name: getattr(dataset, f.name) for f in dataclasses.fields(dataset)}
    np.testing.assert_array_equal(means.mean_of(Unreadable(**fields), np.arange(20), "image"), want)
    # Other rows and other content, in the same folder, have means of their own.
    for rows, changed in ((19, {}), (20, {"name": "another"})):
        with pytest.raises(AssertionError, match="read again"):
            means.mean_of(Unreadable(**{**fields, **changed}), np.arange(rows), "image")
