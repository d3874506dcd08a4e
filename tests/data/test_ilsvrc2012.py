import shutil

import ilsvrc_tree
import image_trees
import numpy as np
import pytest
from ilsvrc_tree import VAL, WNIDS

from transfer_jax.data.ilsvrc2012 import ilsvrc2012_folder
from transfer_jax.data.splits import ilsvrc_indices


def assert_right(listing):
    assert listing.class_names == WNIDS
    assert [entry.id for entry in listing.splits["train"]] == [
        f"train/{wnid}/{wnid}_{index}.JPEG" for wnid in WNIDS for index in range(5)
    ]
    assert [entry.label for entry in listing.splits["train"]] == [0] * 5 + [1] * 5 + [2] * 5 + [
        3
    ] * 5
    # By hand from the numbers of the images of each class.
    numbers = [(0, 2), (0, 5), (1, 4), (1, 7), (2, 1), (2, 6), (3, 3), (3, 8)]
    assert [(entry.label, entry.id) for entry in listing.splits["val"]] == [
        (label, f"val/ILSVRC2012_val_0000000{number}.JPEG") for label, number in numbers
    ]


@pytest.mark.parametrize("truth", ["devkit", "caffe", "kaggle"])
@pytest.mark.parametrize("beside", [False, True])
def test_each_list_inside_and_beside(tmp_path, truth, beside):
    root = ilsvrc_tree.write(tmp_path / "imagenet", truth=truth)
    if beside:
        for item in list(root.iterdir()):
            if item.name not in ("train", "val"):
                item.rename(tmp_path / item.name)
    listing = ilsvrc2012_folder(root)
    assert_right(listing)
    entry = listing.splits["val"][3]
    assert listing.read(entry.id) == (root / entry.id).read_bytes()
    assert entry.num_bytes == len(listing.read(entry.id))


@pytest.mark.parametrize("below", [True, False])
def test_the_layout_of_the_challenge(tmp_path, below):
    images = ilsvrc_tree.write(tmp_path / "ILSVRC/Data/CLS-LOC", truth="none")
    ilsvrc_tree.write_kaggle(tmp_path, [WNIDS[label] for label in VAL])
    # A list of running numbers, which is no list of classes and lies where nobody looks.
    lists = tmp_path / "ILSVRC/ImageSets/CLS-LOC"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("ILSVRC2012_val_00000001 1\n")
    listing = ilsvrc2012_folder(tmp_path if below else images)
    assert_right(listing)
    assert listing.root == str(images)


def test_validation_images_in_class_folders(tmp_path):
    root = ilsvrc_tree.write(tmp_path, truth="none")
    for number, label in enumerate(VAL, start=1):
        path = root / f"val/ILSVRC2012_val_{number:08d}.JPEG"
        image_trees.write(root / "val" / WNIDS[label] / path.name, path.read_bytes())
        path.unlink()
    listing = ilsvrc2012_folder(root)
    assert [entry.label for entry in listing.splits["val"]] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert listing.splits["val"][0].id == "val/n01440764/ILSVRC2012_val_00000002.JPEG"
    image_trees.write(root / "val/ILSVRC2012_val_00000009.JPEG", b"x")
    with pytest.raises(ValueError, match="holds images and the class folder n01440764"):
        ilsvrc2012_folder(root)


def test_every_list_and_place_gives_one_fingerprint(tmp_path):
    roots = [
        ilsvrc_tree.write(tmp_path / "a", truth="devkit"),
        ilsvrc_tree.write(tmp_path / "b/ILSVRC/Data/CLS-LOC", truth="kaggle"),
    ]
    one, other = (ilsvrc2012_folder(root).fingerprint() for root in roots)
    assert one == other


def test_numbers_among_the_classes_that_are_there(tmp_path):
    """A list made for a part of the classes counts those; Caffe's own counts all 1000."""
    root = ilsvrc_tree.write(tmp_path, truth="none")
    ilsvrc_tree.write_caffe(root, [WNIDS[label] for label in VAL], order=list(WNIDS))
    assert_right(ilsvrc2012_folder(root))


def test_wnids_in_place_of_numbers(tmp_path):
    root = ilsvrc_tree.write(tmp_path, truth="none")
    lines = [f"val/ILSVRC2012_val_{n:08d}.JPEG {WNIDS[label]}\n" for n, label in enumerate(VAL, 1)]
    (root / "val.txt").write_text("".join(lines))
    assert_right(ilsvrc2012_folder(root))


@pytest.mark.parametrize("truth", ["devkit", "caffe", "kaggle"])
@pytest.mark.parametrize("removed", [False, True])
def test_a_part_of_the_classes_with_the_list_of_all(tmp_path, truth, removed):
    root = ilsvrc_tree.write(tmp_path, truth=truth)
    shutil.rmtree(root / "train" / WNIDS[1])
    if removed:
        for number, label in enumerate(VAL, start=1):
            if label == 1:
                (root / f"val/ILSVRC2012_val_{number:08d}.JPEG").unlink()
    listing = ilsvrc2012_folder(root)
    assert listing.class_names == (WNIDS[0], WNIDS[2], WNIDS[3])
    assert [(entry.label, int(entry.id[-10:-5])) for entry in listing.splits["val"]] == [
        (0, 2), (0, 5), (1, 1), (1, 6), (2, 3), (2, 8)
    ]  # fmt: skip


def test_all_classes_are_in_the_order_of_their_wnids(tmp_path):
    wnids = sorted(ilsvrc_indices())
    order = np.random.default_rng(1).permutation(1000)
    for wnid in wnids:
        image_trees.write(tmp_path / f"train/{wnid}/{wnid}_1.JPEG", b"x")
    for number in range(1, 1001):
        image_trees.write(tmp_path / f"val/ILSVRC2012_val_{number:08d}.JPEG", b"x")
    ilsvrc_tree.write_devkit(tmp_path, [wnids[label] for label in order])
    listing = ilsvrc2012_folder(tmp_path)
    assert listing.class_names == tuple(wnids)
    assert [entry.label for entry in listing.splits["val"]] == list(range(1000))
    numbers = [int(entry.id[-13:-5]) for entry in listing.splits["val"]]
    assert [order[number - 1] for number in numbers] == list(range(1000))


def test_no_list(tmp_path):
    root = ilsvrc_tree.write(tmp_path / "imagenet", truth="none")
    with pytest.raises(FileNotFoundError) as caught:
        ilsvrc2012_folder(root)
    for path in (
        root / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
        root / "val.txt",
        root / "LOC_val_solution.csv",
        tmp_path / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
    ):
        assert str(path) in str(caught.value)


def test_folders_that_are_no_ilsvrc2012(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no image folder"):
        ilsvrc2012_folder(tmp_path / "nowhere")
    root = ilsvrc_tree.write(tmp_path / "imagenet")
    (root / "train/cat").mkdir()
    with pytest.raises(ValueError, match=r"train/cat is none of the 1000 classes .* kind 'folder'"):
        ilsvrc2012_folder(root)
    (root / "train/cat").rmdir()
    shutil.rmtree(root / "val")
    with pytest.raises(FileNotFoundError, match="lacks the split val"):
        ilsvrc2012_folder(root)
    (root / "val").mkdir()
    with pytest.raises(ValueError, match=r"val holds no images: expected ILSVRC2012_val_\*"):
        ilsvrc2012_folder(root)
    shutil.rmtree(root / "train")
    image_trees.write(root / "train/n01440764.tar", b"x")
    with pytest.raises(ValueError, match=r"no class folders.*its \.tar files are to be unpacked"):
        ilsvrc2012_folder(root)


def change(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("truth", "old", "new", "message"),
    [
        ("caffe", "00000003.JPEG", "00000033.JPEG", "says nothing of .*00000003.JPEG: it names 8"),
        ("caffe", "ILSVRC2012_val_00000003.JPEG", "", "line 3: expected a name and a class like"),
        ("caffe", "00000001.JPEG 761", "00000001.JPEG 1761", r"class 1761; expected .* 0 \.\. 999"),
        ("caffe", "00000001.JPEG 761", "00000001.JPEG n99999999", "n99999999, none of ILSVRC2012"),
        (
            "kaggle",
            "PredictionString",
            "Prediction",
            "columns ImageId and PredictionString; it has",
        ),
        ("kaggle", "n02105855 1 2 30 40 \n", "\n", "ILSVRC2012_val_00000004 has no class"),
        ("devkit", "\n", "\nx", "line 2: 'x[0-9]+' is no ILSVRC2012_ID of meta.mat"),
    ],
)
def test_lists_that_do_not_fit(tmp_path, truth, old, new, message):
    root = ilsvrc_tree.write(tmp_path, truth=truth)
    change(root / LISTS[truth], old, new)
    with pytest.raises(ValueError, match=message):
        ilsvrc2012_folder(root)


LISTS = {
    "caffe": "val.txt",
    "kaggle": "LOC_val_solution.csv",
    "devkit": "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt",
}


def test_more_lines_than_images(tmp_path):
    root = ilsvrc_tree.write(tmp_path, truth="devkit")
    path = root / LISTS["devkit"]
    path.write_text(path.read_text() + path.read_text().split()[0] + "\n")
    with pytest.raises(ValueError, match=r"names 9 images .*lacks 1 of them.*val_00000009"):
        ilsvrc2012_folder(root)


def test_fewer_lines_than_images(tmp_path):
    root = ilsvrc_tree.write(tmp_path, truth="devkit")
    path = root / LISTS["devkit"]
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"00000008.JPEG: it names 7 images, and there are 8"):
        ilsvrc2012_folder(root)


def test_a_missing_validation_image(tmp_path):
    root = ilsvrc_tree.write(tmp_path, truth="devkit")
    (root / "val/ILSVRC2012_val_00000004.JPEG").unlink()
    with pytest.raises(
        ValueError, match=r"lacks 1 of them, the first being ILSVRC2012_val_00000004"
    ):
        ilsvrc2012_folder(root)


def test_a_class_without_validation_images(tmp_path):
    root = ilsvrc_tree.write(tmp_path, val=(0, 1, 2))
    with pytest.raises(
        ValueError, match=r"class n07930864 has no validation image, says .*val.txt"
    ):
        ilsvrc2012_folder(root)


def test_a_devkit_without_its_table(tmp_path):
    root = ilsvrc_tree.write(tmp_path, truth="devkit")
    table = root / "ILSVRC2012_devkit_t12/data/meta.mat"
    table.write_bytes(b"no table")
    with pytest.raises(ValueError, match=r"meta\.mat is not the development kit's table"):
        ilsvrc2012_folder(root)
    table.unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*meta\.mat, which says of what"):
        ilsvrc2012_folder(root)
