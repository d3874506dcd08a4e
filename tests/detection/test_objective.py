"""Which regions are learned from, by which loss, and what a network becomes as a detector."""

import collections
import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import small
from tests.detection import scenes
from tests.detection.test_boxes import overlap
from transfer_jax.data.dataset import Dataset
from transfer_jax.detection.boxes import offsets
from transfer_jax.detection.network import apply_regions, detector
from transfer_jax.detection.objective import Detection, detection_task
from transfer_jax.networks import MaxPool, RoiPool, alexnet, alexnet_mini, torchvision_alexnet

TASK, NET, RECIPE = scenes.task(), scenes.network(), small.RECIPE
STRAIGHT = dataclasses.replace(
    RECIPE, augmentation=dataclasses.replace(RECIPE.augmentation, mirror=False)
)
IMAGES, LABELS = TASK.dataset.read(TASK.train[0]), TASK.train[1]
MEAN = np.array([100.0, 110.0, 120.0], np.float32)
KEYS = jax.random.split(jax.random.key(5), len(IMAGES))


seen = jax.jit(Detection.train_view, static_argnums=(0, 1))


def view(recipe=STRAIGHT, keys=KEYS, labels=LABELS, images=IMAGES, regions=16):
    return jax.tree.map(np.asarray, seen(Detection(regions), recipe, images, labels, keys, MEAN))


def some(tree, places):
    return jax.tree.map(lambda a: a[places], tree)


def counted(boxes):
    return collections.Counter(map(tuple, boxes))


@pytest.mark.parametrize("regions", [16, 64])
def test_regions_are_drawn_by_their_overlap(regions):
    """Against loops over one image's boxes, of which there are more than 16 and fewer than 64."""
    _, drawn = view(regions=regions)
    for i in range(len(IMAGES)):
        boxes, classes, moves = (drawn[name][i] for name in ("boxes", "classes", "offsets"))
        objects = [box for box in LABELS["objects"][i] if box[2] > box[0]]
        every = [*objects, *(box for box in LABELS["proposals"][i] if box[2] > box[0])]
        best = [max(overlap(box, one) for one in objects) for box in every]
        shown = min(sum(x >= 0.5 for x in best), regions // 4)
        ground = min(sum(0.1 <= x < 0.5 for x in best), regions - shown)
        assert [(classes > 0).sum(), (classes == 0).sum()] == [shown, ground]
        assert counted(boxes[classes >= 0]) <= counted(every)
        for box, label, move in zip(boxes, classes, moves, strict=True):
            found = [overlap(box, one) for one in objects]
            nearest = int(np.argmax(found))
            if label > 0:
                assert found[nearest] >= 0.5 and label == LABELS["classes"][i][nearest] + 1
                np.testing.assert_allclose(move, offsets(box, objects[nearest]), atol=1e-4)
            else:
                assert not move.any() and (label < 0 or 0.1 <= found[nearest] < 0.5)


def test_what_is_drawn_depends_on_the_images_key_alone():
    one, back = view(RECIPE), slice(None, None, -1)
    other = view(RECIPE, KEYS[::-1], some(LABELS, back), IMAGES[::-1])
    jax.tree.map(np.testing.assert_array_equal, one, some(other, back))
    redrawn = view(RECIPE, jax.random.split(jax.random.key(6), len(IMAGES)))
    assert not np.array_equal(one[1]["boxes"], redrawn[1]["boxes"])


def test_half_of_the_images_are_mirrored_with_their_boxes():
    (x, drawn), (straight, unmirrored) = view(RECIPE), view()
    np.testing.assert_allclose(straight, (IMAGES - MEAN) / 60, rtol=1e-5)
    flipped = [not np.array_equal(*pair) for pair in zip(x, straight, strict=True)]
    assert 0 < sum(flipped) < len(flipped)
    for i in np.flatnonzero(flipped):
        np.testing.assert_array_equal(x[i], straight[i, :, ::-1])
        there = unmirrored["classes"][i] >= 0
        top, left, bottom, right = unmirrored["boxes"][i][there].T
        expected = np.stack([top, 1 - right, bottom, 1 - left], axis=1)
        np.testing.assert_allclose(drawn["boxes"][i][there], expected, atol=1e-6)
        expected = unmirrored["offsets"][i] * [1, -1, 1, 1]
        np.testing.assert_allclose(drawn["offsets"][i], expected, atol=1e-3)


def test_images_without_objects_teach_nothing_and_those_without_proposals_their_objects():
    labels = jax.tree.map(np.array, LABELS)
    labels["objects"][0], labels["classes"][0], labels["proposals"][1] = 0, -1, 0
    x, drawn = view(labels=labels)
    assert (drawn["classes"][0] == -1).all()
    own = labels["objects"][1][labels["classes"][1] >= 0]
    there = drawn["boxes"][1][drawn["classes"][1] >= 0]
    assert set(map(tuple, own[:4])) == set(map(tuple, there))

    def loss(params):
        return OBJECTIVE.loss(NET, RECIPE, params, x[:1], 0, some(drawn, slice(1)), KEYS[:1])

    value, gradient = jax.value_and_grad(loss)(NET.init(jax.random.key(0)))
    assert value == 0 and not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


OBJECTIVE = Detection(16)


def test_difficult_objects_are_no_labels_and_data_without_objects_are_refused():
    for place, row in enumerate(TASK.train[0]):
        labels, boxes, difficult = TASK.dataset.boxes[row]
        there = LABELS["classes"][place] >= 0
        assert LABELS["classes"][place][there].tolist() == labels[~difficult].tolist()
        np.testing.assert_array_equal(LABELS["objects"][place][there], boxes[~difficult])
    bare = Dataset.from_arrays(IMAGES, np.zeros(len(IMAGES)), splits={"train": [0], "val": [1]})
    with pytest.raises(ValueError, match="has no boxes"):
        detection_task("A", bare, np.zeros((len(IMAGES), 1, 4)))
    boxes = [([], np.zeros((0, 4)), [])] * len(IMAGES)
    empty = Dataset.from_arrays(IMAGES, np.zeros((len(IMAGES), 3)), boxes=boxes)
    with pytest.raises(ValueError, match=r"no image of 'train' .* shows an object"):
        detection_task("A", empty, np.zeros((len(IMAGES), 1, 4)))


def test_the_loss_is_that_of_a_loop_over_regions():
    x, drawn = view(regions=16)
    params = NET.init(jax.random.key(1))
    plain = dataclasses.replace(NET, layers=tuple(without_dropout(NET)))
    outputs = np.asarray(apply_regions(plain, params, x, 0, drawn["boxes"]), np.float64)
    losses = np.zeros(outputs.shape[:2])
    for i, r in np.ndindex(losses.shape):
        label, row = drawn["classes"][i, r], outputs[i, r]
        if label >= 0:
            losses[i, r] = np.log(np.exp(row[:4]).sum()) - row[label]
        if label > 0:
            move = row[4 + 4 * (label - 1) : 4 + 4 * label]
            apart = np.abs(move - drawn["offsets"][i, r])
            losses[i, r] += np.where(apart < 1, apart**2 / 2, apart - 0.5).sum()
    found = OBJECTIVE.loss(plain, RECIPE, params, x, 0, drawn, KEYS)
    assert float(found) == pytest.approx(losses.mean(), rel=1e-4)
    # Parts of a batch, each on its device, have the mean of their losses.
    halves = [slice(0, 6), slice(6, 12)]
    parts = [OBJECTIVE.loss(plain, RECIPE, params, x[h], 0, some(drawn, h), KEYS) for h in halves]
    assert float(found) == pytest.approx(float(sum(parts)) / 2, rel=1e-5)
    share, loss = np.asarray(OBJECTIVE.score(plain, params, x, 0, drawn)).T
    there = drawn["classes"] >= 0
    right = (outputs[..., :4].argmax(-1) == drawn["classes"]) & there
    np.testing.assert_allclose(share, right.sum(1) / there.sum(1), rtol=1e-6)
    np.testing.assert_allclose(loss, losses.mean(1), rtol=1e-4)


def without_dropout(network):
    for layer in network.layers:
        kept = tuple(op for op in layer.then if type(op).__name__ != "Dropout")
        yield dataclasses.replace(layer, then=kept)


def test_evaluations_see_the_same_regions():
    evaluated = jax.jit(OBJECTIVE.eval_view, static_argnums=0)
    one = evaluated(RECIPE, IMAGES[:4], some(LABELS, slice(4)), MEAN)
    other = evaluated(RECIPE, IMAGES[2:6], some(LABELS, slice(2, 6)), MEAN)
    jax.tree.map(np.testing.assert_array_equal, some(one, slice(2, 4)), some(other, slice(2)))


# The network


@pytest.mark.parametrize(
    ("base", "size"),
    [(alexnet_mini(7), 4), (alexnet_mini(7, input_size=24), 3), (alexnet(7), 6),
     (torchvision_alexnet(7), 6), (alexnet_mini(7, remove=("conv5", "fc6")), 8)],
)  # fmt: skip
def test_a_detector_has_its_bases_layers_but_for_the_last(base, size):
    made = detector(base, 5, canvas=2 * base.input_size)
    assert made.layer_names[:-1] == base.layer_names[:-1] and made.layer_names[-1] == "detect"
    for name in made.layer_names[:-1]:
        assert made.kernel_shapes[name] == base.kernel_shapes[name]
    assert made.num_classes == 26 == Detection().num_outputs(5)
    pools = [op for layer in made.layers for op in layer.then if isinstance(op, RoiPool)]
    assert pools == [RoiPool(size)]
    convs = [layer for layer in made.layers if layer.name.startswith("conv")]
    if "conv5" in base.layer_names:
        assert not any(isinstance(op, MaxPool) for op in convs[-1].then)


def test_a_detector_of_maps_that_are_not_square_is_refused():
    with pytest.raises(ValueError, match=r"conv5 gives maps of 4 x 6"):
        detector(alexnet_mini(7, input_size=(32, 48)), 5, canvas=96)


def test_a_region_of_the_whole_image_is_the_whole_image():
    x = (IMAGES[:4] - MEAN) / 60
    params, whole = NET.init(jax.random.key(2)), np.tile([0, 0, 1, 1], (4, 1, 1)).astype(np.float32)
    found = apply_regions(NET, params, x, 0, whole)[:, 0]
    np.testing.assert_allclose(found, NET.apply(params, x), rtol=1e-5, atol=1e-6)
    # What leaves frozen layers may enter in place of the image.
    below = NET.apply_range(params, x, 0, 1)
    again = apply_regions(NET, params, below, 1, whole)[:, 0]
    np.testing.assert_array_equal(found, again)
    with pytest.raises(ValueError, match=r"2 layers stand still, and conv2 .* at most 1"):
        apply_regions(NET, params, below, 2, whole)


def test_regions_of_one_image_drop_other_units_and_those_of_one_key_the_same():
    x = jnp.asarray((IMAGES[:2] - MEAN) / 60).at[1].set((IMAGES[0] - MEAN) / 60)
    boxes = np.tile([0.1, 0.1, 0.8, 0.9], (2, 3, 1)).astype(np.float32)
    params = NET.init(jax.random.key(2))
    one, two = apply_regions(NET, params, x, 0, boxes, jnp.stack([KEYS[0], KEYS[0]]))
    np.testing.assert_array_equal(one, two)
    assert not np.allclose(one[0], one[1])
