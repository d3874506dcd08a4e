import io
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.data import image_trees
from tests.data.image_trees import VOC_IMAGES, VOC_PEOPLE, VOC_SIZES
from transfer_jax.data.sources import DatasetSpec, open_dataset
from transfer_jax.data.voc import ACTIONS, CLASSES, voc_actions, voc_folder

ALL = {name: objects for images in VOC_IMAGES.values() for name, objects in images.items()}


@pytest.fixture
def root(tmp_path):
    return image_trees.voc_folder(tmp_path / "VOCdevkit")


def test_splits_labels_and_boxes(root):
    found = voc_folder(root)
    assert found.class_names == tuple(CLASSES)
    expected = {split: list(images) for split, images in VOC_IMAGES.items()}
    expected["trainval"] = expected["train"] + expected["val"]
    assert {k: [found.ids[row] for row in rows] for k, rows in found.splits.items()} == expected
    for row, name in enumerate(found.ids):
        height, width = VOC_SIZES[name]
        labels, boxes, difficult = found.boxes[row]
        names = [CLASSES[label] for label in labels]
        assert list(zip(names, difficult, strict=True)) == ALL[name]
        for place, box in enumerate(boxes, start=1):
            xmin, ymin, xmax, ymax = image_trees.voc_box(place)
            by_hand = [(ymin - 1) / height, (xmin - 1) / width, ymax / height, xmax / width]
            np.testing.assert_allclose(box, np.clip(by_hand, 0, 1), rtol=1e-6)
        for label, wanted in enumerate(CLASSES):
            marks = [hard for each, hard in ALL[name] if each == wanted]
            assert found.labels[row, label] == (0 if not marks else 1 if 0 in marks else -1)


def test_a_list_of_trainval_is_taken_as_it_is_and_a_secret_test_set_left_out(root):
    home = root / "VOC2012"
    image_trees.write(home / "ImageSets/Main/trainval.txt", b"2009_000004\n2008_000002\n")
    (home / "Annotations/2009_000006.xml").unlink()
    found = voc_folder(home)
    assert [found.ids[row] for row in found.splits["trainval"]] == ["2009_000004", "2008_000002"]
    assert set(found.splits) == {"train", "val", "trainval"} and len(found.ids) == 5


def test_fingerprint_follows_boxes_and_difficulty(root):
    prints = [voc_folder(root).fingerprint()]
    path = root / "VOC2012/Annotations/2008_000001.xml"
    for old, new in [("<ymax>20.0", "<ymax>19.0"), ("<difficult>0", "<difficult>1")]:
        path.write_text(path.read_text().replace(old, new, 1))
        prints.append(voc_folder(root).fingerprint())
    assert len(set(prints)) == 3


def test_people_and_what_they_do(root):
    found = voc_actions(root)
    assert found.class_names == tuple(ACTIONS)
    people = [person for part in VOC_PEOPLE.values() for person in part]
    assert found.ids == [f"{image}/{place}" for image, place in people]
    wanted = {"train": [0, 1], "val": [2], "trainval": [0, 1, 2]}
    assert {k: rows.tolist() for k, rows in found.splits.items()} == wanted
    # Two of the three are in one photograph, which is stored once.
    assert [found.files[place][11:22] for place in found.places] == [image for image, _ in people]
    assert len(found.files) == 2
    for labels, person in zip(found.labels, people, strict=True):
        said = (VOC_PEOPLE["train"] | VOC_PEOPLE["val"])[person]
        marks = [said.get(action, -1) for action in ACTIONS]
        assert labels.tolist() == [{1: 1, -1: 0, 0: -1}[mark] for mark in marks]


@pytest.mark.parametrize("image_size", [None, 24])
def test_a_person_is_cut_out_with_a_margin(root, tmp_path, image_size):
    spec = DatasetSpec("voc_actions", path=str(root), image_size=image_size, margin=0.25)
    dataset = open_dataset(spec, tmp_path / "data")
    for row, (name, place) in enumerate([("2008_000001", 1), ("2008_000003", 2)]):
        file = root / f"VOC2012/JPEGImages/{name}.jpg"
        whole = Image.open(io.BytesIO(file.read_bytes())).convert("RGB")
        xmin, ymin, xmax, ymax = image_trees.voc_box(place)
        left, top, right, bottom = xmin - 1, ymin - 1, xmax, ymax
        dx, dy = (right - left) / 4, (bottom - top) / 4
        box = [round(edge) for edge in (left - dx, top - dy, right + dx, bottom + dy)]
        box = np.clip(box, 0, [*whole.size, *whole.size]).tolist()
        person = whole.crop(box)
        if image_size:
            person = person.resize((24, 24), Image.Resampling.LANCZOS)
            np.testing.assert_array_equal(dataset.read([row])[0], person)
        np.testing.assert_array_equal(dataset.image(row), person)


def test_views_of_people_share_records_and_not_names(root, tmp_path):
    views = [
        open_dataset(
            DatasetSpec("voc_actions", path=str(root), image_size=24, margin=margin, fit=fit),
            tmp_path / "data",
        )
        for margin, fit in ((0.0, "squash"), (0.5, "squash"), (0.0, "centre"))
    ]
    assert len({view.name for view in views}) == len({view.directory for view in views}) == 3
    # Also once all pixels are kept.
    assert len({view.read(range(3)).tobytes() for view in views}) == 3
    assert len(list(tmp_path.glob("data/**/*.array_record"))) == 1


@pytest.mark.parametrize(
    ("read", "path", "added", "message"),
    [
        (voc_folder, "Annotations/2008_000001.xml", None, "without annot"),
        (voc_folder, "JPEGImages/2008_000001.jpg", None, "2008_000001"),
        (voc_folder, "ImageSets/Main/val.txt", None, "lacks the lists"),
        (voc_folder, "Annotations/2008_000001.xml", "<", "no annotation"),
        (voc_actions, "ImageSets", None, "jumping_train.txt"),
        (voc_actions, "ImageSets/Action/running_val.txt", "x 1\n", "x 1"),
        (voc_actions, "ImageSets/Action/running_val.txt", "x 1 1\n", "x/1"),
    ],
)
def test_kits_with_gaps(root, read, path, added, message):
    path = root / "VOC2012" / path
    if added is None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    else:
        path.write_text(path.read_text() + added)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        read(root).with_digests(root / "table.npz")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<width>41</width>", "", r"2008_000001.xml .*: no size/width"),
        ("<xmin>4.0</xmin>", "", "no bndbox/xmin"),
        ("<xmin>4.0</xmin>", "<xmin>42.0</xmin>", r"outside 41x30 pixels"),
        ("<ymax>20.0</ymax>", "<ymax>4.0</ymax>", r"box \[5.0, 4.0, 4.0, 14.0\] is outside"),
        ("<height>30</height>", "<height>0</height>", "outside 41x0 pixels"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_an_annotation_without_sizes_or_with_a_box_outside_is_named(root, old, new, message):
    path = root / "VOC2012/Annotations/2008_000001.xml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ValueError, match=message):
        voc_folder(root)


def test_of_a_box_that_reaches_beyond_its_image_the_part_inside_is_kept(root):
    path = root / "VOC2012/Annotations/2008_000001.xml"
    path.write_text(path.read_text().replace("<xmax>14.0", "<xmax>99.0", 1))
    _, boxes, _ = voc_folder(root).boxes[0]
    assert boxes[0][3] == 1 and 0 < boxes[0][1] < 1
