"""The renderer: determinism, independence from the batch, resolution, boxes, statistics."""

import dataclasses
import time

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from transfer_jax import world
from transfer_jax.world import rendering

ALL = np.arange(len(world.CLASSES))
MADE = np.asarray([record.kingdom == "man_made" for record in world.CLASSES])


def _objects_and_view(class_ids, *words):
    """Instances, their poses and settings, without sensor noise."""
    keys = world.make_keys(*words)
    pose, setting = world.sample_view(class_ids, keys)
    quiet = dataclasses.replace(setting, noise=np.zeros_like(setting.noise))
    return world.sample_instance(class_ids, keys), pose, quiet


def test_drawings_stay_what_they_are():
    # Cells are named after a dataset's settings, not its pixels: other drawings need another name.
    images, _ = world.render_images(ALL, 0, split="train")
    expected = [
        155, 127, 128, 86, 108, 121, 96, 59, 78, 124, 89, 163, 105, 104, 88, 116,
        91, 93, 147, 144, 111, 111, 140, 134, 110, 110, 142, 123, 68, 80, 127, 126,
        146, 142, 104, 117, 126, 93, 114, 137,
    ]  # fmt: skip
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), expected, atol=0.6)


def test_an_image_does_not_depend_on_its_batch():
    class_ids, indices = np.repeat([0, 17, 33], 150), np.tile(np.arange(150), 3)
    whole, boxes = world.render_images(class_ids, indices, split="train")
    order = np.random.default_rng(0).permutation(len(class_ids))
    mixed, mixed_boxes = world.render_images(class_ids[order], indices[order], split="train")
    assert np.array_equal(whole[order], mixed) and np.array_equal(boxes[order], mixed_boxes)
    for row in order[:9]:
        alone, box = world.render_images(class_ids[row], indices[row], split="train")
        assert np.array_equal(alone[0], whole[row]) and np.array_equal(box[0], boxes[row])


def test_every_word_of_the_key_changes_the_image():
    words = [(0, 0, "train", 0), (1, 0, "train", 0), (0, 1, "train", 0), (0, 0, "val", 0),
             (0, 0, "train", 1)]  # fmt: skip
    pictures = {
        world.render_images(c, i, split=split, seed=seed)[0].tobytes()
        for c, i, split, seed in words
    }
    assert len(pictures) == len(words)


def test_another_size_is_the_same_picture():
    class_ids = np.repeat(ALL, 2)
    instance, pose, setting = _objects_and_view(class_ids, "sizes", class_ids, np.tile([0, 1], 40))
    large, boxes = world.render([(instance, pose)], setting, size=128)
    other = np.roll(np.arange(len(class_ids)), 7)
    for size, bound in ((32, 4.0), (64, 2.5)):
        small, small_boxes = world.render([(instance, pose)], setting, size=size)
        side = 128 // size
        shrunk = large.reshape(-1, size, side, size, side, 3).mean(axis=(2, 4))
        error = np.abs(small - shrunk).mean()
        assert error < bound and error < 0.1 * np.abs(small - shrunk[other]).mean()
        assert np.median(np.abs(small_boxes - boxes)) <= 1 / size


@pytest.mark.parametrize("size", [8, 33, 227])
def test_any_size(size):
    images, boxes = world.render_images([4, 30], [0, 1], split="val", size=size)
    assert images.shape == (2, size, size, 3) and images.std() > 10
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_box_holds_exactly_what_the_object_changes(monkeypatch):
    size, class_ids = 64, np.repeat(ALL, 3)
    instance, pose, setting = _objects_and_view(
        class_ids, "boxes", class_ids, np.tile(np.arange(3), 40)
    )
    setting = dataclasses.replace(setting, occlusion=np.zeros(len(class_ids), np.float32))
    full, boxes = world.render([(instance, pose)], setting, size=size)
    # The same scenes, shadows and all, in which the objects themselves are never drawn.
    undrawn = [dataclasses.replace(record, draw=lambda canvas: None) for record in world.CLASSES]
    monkeypatch.setattr(rendering, "CLASSES", undrawn)
    empty, no_boxes = world.render([(instance, pose)], setting, size=size)
    assert not no_boxes.any()
    changed = np.abs(full.astype(int) - empty).max(axis=-1) > 12
    touched = []
    for image, box in zip(changed, boxes[:, 0], strict=True):
        assert (box >= 0).all() and (box <= 1).all() and (box[2:] > box[:2]).all()
        top, left, bottom, right = (round(edge * size) for edge in box.tolist())
        outside = image.copy()
        outside[max(0, top - 2) : bottom + 2, max(0, left - 2) : right + 2] = False
        inside = image[top:bottom, left:right]
        assert inside.mean() > 0.05 and outside.sum() <= 0.01 * image.sum()
        edges = (inside[:2], inside[-2:], inside[:, :2], inside[:, -2:])
        touched.append(all(edge.any() for edge in edges))
    assert np.mean(touched) > 0.8  # tight, not merely large


def test_one_instance_in_several_views_keeps_its_looks():
    count = 12
    zebra = np.full(count, world.class_id("zebra"))
    one = world.sample_instance(zebra, world.make_keys("one zebra", np.full(count, 7)))
    poses, settings = world.sample_view(zebra, world.make_keys("views", np.arange(count)))
    images, _ = world.render([(one, poses)], settings)
    assert len({image.tobytes() for image in images}) == count
    # In one and the same pose it covers the same pixels, whatever is around it.
    fixed = world.Pose(**{name: np.full(count, x[0]) for name, x in vars(poses).items()})
    clear = dataclasses.replace(settings, occlusion=np.zeros(count, np.float32))
    _, boxes = world.render([(one, fixed)], clear)
    assert np.abs(boxes - boxes[0]).max() <= 1 / 32 + 1e-6


def test_boxes_hold_what_is_seen_and_not_what_is_covered():
    instance, pose, setting = _objects_and_view(ALL, "covered", ALL)
    zero = np.zeros(40, np.float32)
    clear, occluded = (dataclasses.replace(setting, occlusion=zero + x) for x in (0, 1))
    thing = (instance, pose)
    _, alone = world.render([thing], clear)
    # Behind its own double nothing of an object is seen, and the double as if it were alone.
    _, double = world.render([thing, thing], clear)
    assert not double[:, 0].any() and np.array_equal(double[:, 1:], alone)
    absent = (dataclasses.replace(instance, class_ids=np.full(40, world.ABSENT)), pose)
    _, none = world.render([thing, absent], clear)
    assert np.array_equal(none[:, :1], alone) and not none[:, 1].any()
    # What stands in front of an object makes its box smaller, often, and never larger.
    _, less = world.render([thing], occluded)
    seen = less[:, 0].any(axis=1)
    lost = np.concatenate([less[..., :2] - alone[..., :2], alone[..., 2:] - less[..., 2:]], axis=2)
    assert (lost[seen] >= 0).all() and 0.1 < lost.any(axis=(1, 2)).mean() < 0.9


def _upright(class_ids):
    """Instances of the classes, the pose that shows them upright, large and unbent, and settings
    without clutter, occluders and noise.
    """
    keys = world.make_keys("statistics", class_ids, np.arange(len(class_ids)))
    zero = np.zeros(len(class_ids), np.float32)
    pose = world.Pose(
        x=zero + 0.5, y=zero + 0.5, scale=zero + 0.42, angle=zero, mirror=zero + 1,
        shear=zero, stretch=zero + 1, tilt_u=zero, tilt_v=zero,
    )  # fmt: skip
    setting = dataclasses.replace(
        world.sample_setting(keys), clutter=zero - 1, occlusion=zero, noise=zero, built=zero + 1
    )
    return world.sample_instance(class_ids, keys), pose, setting


def _silhouettes(class_ids, size):
    instance, pose, setting = _upright(class_ids)
    picture = np.zeros((len(class_ids), 3, size, size), np.float32)
    return rendering._paint_objects(picture, instance, pose, setting)


def test_man_made_edges_are_straight_and_square():
    class_ids = np.repeat(ALL, 12)
    instance, pose, setting = _upright(class_ids)
    images, _ = world.render([(instance, pose)], setting)
    dy, dx = np.gradient(images.mean(axis=-1), axis=(1, 2))
    power, angle = dx**2 + dy**2, np.arctan2(dy, dx) * 4  # equal for directions at right angles
    # How much of the gradients' energy sits in the strongest direction and the one across it.
    straight = np.abs((power * np.exp(1j * angle)).sum((1, 2))) / power.sum((1, 2))
    assert straight[MADE[class_ids]].mean() > straight[~MADE[class_ids]].mean() + 0.08


def test_natural_symmetry_is_only_approximate():
    """Of things with a left and a right half, the made ones mirror exactly, the grown ones not."""
    made = ["house", "tower_block", "lighthouse", "table", "bookcase", "vase", "bottle", "spanner"]
    grown = ["apple", "strawberry", "oak", "fir", "owl", "butterfly", "ladybird", "bee"]
    defects = []
    for names in (made, grown):
        alpha = _silhouettes(np.repeat([world.class_id(name) for name in names], 8), 64)
        defects.append(np.abs(alpha - alpha[:, :, ::-1]).sum((1, 2)) / alpha.sum((1, 2)))
    assert defects[1].mean() > 3 * defects[0].mean()


def test_shape_names_the_class_and_colour_alone_does_not():
    class_ids = np.repeat(ALL, 24)
    outlines = _silhouettes(class_ids, 24).reshape(len(class_ids), -1)
    half = np.arange(len(class_ids)) % 2 == 0
    shape = KNeighborsClassifier(1).fit(outlines[half], class_ids[half])
    assert shape.score(outlines[~half], class_ids[~half]) > 0.8

    def colours(split):
        images, _ = world.render_images(class_ids, np.tile(np.arange(24), 40), split=split)
        return np.concatenate([images.mean(axis=(1, 2)), images.std(axis=(1, 2))], axis=1)

    colour = KNeighborsClassifier(10).fit(colours("train"), class_ids)
    assert colour.score(colours("val"), class_ids) < 0.2


def test_fast_enough_to_draw_on_the_spot():
    seconds = []
    for _ in range(2):
        start = time.process_time()
        world.render_images(np.repeat(ALL, 16), np.tile(np.arange(16), 40), split="train")
        seconds.append(time.process_time() - start)
    assert min(seconds) / (16 * len(ALL)) < 2.5e-3  # the default world in a minute of one core
