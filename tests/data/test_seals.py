"""What is read again, what is noticed, and who may make a file again."""

import os
import time

import numpy as np
import pytest

from tests.data import image_trees
from transfer_jax.data import seals
from transfer_jax.data.sources import DatasetSpec, open_dataset


@pytest.fixture
def reads(monkeypatch):
    """The files that are read for their digests; what is 50 ms old has settled."""
    found, digest_of = [], seals.digest_of
    monkeypatch.setattr(seals, "_SETTLED", 5 * 10**7)
    monkeypatch.setattr(seals, "digest_of", lambda path: found.append(str(path)) or digest_of(path))
    return found


def bitmaps(root):
    """Files of one size in two classes, of one time, and nearly always changed at one time too."""
    paths = []
    for index, name in enumerate(("cat/0.bmp", "cat/1.bmp", "dog/0.bmp", "dog/1.bmp")):
        data = image_trees.encoded(image_trees.pixels(index, 8, 8), "BMP")
        path = image_trees.write(root / "train" / name, data)
        os.utime(path, ns=(0, 10**18))
        paths.append(path)
    for _ in range(100):
        if len({path.stat().st_ctime_ns for path in paths}) > 1:
            [path.chmod(0o644) for path in paths]
    time.sleep(0.06)
    return root


def digests(root, table):
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.bmp"))
    return seals.file_digests(root, files, table)


def swap_files(root):
    for names in (("cat/0.bmp", "x"), ("dog/0.bmp", "cat/0.bmp"), ("x", "dog/0.bmp")):
        (root / "train" / names[0]).rename(root / "train" / names[1])


def swap_folders(root):
    for names in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (root / "train" / names[0]).rename(root / "train" / names[1])


def overwrite(root):
    path = root / "train/cat/0.bmp"
    path.write_bytes(path.read_bytes()[:-1] + b"#")
    os.utime(path, ns=(0, 10**18))


@pytest.mark.parametrize(("change", "number"), [(swap_files, 2), (swap_folders, 4), (overwrite, 1)])
def test_changes_that_keep_names_sizes_and_times(tmp_path, reads, change, number):
    root, table = bitmaps(tmp_path / "photos"), tmp_path / "table.json"
    before, changed = digests(root, table)
    assert len(reads) == 4 and changed == []
    change(root)
    after, changed = digests(root, table)
    assert len(changed) == number == sum(after[file] != before[file] for file in before)
    assert len(reads) == 4 + number
    os.utime(root / "train/dog/1.bmp")
    time.sleep(0.06)
    reads.clear()
    digests(root, table)
    assert digests(root, table) == (after, [])
    touched = f"{root}/train/dog/1.bmp"
    assert touched in reads and len(set(reads)) == len(reads)  # with what had not settled


def test_what_changed_just_now_is_read_again(tmp_path, reads, monkeypatch):
    root, table = bitmaps(tmp_path / "photos"), tmp_path / "table.json"
    monkeypatch.setattr(seals, "_SETTLED", 10**12)
    assert digests(root, table) == digests(root, table) and len(reads) == 8


def test_an_unchanged_tree_is_not_read_again_and_a_changed_one_is_another(tmp_path, reads, caplog):
    root = bitmaps(tmp_path / "photos")

    def opened():
        spec = DatasetSpec("folder", path=str(root), image_size=None)
        return open_dataset(spec, tmp_path / "data")

    first = opened()
    time.sleep(0.06)
    opened()
    reads.clear()
    again = opened()
    assert reads == [] and again.name == first.name
    assert not caplog.text
    swap_folders(root)
    swapped = opened()
    assert swapped.name != first.name
    assert "train/cat/0.bmp and 3 more files changed since the last time" in caplog.text
    np.testing.assert_array_equal(swapped.image(0), first.image(2))
    swap_folders(root)
    assert opened().name == first.name


def test_an_image_that_changes_while_it_is_prepared(tmp_path, monkeypatch):
    root = bitmaps(tmp_path / "photos")
    file_digests = seals.file_digests

    def and_then(*arguments):
        found = file_digests(*arguments)
        overwrite(root)
        return found

    monkeypatch.setattr("transfer_jax.data.listing.file_digests", and_then)
    spec = DatasetSpec("folder", path=str(root))
    with pytest.raises(ValueError, match=r"train/cat/0.bmp in .* was changed"):
        open_dataset(spec, tmp_path / "data")


def test_what_a_killed_process_left_is_removed(tmp_path):
    path, other = tmp_path / "pixels.npy", tmp_path / "pixels.npy2"
    for of in (path, other):
        with pytest.raises(KeyboardInterrupt), seals.replacing(of) as partial:
            partial.write_bytes(b"half")
            os.link(partial, str(partial)[:-1] + "x")  # which a kill would leave
            raise KeyboardInterrupt
    left = sorted(tmp_path.iterdir())
    array = seals.kept_array(path, "source", lambda: np.arange(3))
    assert array.tolist() == [0, 1, 2]
    assert not left[0].exists() and left[1].exists()
