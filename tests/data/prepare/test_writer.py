import errno
import multiprocessing
import os
import time

import image_trees
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from transfer_jax.data import images, listings, prepare
from transfer_jax.data.datasets import read_dataset
from transfer_jax.data.prepare import writer


def run(root, data_dir, **options):
    listing = listings.image_folder(root)
    options = {"image_size": 16, "progress": False, **options}
    return prepare.prepare(listing, data_dir, "photos", "16px", **options)


def test_records_hold_the_files_in_order(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos")
    image_trees.write(
        root / "train/cat/9.JPEG", image_trees.encoded(image_trees.pixels(9, 16, 16), "PNG")
    )
    dataset = read_dataset(run(root, tmp_path / "data"))
    assert dataset.class_names == ("cat", "dog", "owl")
    assert dataset.image_shape == (16, 16, 3)
    assert dataset.labels("train").tolist() == [0] * 6 + [1] * 5 + [2] * 5
    source = dataset.record_source("train")
    files = sorted((root / "train").rglob("*.JPEG"))
    assert [source[i]["id"] for i in range(len(source))] == [
        path.relative_to(root).as_posix() for path in files
    ]
    for index, path in enumerate(files):
        expected = np.asarray(Image.open(path))
        np.testing.assert_array_equal(source[index]["image"], expected)
        np.testing.assert_array_equal(dataset.images("train", [index])[0], expected)


def test_tfds_reads_it_by_itself(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos")
    directory = run(root, tmp_path / "data")
    builder = tfds.builder("photos/16px", data_dir=tmp_path / "data")
    assert builder.info.full_name == "photos/16px/1.0.0"
    assert builder.info.splits["train"].num_examples == 15
    assert builder.info.splits["val"].num_bytes > 0
    assert builder.info.features["label"].names == ["cat", "dog", "owl"]
    record = tfds.builder_from_directory(directory).as_data_source("val")[0]
    np.testing.assert_array_equal(record["image"], np.asarray(Image.open(root / "val/cat/0.JPEG")))


def test_a_second_call_reads_nothing(tmp_path):
    listing = listings.image_folder(image_trees.image_folder(tmp_path / "photos"))
    arguments = {"image_size": 16, "progress": False}
    first = prepare.prepare(listing, tmp_path, "photos", "16px", **arguments)
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    unreadable = listings.Listing(listing.root, listing.class_names, listing.splits, read=None)
    assert prepare.prepare(unreadable, tmp_path, "photos", "16px", **arguments) == first
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before


def break_file(path, keep=-30):
    path.write_bytes(path.read_bytes()[:keep])


def test_a_broken_image_is_named(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos")
    break_file(root / "train/dog/3.JPEG")
    message = r"broken image train/dog/3\.JPEG in .*photos: .*truncated.*on_broken='skip'"
    with pytest.raises(images.BrokenImageError, match=message):
        run(root, tmp_path / "data")
    assert not list((tmp_path / "data").rglob("dataset_info.json"))


def test_broken_images_can_be_skipped_and_are_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(writer, "_SHARD_LIMITS", (2, 2))
    root = image_trees.image_folder(tmp_path / "photos")
    # Both images of the second shard, and one of the last.
    for name in ("train/cat/2.JPEG", "train/cat/3.JPEG", "train/owl/4.JPEG"):
        break_file(root / name)
    break_file(root / "val/dog/1.JPEG", keep=0)
    directory = run(root, tmp_path / "data", on_broken="skip")
    dataset = read_dataset(directory)
    assert dataset.labels("train").tolist() == [0] * 3 + [1] * 5 + [2] * 4
    source = dataset.record_source("train")
    assert [source[i]["id"] for i in (1, 2, 3)] == [
        "train/cat/1.JPEG",
        "train/cat/4.JPEG",
        "train/dog/0.JPEG",
    ]
    assert len(dataset.images("train", range(12))) == 12
    lines = (directory / "skipped.txt").read_text().splitlines()
    assert [line.split("\t")[0] for line in lines] == [
        "train/cat/2.JPEG",
        "train/cat/3.JPEG",
        "train/owl/4.JPEG",
        "val/dog/1.JPEG",
    ]
    assert lines[3].split("\t")[1] == "the file is empty"
    # Who did not ask for gaps is told of them.
    with pytest.raises(images.BrokenImageError, match="prepared without 4 broken images"):
        run(root, tmp_path / "data")


def test_a_class_of_broken_images_only(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos")
    for path in (root / "val/owl").iterdir():
        break_file(path)
    with pytest.raises(ValueError, match="class owl has no readable image in the split val"):
        run(root, tmp_path / "data", on_broken="skip")


class Stop(BaseException):
    """Ends a preparation as abruptly as an exception can."""


@pytest.mark.parametrize("stop_after", [0, 1, 3, 8, 12, 20])
def test_finished_shards_are_not_written_again(tmp_path, monkeypatch, stop_after):
    monkeypatch.setattr(writer, "_SHARD_LIMITS", (2, 2))
    root = image_trees.image_folder(tmp_path / "photos")
    break_file(root / "train/cat/1.JPEG")
    listing = listings.image_folder(root)
    seen = []

    def read(id):
        if len(seen) >= stop_after:
            raise Stop
        seen.append(id)
        return listing.read(id)

    # One thread, so that images are read in order and it is known which shards were finished.
    arguments = {"image_size": 16, "on_broken": "skip", "workers": 1, "progress": False}
    monkeypatch.setattr(writer, "_BLOCK", 1)
    halting = listings.Listing(listing.root, listing.class_names, listing.splits, read)
    with pytest.raises(Stop):
        prepare.prepare(halting, tmp_path / "data", "photos", "16px", **arguments)
    assert not list((tmp_path / "data").rglob("dataset_info.json"))
    again = []

    def read_again(id):
        again.append(id)
        return listing.read(id)

    resuming = listings.Listing(listing.root, listing.class_names, listing.splits, read_again)
    resumed = prepare.prepare(resuming, tmp_path / "data", "photos", "16px", **arguments)
    # 15 training images in 8 shards of 2, then 6 validation images in 3.
    finished = seen[: stop_after - stop_after % 2 if stop_after < 15 else stop_after - 1]
    assert not set(again) & set(finished[:14])
    assert len(again) + len(finished) >= 21
    whole = prepare.prepare(listing, tmp_path / "other", "photos", "16px", **arguments)
    assert_same_content(resumed, whole)


def assert_same_content(first, second):
    """The same files, byte for byte."""
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in second.iterdir())
    assert len([name for name in names if "array_record" in name]) >= 2
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def prepare_counting(root, data_dir, barrier, reads):
    listing = listings.image_folder(root)

    def read(id):
        with reads.get_lock():
            reads.value += 1
        time.sleep(0.01)
        return listing.read(id)

    counting = listings.Listing(listing.root, listing.class_names, listing.splits, read)
    barrier.wait()
    prepare.prepare(counting, data_dir, "photos", "16px", image_size=16, progress=False)


def test_two_processes_at_once(tmp_path):
    root = image_trees.image_folder(tmp_path / "photos")
    context = multiprocessing.get_context("spawn")
    barrier, reads = context.Barrier(2), context.Value("i", 0)
    processes = [
        context.Process(target=prepare_counting, args=(root, tmp_path / "data", barrier, reads))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert reads.value == 21
    assert_same_content(tmp_path / "data/photos/16px/1.0.0", run(root, tmp_path / "other"))


def test_a_full_disk(tmp_path, monkeypatch):
    root = image_trees.image_folder(tmp_path / "photos")

    class FullDisk:
        def __init__(self, path, options):
            open(path, "wb").close()

        def write(self, record):
            pass

        def close(self):
            raise RuntimeError("write() failed: No space left on device; at byte 0")

    with monkeypatch.context() as patch:
        patch.setattr(writer.array_record_module, "ArrayRecordWriter", FullDisk)
        with pytest.raises(
            OSError,
            match=r"the disk is full: preparing 21 images of 16 x 16 in "
            r".*data.* takes up to .* GB are free",
        ) as caught:
            run(root, tmp_path / "data")
    assert caught.value.errno == errno.ENOSPC
    assert len(read_dataset(run(root, tmp_path / "data")).labels("train")) == 15


@pytest.mark.skipif(not os.access("/dev/full", os.W_OK), reason="needs /dev/full")
def test_what_the_system_says_of_a_full_disk_is_understood():
    full = writer.array_record_module.ArrayRecordWriter("/dev/full", "group_size:1,uncompressed")
    with pytest.raises(RuntimeError) as caught:
        for _ in range(300):
            full.write(bytes(10_000))
        full.close()
    assert prepare.is_full_disk(caught.value)
    assert not prepare.is_full_disk(RuntimeError("something else"))
