"""Pictures of several objects."""

import numpy as np
import pytest

from transfer_jax.data import world
from transfer_jax.data.world import ABSENT, render_scenes


def scenes_of(count=120, **options):
    ids = np.arange(count) % 40
    return ids, *render_scenes(
        ids, np.arange(count) // 40, split="train", **{"size": 16, **options}
    )


def test_objects_of_a_scene():
    ids, images, labels, boxes = scenes_of()
    assert images.shape == (120, 16, 16, 3) and images.dtype == np.uint8
    assert labels.shape == (120, 3) and boxes.shape == (120, 3, 4) and boxes.dtype == np.float32
    np.testing.assert_array_equal(labels[:, 0], ids)
    count = (labels != ABSENT).sum(axis=1)
    # 40 of each expected, standard deviation 5.2.
    assert (np.bincount(count, minlength=4)[1:] > 19).all() and count.min() == 1
    for row, here in zip(labels, count, strict=True):
        assert len(set(row[:here])) == here and (row[here:] == ABSENT).all()
    assert not boxes[labels == ABSENT].any()
    ymin, xmin, ymax, xmax = np.moveaxis(boxes[labels != ABSENT], -1, 0)
    assert (ymin <= ymax).all() and (xmin <= xmax).all()
    assert min(ymin.min(), xmin.min()) >= 0 and max(ymax.max(), xmax.max()) <= 1
    assert (ymax > ymin).mean() > 0.97


def test_a_scene_is_settled_by_its_own_key_alone():
    ids, images, labels, boxes = scenes_of(40)
    order = np.random.default_rng(0).permutation(40)[:9]
    again = render_scenes(ids[order], np.zeros(9, int), split="train", size=16)
    for one, other in zip((images, labels, boxes), again, strict=True):
        np.testing.assert_array_equal(one[order], other)
    for change in ({"seed": 1}, {"split": "val"}):
        other, *_ = render_scenes(ids, 0, **{"split": "train", "size": 16, **change})
        assert (other != images).any(axis=(1, 2, 3)).all()


def test_objects_are_where_their_boxes_say():
    _, labels, boxes = render_scenes(np.arange(40), 0, split="train", size=32)
    pairs = labels[:, 1] != ABSENT
    centre = (boxes[..., :2] + boxes[..., 2:]) / 2
    apart = np.linalg.norm(centre[pairs, 0] - centre[pairs, 1], axis=1)
    assert np.median(apart) > 0.3
    # Alone in its picture, an object is larger than where it shares it.
    sides = (boxes[..., 2:] - boxes[..., :2]).max(axis=-1)
    count = (labels != ABSENT).sum(axis=1)
    assert sides[count == 1, 0].mean() > 1.2 * sides[count == 3, 0].mean()


def test_one_object_at_most():
    _, _, labels, _ = scenes_of(40, max_objects=1)
    np.testing.assert_array_equal(labels[:, 0], np.arange(40))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_objects": 0}, r"max_objects must lie in 1 \.\. 5, got 0"),
        ({"max_objects": 6}, r"max_objects must lie in 1 \.\. 5, got 6"),
        ({"seed": -1}, "must not be negative, got seed -1"),
        ({"class_ids": [40]}, r"class_ids must lie in 0\.\.39"),
        ({"indices": [-1]}, "must not be negative"),
        ({"size": 4}, "size is 4"),
    ],
)
def test_bad_scenes(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_scenes(**{"class_ids": [0], "indices": [0], "split": "train", **arguments})


def test_config_names_tell_settings_apart(tmp_path):
    settings = [(), (64,), (32, 26), (32, 25, 13), (32, 25, 12, 1), (32, 25, 12, 0, 2)]
    assert len({world.scenes_config(*values).name for values in settings}) == len(settings)
    by_object = world.EmbeddedScenes(config=world.scenes_config(), data_dir=tmp_path)
    by_name = world.EmbeddedScenes(config=world.scenes_config().name, data_dir=tmp_path)
    assert by_object.data_path == by_name.data_path
    for arguments, message in (
        ({"max_objects": 6}, r"max_objects must lie in 1 \.\. 5, got 6"),
        ({"max_objects": 0}, "max_objects is 0; expected a whole number"),
        ({"val_per_class": 0}, "val_per_class is 0"),
    ):
        with pytest.raises(ValueError, match=message):
            world.scenes_config(**arguments)
