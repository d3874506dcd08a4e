import shutil

import numpy as np
import pytest

from tests.data import image_trees
from tests.data.image_trees import VAL, WNIDS
from transfer_jax.data.ilsvrc2012 import ilsvrc2012_folder

LISTS = {
    "caffe": "val.txt",
    "kaggle": "LOC_val_solution.csv",
    "devkit": "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
}


def validation(listing):
    """Label and number of each validation image."""
    rows = listing.splits["val"]
    numbers = [int(listing.files[row][-13:-5]) for row in rows]
    return list(zip(listing.labels[rows].tolist(), numbers, strict=True))


def assert_right(listing):
    assert listing.class_names == WNIDS
    train = listing.splits["train"]
    assert [listing.files[row] for row in train] == [
        f"train/{wnid}/{wnid}_{index}.JPEG" for wnid in WNIDS for index in range(5)
    ]
    assert listing.labels[train].tolist() == np.repeat(range(4), 5).tolist()
    # By hand from the numbers of the images of each class.
    assert validation(listing) == [(0, 2), (0, 5), (1, 4), (1, 7), (2, 1), (2, 6), (3, 3), (3, 8)]


@pytest.mark.parametrize("truth", ["devkit", "caffe", "kaggle"])
@pytest.mark.parametrize("beside", [False, True])
def test_each_list_inside_and_beside(tmp_path, truth, beside):
    root = image_trees.ilsvrc2012(tmp_path / "imagenet", truth=truth)
    if beside:
        for item in list(root.iterdir()):
            if item.name not in ("train", "val"):
                item.rename(tmp_path / item.name)
    listing = ilsvrc2012_folder(root)
    assert_right(listing)
    other = image_trees.ilsvrc2012(tmp_path / "other", truth="kaggle")
    assert ilsvrc2012_folder(other).fingerprint() == listing.fingerprint()


@pytest.mark.parametrize("below", [True, False])
def test_the_layout_of_the_challenge(tmp_path, below):
    images = image_trees.ilsvrc2012(tmp_path / "ILSVRC/Data/CLS-LOC", truth="none")
    image_trees.kaggle(tmp_path, [WNIDS[label] for label in VAL])
    assert_right(ilsvrc2012_folder(tmp_path if below else images))


@pytest.mark.parametrize("removed", [0, 1])
def test_validation_images_in_class_folders(tmp_path, removed):
    """All classes or some, and validation folders of classes that are not trained."""
    root = image_trees.ilsvrc2012(tmp_path, truth="none")
    for number, label in enumerate(VAL, start=1):
        path = root / f"val/ILSVRC2012_val_{number:08d}.JPEG"
        image_trees.write(root / "val" / WNIDS[label] / path.name, path.read_bytes())
        path.unlink()
    for wnid in WNIDS[:removed]:
        shutil.rmtree(root / "train" / wnid)
    listing = ilsvrc2012_folder(root)
    assert listing.class_names == WNIDS[removed:]
    expected = [(0, 2), (0, 5), (1, 4), (1, 7), (2, 1), (2, 6), (3, 3), (3, 8)]
    assert validation(listing) == [(y - removed, i) for y, i in expected if y >= removed]
    shutil.rmtree(root / "val" / WNIDS[3])
    with pytest.raises(ValueError, match=f"{WNIDS[3]} has no validation image"):
        ilsvrc2012_folder(root)


def test_numbers_among_the_classes_that_are_there(tmp_path):
    """A list made for a part of the classes counts those; Caffe's own counts all 1000."""
    root = image_trees.ilsvrc2012(tmp_path, truth="none")
    image_trees.caffe(root, [WNIDS[label] for label in VAL], order=WNIDS)
    assert_right(ilsvrc2012_folder(root))


@pytest.mark.parametrize("truth", ["devkit", "caffe", "kaggle"])
@pytest.mark.parametrize("removed", [False, True])
def test_a_part_of_the_classes_with_the_list_of_all(tmp_path, truth, removed):
    root = image_trees.ilsvrc2012(tmp_path, truth=truth)
    shutil.rmtree(root / "train" / WNIDS[1])
    for number, label in enumerate(VAL, start=1):
        if removed and label == 1:
            (root / f"val/ILSVRC2012_val_{number:08d}.JPEG").unlink()
    listing = ilsvrc2012_folder(root)
    assert listing.class_names == (WNIDS[0], WNIDS[2], WNIDS[3])
    assert validation(listing) == [(0, 2), (0, 5), (1, 1), (1, 6), (2, 3), (2, 8)]


@pytest.mark.parametrize(
    ("truth", "old", "new", "message"),
    [
        ("caffe", "00000003.JPEG", "00000033.JPEG", "00000033"),
        ("caffe", "ILSVRC2012_val_00000003.JPEG", "", "line 3"),
        ("caffe", "00000001.JPEG 761", "00000001.JPEG 1761", "class 1761 of 1000"),
        ("caffe", "00000008", "00000007", "lacks 1 images .*00000008"),
        ("kaggle", "PredictionString", "Prediction", "PredictionString"),
        ("devkit", "\n", "\nx", "development kit"),
        ("devkit", "\n", "\n1001\n", "n00001740, none of ILSVRC2012"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, truth, old, new, message):
    root = image_trees.ilsvrc2012(tmp_path, truth=truth)
    text = (root / LISTS[truth]).read_text()
    (root / LISTS[truth]).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        ilsvrc2012_folder(root)


def test_no_list_no_table_or_other_folders(tmp_path):
    root = image_trees.ilsvrc2012(tmp_path / "imagenet", truth="none")
    with pytest.raises(FileNotFoundError, match=r"LOC_val_solution\.csv"):
        ilsvrc2012_folder(root)
    (root / "train/cat").mkdir()
    with pytest.raises(ValueError, match="kind 'folder'"):
        ilsvrc2012_folder(root)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ilsvrc2012_folder(tmp_path / "nowhere")
