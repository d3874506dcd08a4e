"""The renderer: determinism, independence from the batch, resolution, boxes, scenes, statistics."""

import dataclasses
import hashlib
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer_jax.data import world
from transfer_jax.data.world import rendering

ALL = np.arange(len(world.CLASSES))


def _objects_and_view(class_ids, *words, noise=True):
    keys = world.make_keys(*words)
    instance = world.sample_instance(class_ids, keys)
    view = world.sample_view(class_ids, keys)
    if not noise:
        quiet = dataclasses.replace(view.setting, noise=np.zeros_like(view.setting.noise))
        view = dataclasses.replace(view, setting=quiet)
    return instance, view


def test_same_arguments_give_the_same_bytes():
    one, boxes = world.render_images(ALL, 3, split="train", seed=5)
    again, boxes_again = world.render_images(ALL, 3, split="train", seed=5)
    assert one.tobytes() == again.tobytes()
    assert boxes.tobytes() == boxes_again.tobytes()
    assert one.shape == (len(ALL), 32, 32, 3) and one.dtype == np.uint8
    assert boxes.shape == (len(ALL), 4) and boxes.dtype == np.float32


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 39), st.integers(0, 5)), min_size=1, max_size=12),
    st.sampled_from(["train", "val"]),
)
def test_an_image_does_not_depend_on_its_batch(wanted, split):
    class_ids, indices = np.asarray(wanted).T
    images, boxes = world.render_images(class_ids, indices, split=split)
    pick = len(wanted) // 2
    alone, box = world.render_images(class_ids[pick], indices[pick], split=split)
    assert images[pick].tobytes() == alone[0].tobytes()
    assert boxes[pick].tobytes() == box[0].tobytes()


def test_a_long_batch_equals_its_parts():
    class_ids, indices = np.repeat([0, 17, 33], 150), np.tile(np.arange(150), 3)
    whole, _ = world.render_images(class_ids, indices, split="train")
    order = np.random.default_rng(0).permutation(len(class_ids))
    mixed, _ = world.render_images(class_ids[order], indices[order], split="train")
    assert np.array_equal(whole[order], mixed)


def test_every_word_of_the_key_changes_the_image():
    base = {"split": "train", "seed": 0}
    digests = {
        hashlib.sha256(world.render_images(c, i, **(base | change))[0].tobytes()).digest()
        for c, i, change in [
            (0, 0, {}), (1, 0, {}), (0, 1, {}), (0, 0, {"split": "val"}), (0, 0, {"seed": 1}),
        ]
    }  # fmt: skip
    assert len(digests) == 5


def test_train_and_val_share_no_image():
    train, _ = world.render_images(np.repeat(ALL, 5), np.tile(np.arange(5), 40), split="train")
    val, _ = world.render_images(np.repeat(ALL, 5), np.tile(np.arange(5), 40), split="val")
    seen = {image.tobytes() for image in train}
    assert len(seen) == len(train)
    assert not any(image.tobytes() in seen for image in val)


def test_another_size_is_the_same_picture():
    class_ids = np.repeat(ALL, 2)
    instance, view = _objects_and_view(
        class_ids, "sizes", class_ids, np.tile([0, 1], 40), noise=False
    )
    large, boxes = world.render([(instance, view.pose)], view.setting, size=128)
    other = np.roll(np.arange(len(class_ids)), 7)
    for size, bound in ((32, 4.0), (64, 2.5)):
        small, small_boxes = world.render([(instance, view.pose)], view.setting, size=size)
        side = 128 // size
        shrunk = large.reshape(-1, size, side, size, side, 3).mean(axis=(2, 4))
        error = np.abs(small - shrunk)
        assert error.mean() < bound
        assert error.mean() < 0.1 * np.abs(small - shrunk[other]).mean()
        assert np.median(np.abs(small_boxes - boxes)) <= 1 / size


def test_oversampling_comes_closer_to_the_large_picture():
    instance, view = _objects_and_view(ALL, "oversampling", ALL, noise=False)
    objects = [(instance, view.pose)]
    large, _ = world.render(objects, view.setting, size=128, oversampling=2)
    shrunk = large.reshape(-1, 32, 4, 32, 4, 3).mean(axis=(2, 4))
    errors = [
        np.abs(world.render(objects, view.setting, oversampling=k)[0] - shrunk).mean()
        for k in (1, 2)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("size", [8, 33, 227])
def test_any_size(size):
    images, boxes = world.render_images([4, 30], [0, 1], split="val", size=size)
    assert images.shape == (2, size, size, 3)
    assert images.std() > 10
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_box_holds_exactly_what_the_object_changes(monkeypatch):
    size, class_ids = 64, np.repeat(ALL, 3)
    instance, view = _objects_and_view(
        class_ids, "boxes", class_ids, np.tile(np.arange(3), 40), noise=False
    )
    setting = dataclasses.replace(view.setting, occlusion=np.zeros(len(class_ids), np.float32))
    full, boxes = world.render([(instance, view.pose)], setting, size=size)
    boxes = boxes[:, 0]
    # The same scenes, shadows and all, in which the objects themselves are never drawn.
    undrawn = [dataclasses.replace(record, draw=lambda canvas: None) for record in world.CLASSES]
    monkeypatch.setattr(rendering, "CLASSES", undrawn)
    empty, no_boxes = world.render([(instance, view.pose)], setting, size=size)
    assert not no_boxes.any()
    changed = np.abs(full.astype(int) - empty).max(axis=-1) > 12
    touched = []
    for image, box in zip(changed, boxes, strict=True):
        assert (box >= 0).all() and (box <= 1).all() and (box[2:] > box[:2]).all()
        top, left, bottom, right = (round(edge * size) for edge in box.tolist())
        inside = np.zeros_like(image)
        inside[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = True
        assert image[top:bottom, left:right].mean() > 0.05
        assert (image & ~inside).sum() <= 0.01 * image.sum()
        touched.append(
            image[top : top + 2].any()
            and image[bottom - 2 : bottom].any()
            and image[:, left : left + 2].any()
            and image[:, right - 2 : right].any()
        )
    assert np.mean(touched) > 0.8  # tight, not merely large


def test_one_instance_in_several_views_keeps_its_looks():
    count = 12
    zebra = np.full(count, world.class_id("zebra"))
    one = world.sample_instance(zebra, world.make_keys("one zebra", np.full(count, 7)))
    assert len(np.unique(one.keys)) == 1
    views = world.sample_view(zebra, world.make_keys("views", np.arange(count)))
    images, _ = world.render([(one, views.pose)], views.setting)
    assert len({image.tobytes() for image in images}) == count
    fixed = dataclasses.replace(
        views.pose, **{f.name: np.full(count, getattr(views.pose, f.name)[0])
                       for f in dataclasses.fields(views.pose)}
    )  # fmt: skip
    _, boxes = world.render(
        [(one, fixed)],
        dataclasses.replace(views.setting, occlusion=np.zeros(count, np.float32)),
    )
    assert np.abs(boxes - boxes[0]).max() <= 1 / 32 + 1e-6


def test_scenes_hold_several_objects():
    count = 20
    rng = np.random.default_rng(0)
    scene_keys = world.make_keys("scene", np.arange(count))
    setting = world.sample_setting(scene_keys)
    setting = dataclasses.replace(setting, occlusion=np.zeros(count, np.float32))
    objects = []
    for k in range(3):
        ids = rng.integers(0, 40, count)
        if k == 1:
            ids[::4] = world.ABSENT
        keys = world.make_keys("object", k, np.arange(count))
        pose = world.sample_pose(ids, keys, scale=(0.12, 0.2))
        objects.append((world.sample_instance(ids, keys), pose))
    images, boxes = world.render(objects, setting, size=48)
    assert images.shape == (count, 48, 48, 3) and boxes.shape == (count, 3, 4)
    assert not boxes[::4, 1].any()
    assert (boxes[:, 2, 2:] > boxes[:, 2, :2]).all()
    # What lies behind is covered by what is in front: its visible box never grows.
    _, alone = world.render(objects[:1], setting, size=48)
    behind = boxes[:, 0]
    hidden = ~behind.any(axis=1)
    assert (behind[~hidden, :2] >= alone[~hidden, 0, :2] - 1e-6).all()
    assert (behind[~hidden, 2:] <= alone[~hidden, 0, 2:] + 1e-6).all()


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"class_ids must lie in 0\.\.39"):
        world.render_images([40], [0], split="train")
    with pytest.raises(ValueError, match="negative"):
        world.render_images([0], [-1], split="train")
    with pytest.raises(ValueError, match="size is 4"):
        world.render_images([0], [0], split="train", size=4)
    with pytest.raises(ValueError, match="class id 99"):
        world.sample_instance([99], world.make_keys(0))


def _orientation_concentration(images):
    """How much of the gradient energy sits in the strongest direction and the one across it."""
    grey = images.mean(axis=-1)
    dy, dx = np.gradient(grey, axis=(1, 2))
    power = dx**2 + dy**2
    angle = np.arctan2(dy, dx) * 4  # equal for directions at right angles
    return np.hypot((power * np.cos(angle)).sum((1, 2)), (power * np.sin(angle)).sum((1, 2))) / (
        power.sum((1, 2)) + 1e-9
    )


def _upright(class_ids):
    """Instances of the classes and the pose that shows them upright, large and unbent."""
    keys = world.make_keys("statistics", class_ids, np.arange(len(class_ids)))
    zero = np.zeros(len(class_ids), np.float32)
    pose = world.Pose(
        x=zero + 0.5, y=zero + 0.5, scale=zero + 0.42, angle=zero, mirror=zero + 1,
        shear=zero, stretch=zero + 1, tilt_u=zero, tilt_v=zero,
    )  # fmt: skip
    return world.sample_instance(class_ids, keys), pose, world.sample_setting(keys)


def test_man_made_edges_are_straight_and_square():
    class_ids = np.repeat(ALL, 12)
    made = np.asarray([record.kingdom == "man_made" for record in world.CLASSES])[class_ids]
    images, _ = world.render_images(class_ids, np.tile(np.arange(12), 40), split="train")
    straight = _orientation_concentration(images.astype(np.float64))
    assert straight[made].mean() > straight[~made].mean() + 0.03
    # The objects themselves, in rooms without clutter.
    instance, pose, setting = _upright(class_ids)
    zero = np.zeros(len(class_ids), np.float32)
    setting = dataclasses.replace(
        setting, clutter=zero - 1, occlusion=zero, noise=zero, built=zero + 1
    )
    alone, _ = world.render([(instance, pose)], setting)
    straight = _orientation_concentration(alone.astype(np.float64))
    assert straight[made].mean() > straight[~made].mean() + 0.08


def test_natural_symmetry_is_only_approximate():
    """Of things with a left and a right half, the made ones mirror exactly, the grown ones not."""
    made = ["house", "tower_block", "lighthouse", "table", "bookcase", "vase", "bottle", "spanner"]
    grown = ["apple", "strawberry", "oak", "fir", "owl", "butterfly", "ladybird", "bee"]
    defects = []
    for names in (made, grown):
        class_ids = np.repeat([world.class_id(name) for name in names], 8)
        instance, pose, setting = _upright(class_ids)
        picture = np.zeros((len(class_ids), 3, 64, 64), np.float32)
        alpha = rendering._paint_objects(picture, instance, pose, setting)
        defects.append(np.abs(alpha - alpha[:, :, ::-1]).sum((1, 2)) / alpha.sum((1, 2)))
    assert defects[1].mean() > 3 * defects[0].mean()


def test_colour_alone_does_not_name_the_class():
    from sklearn.neighbors import KNeighborsClassifier

    class_ids = np.repeat(ALL, 24)
    train, _ = world.render_images(class_ids, np.tile(np.arange(24), 40), split="train")
    val, _ = world.render_images(class_ids, np.tile(np.arange(24), 40), split="val")

    def colours(images):
        flat = images.reshape(len(images), -1, 3) / 255
        return np.concatenate([flat.mean(axis=1), flat.std(axis=1)], axis=1)

    classifier = KNeighborsClassifier(10).fit(colours(train), class_ids)
    assert classifier.score(colours(val), class_ids) < 0.2


def test_fast_enough_to_draw_on_the_spot():
    world.render_images([0], [0], split="train")
    seconds = []
    for _ in range(3):
        start = time.process_time()
        world.render_images(np.repeat(ALL, 16), np.tile(np.arange(16), 40), split="train")
        seconds.append(time.process_time() - start)
    assert min(seconds) / (16 * len(ALL)) < 2.5e-3
