"""Pictures of several objects, the arrays of a dataset, and the hierarchy."""

import collections
import itertools

import numpy as np
import pytest

from transfer_jax import world


def test_objects_of_a_scene():
    ids = np.arange(120) % 40
    images, labels, boxes = world.render_scenes(ids, np.arange(120) // 40, split="train", size=16)
    assert images.shape == (120, 16, 16, 3) and images.dtype == np.uint8
    np.testing.assert_array_equal(labels[:, 0], ids)
    count = (labels != world.ABSENT).sum(axis=1)
    # 40 of each expected, standard deviation 5.2.
    assert (np.bincount(count, minlength=4)[1:] > 19).all() and count.min() == 1
    for row, here in zip(labels, count, strict=True):
        assert len(set(row[:here])) == here and (row[here:] == world.ABSENT).all()
    assert not boxes[labels == world.ABSENT].any()
    ymin, xmin, ymax, xmax = np.moveaxis(boxes[labels != world.ABSENT], -1, 0)
    assert (ymin <= ymax).all() and (xmin <= xmax).all()
    assert min(ymin.min(), xmin.min()) >= 0 and max(ymax.max(), xmax.max()) <= 1
    assert (ymax > ymin).mean() > 0.97


def test_a_scene_is_settled_by_its_own_key_alone():
    ids = np.arange(40)
    whole = world.render_scenes(ids, 0, split="train", size=16)
    order = np.random.default_rng(0).permutation(40)[:9]
    again = world.render_scenes(ids[order], np.zeros(9, int), split="train", size=16)
    for one, other in zip(whole, again, strict=True):
        np.testing.assert_array_equal(one[order], other)
    for change in ({"seed": 1}, {"split": "val"}):
        other, *_ = world.render_scenes(ids, 0, **{"split": "train", "size": 16, **change})
        assert (other != whole[0]).any(axis=(1, 2, 3)).all()
    # A picture of one object is not the scene that has its number: their light differs.
    alone, _ = world.render_images(ids, 0, split="train", size=16)
    light, other_light = (x.mean(axis=(1, 2, 3)) for x in (alone, whole[0]))
    assert abs(np.corrcoef(light, other_light)[0, 1]) < 0.5


def test_objects_of_a_scene_stand_apart():
    _, labels, boxes = world.render_scenes(np.arange(40), 0, split="train")
    count = (labels != world.ABSENT).sum(axis=1)
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    assert np.median(np.linalg.norm(centre[count > 1, 0] - centre[count > 1, 1], axis=1)) > 0.3
    # Alone in its picture, an object is larger than where it shares it.
    sides = (boxes[:, 0, 2:] - boxes[:, 0, :2]).max(axis=-1)
    assert sides[count == 1].mean() > 1.2 * sides[count == 3].mean()


@pytest.mark.parametrize("most", [1, 5])
def test_any_number_of_objects(most):
    _, labels, _ = world.render_scenes(np.arange(40), 0, split="val", size=8, max_objects=most)
    assert labels.shape == (40, most) and (labels[:, most - 1] != world.ABSENT).any()


def _pictures(per_class):
    """(split, class, index) of every row, by hand."""
    for split in ("train", "val"):
        for label in range(40):
            for index in range(per_class[split]):
                yield split, label, index


def test_world_arrays_hold_every_picture_in_its_row():
    arrays = world.world_arrays(12, train_per_class=3, val_per_class=2, seed=4)
    assert arrays["class_names"] == world.class_names()
    assert arrays["labels"].dtype == np.int32
    rows = {split: set(each.tolist()) for split, each in arrays["splits"].items()}
    assert rows == {"train": set(range(120)), "val": set(range(120, 200))}
    for row, (split, label, index) in enumerate(_pictures({"train": 3, "val": 2})):
        assert row in rows[split] and arrays["labels"][row] == label
        if row % 7 == 0:
            image, box = world.render_images(label, index, split=split, seed=4, size=12)
            assert np.array_equal(arrays["images"][row], image[0])
            assert np.array_equal(arrays["boxes"][row], box[0])
    assert len({image.tobytes() for image in arrays["images"]}) == 200  # train and val share none


def test_scene_arrays_tell_what_shows_and_what_is_difficult():
    arrays = world.scene_arrays(8, train_per_class=2, val_per_class=1, seed=2, max_objects=5)
    assert arrays["labels"].shape == (120, 40) and arrays["labels"].dtype == np.int8
    covered = 0
    for row, (split, label, index) in enumerate(_pictures({"train": 2, "val": 1})):
        image, found, where = world.render_scenes(
            label, index, split=split, seed=2, size=8, max_objects=5
        )
        assert np.array_equal(arrays["images"][row], image[0])
        expected, objects = np.zeros(40), []
        for name, box in zip(found[0], where[0], strict=True):
            area = (box[2] - box[0]) * (box[3] - box[1])
            if name != world.ABSENT and area > 0:
                expected[name] = -1 if area < 1 / 12 else 1
                objects.append((name, *box, area < 1 / 12))
            covered += name != world.ABSENT and area == 0
        assert np.array_equal(arrays["labels"][row], expected)
        table = np.column_stack(arrays["boxes"][row])
        np.testing.assert_array_equal(table, np.asarray(objects).reshape(-1, 6))
    assert set(np.unique(arrays["labels"]).tolist()) == {-1, 0, 1} and covered > 0


def test_hierarchy_is_balanced_and_well_formed():
    names = world.class_names()
    assert len(set(names)) == 40 and list(names) == sorted(names)
    kingdoms = collections.Counter(record.kingdom for record in world.CLASSES)
    assert kingdoms == {"natural": 20, "man_made": 20}
    assert set(collections.Counter(record.family for record in world.CLASSES).values()) == {4}
    parents = {}
    for record, path in zip(world.CLASSES, world.class_paths(), strict=True):
        assert path == ("world", record.kingdom, record.family, record.name)
        for parent, child in itertools.pairwise(path):
            assert parents.setdefault(child, parent) == parent
    assert [world.class_id(name) for name in names] == list(range(40))
    with pytest.raises(ValueError, match="unicorn"):
        world.class_id("unicorn")
