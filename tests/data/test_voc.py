import image_trees
import numpy as np
import pytest
import voc_tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from transfer_jax.data import voc
from transfer_jax.data.images import BrokenImageError


@pytest.mark.parametrize("inner", ["", "VOC2012"])
def test_classification(tmp_path, inner):
    listing = voc.classification(voc_tree.folder(tmp_path) / inner)
    assert len(listing.class_names) == 20 and list(listing.splits) == ["train", "val"]
    for split, images in voc_tree.IMAGES.items():
        assert [entry.id for entry in listing.splits[split]] == list(images)
    first, second, third = (
        dict(zip(listing.class_names, entry.targets, strict=True))
        for entry in listing.splits["train"]
    )
    assert [name for name in first if first[name] == 1] == ["dog", "person"]
    assert {name: t for name, t in second.items() if t != -1} == {"chair": 0}
    assert {name: t for name, t in third.items() if t != -1} == {"car": 0, "person": 1}


def test_actions(tmp_path):
    listing = voc.actions(voc_tree.folder(tmp_path))
    assert len(listing.class_names) == 10
    train, (val,) = listing.splits["train"], listing.splits["val"]
    assert [entry.id for entry in train] == ["2008_000001/1", "2008_000003/2"]
    said = dict(zip(listing.class_names, train[0].targets, strict=True))
    assert said.pop("running") == 1 and said.pop("phoning") == 0
    assert set(said.values()) == {-1}
    # 4 .. 14 and 5 .. 20 counted from 1, of the first object; 5 .. 16 of the second.
    assert train[0].box == (3, 4, 14, 20) and train[1].box == (4, 4, 16, 20)
    assert val.id == "2008_000003/1" and val.image == "JPEGImages/2008_000003.jpg"


def test_a_test_split_with_lists(tmp_path):
    root = voc_tree.folder(tmp_path)
    for path in (root / "VOC2012/ImageSets/Main").glob("*_val.txt"):
        path.with_name(path.name.replace("val", "test")).write_text("2008_000001 -1\n")
    listing = voc.classification(root)
    assert list(listing.splits) == ["train", "val", "test"] and len(listing.splits["test"]) == 1


def test_fingerprints(tmp_path):
    one, other = (voc_tree.folder(tmp_path / name) for name in ("one", "other"))
    for task in (voc.classification, voc.actions):
        assert task(one).fingerprint() == task(other).fingerprint()
    annotation = other / "VOC2012/Annotations/2008_000001.xml"
    annotation.write_text(annotation.read_text().replace("<xmax>14.0", "<xmax>15.0"))
    assert voc.classification(one).fingerprint() == voc.classification(other).fingerprint()
    assert voc.actions(one).fingerprint() != voc.actions(other).fingerprint()


def test_pixels_of_a_person(tmp_path):
    root = voc_tree.folder(tmp_path)
    listing = voc.actions(root)
    whole = Image.open(root / "VOC2012/JPEGImages/2008_000001.jpg")
    for margin, box in ((0, (3, 4, 14, 20)), (0.5, (0, 0, 20, 28)), (9, (0, 0, 41, 30))):
        reader = voc.VocReader(listing.root, listing.splits["train"], 8, margin)
        expected = whole.crop(box).resize((8, 8), Image.Resampling.LANCZOS)
        assert reader[0]["id"] == "2008_000001/1"
        # Halves of pixels are rounded to even: 3 - 5.5 and 14 + 5.5 become -2 and 20.
        np.testing.assert_array_equal(reader[0]["image"], np.asarray(expected))
    with pytest.raises(IndexError):
        reader[2]


@given(st.tuples(*[st.floats(0, 50)] * 4), st.floats(0, 3), st.integers(1, 60), st.integers(1, 60))
def test_widened_boxes_lie_inside_and_hold_the_box(edges, margin, width, height):
    left, right = sorted(edges[:2])
    top, bottom = sorted(edges[2:])
    x0, y0, x1, y1 = voc.widened((left, top, right, bottom), margin, width, height)
    assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
    assert x0 <= left + 0.5 and (x1 >= min(right, width) - 0.5)
    assert y0 <= top + 0.5 and (y1 >= min(bottom, height) - 0.5)


def remove(path):
    return lambda home: (home / path).unlink()


def write(path, text):
    return lambda home: (home / path).write_text(text)


MAIN, ACTION, XML = "ImageSets/Main", "ImageSets/Action", "Annotations/2008_000003.xml"


@pytest.mark.parametrize(
    ("task", "change", "error", "message"),
    [
        (voc.classification, remove(f"{MAIN}/dog_val.txt"), FileNotFoundError, "dog_val.txt: exp"),
        (voc.classification, remove("JPEGImages/2008_000002.jpg"), FileNotFoundError,
         "no .*2008_000002.jpg, which ImageSets names"),
        (voc.classification, write(f"{MAIN}/dog_val.txt", "2009_000004 2\n"), ValueError,
         "dog_val.txt: expected lines of '<image> <1, 0 or -1>', got '2009_000004 2'"),
        (voc.classification, write(f"{MAIN}/dog_val.txt", "2009_000004 1\n"), ValueError,
         "only one of .*dog_val.txt and aeroplane_val.txt names 2009_000005"),
        (voc.classification, write(f"{MAIN}/dog_val.txt", "x 1\nx 1\n"), ValueError, "x twice"),
        (voc.actions, write(f"{ACTION}/running_val.txt", "x a 1\n"), ValueError, "'x a 1'"),
        (voc.actions, remove(XML), FileNotFoundError, "2008_000003.xml, which holds a person's"),
        (voc.actions, write(XML, "<annotation>"), ValueError, "is not an annotation"),
        (voc.actions, write(XML, "<a><object><name>person</name></object></a>"), ValueError,
         "has 1 objects; ImageSets names object 2"),
        (voc.actions, write(XML, "<a>" + 2 * "<object><name>cow</name></object>" + "</a>"),
         ValueError, "object 2 is a cow, not a person"),
        (voc.actions, write(XML, "<a>" + 2 * "<object><name>person</name></object>" + "</a>"),
         ValueError, "object 2 has the box .nan"),
    ],
)  # fmt: skip
def test_bad_folders(tmp_path, task, change, error, message):
    root = voc_tree.folder(tmp_path)
    change(root / "VOC2012")
    with pytest.raises(error, match=message):
        task(root)


def test_no_voc_at_all(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no JPEGImages.*found: none"):
        voc.classification(tmp_path)


def test_broken_images_are_named(tmp_path):
    root = voc_tree.folder(tmp_path)
    listing = voc.classification(root)
    image_trees.write(root / "VOC2012/JPEGImages/2008_000002.jpg", b"nothing")
    reader = voc.VocReader(listing.root, listing.splits["train"], 8, 0)
    with pytest.raises(BrokenImageError, match=r"JPEGImages/2008_000002\.jpg: not in an image"):
        reader[1]
