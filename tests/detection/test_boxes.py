import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings, strategies as st

from transfer_jax.detection.boxes import (
    areas,
    mirrored,
    moved,
    not_suppressed,
    offsets,
    overlaps,
)


def random_boxes(seed, count, least=0.0):
    corners = np.random.default_rng(seed).uniform(size=(count, 2, 2))
    low, high = np.minimum(corners.min(axis=1), 1 - least), corners.max(axis=1)
    return np.concatenate([low, np.maximum(high, low + least)], axis=1).astype(np.float32)


def overlap(one, other):
    """Of two boxes, on a grid so fine that counting cells tells the areas."""
    sides = [min(one[i + 2], other[i + 2]) - max(one[i], other[i]) for i in (0, 1)]
    both = sides[0] * sides[1] if min(sides) > 0 else 0.0
    area = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)) - both
    return both / area if area > 0 else 0.0


@given(st.integers(0, 1000))
def test_overlaps_are_those_of_every_pair(seed):
    one, other = random_boxes(seed, 6), random_boxes(seed + 1, 5)
    one[0] = 0
    other[1], other[2] = one[1], 0
    expected = [[overlap(a, b) for b in other] for a in one]
    np.testing.assert_allclose(overlaps(one, other), expected, atol=1e-5)
    assert overlaps(one, other)[0].max() == 0


@given(st.integers(0, 1000))
def test_offsets_take_a_box_to_its_target(seed):
    boxes, targets = random_boxes(seed, 8, 0.05), random_boxes(seed + 1, 8, 0.05)
    np.testing.assert_allclose(moved(boxes, offsets(boxes, targets)), targets, atol=1e-4)
    np.testing.assert_allclose(moved(boxes, np.zeros((8, 4), np.float32)), boxes, atol=1e-6)


def test_offsets_are_girshicks_and_boxes_stay_in_the_image():
    box, target = np.array([0.2, 0.2, 0.4, 0.6]), np.array([0.3, 0.2, 0.7, 0.4])
    expected = [(0.5 - 0.3) / 0.2 / 0.1, (0.3 - 0.4) / 0.4 / 0.1, np.log(2) / 0.2, -np.log(2) / 0.2]
    np.testing.assert_allclose(offsets(box, target), expected, rtol=1e-6)
    wild = moved(box, np.array([50.0, -90.0, 1000.0, -1000.0]))
    assert np.isfinite(wild).all() and ((wild >= 0) & (wild <= 1)).all()


def test_a_mirror_image_has_mirrored_boxes():
    boxes = random_boxes(0, 9)
    np.testing.assert_allclose(mirrored(mirrored(boxes)), boxes, atol=1e-6)
    np.testing.assert_allclose(areas(mirrored(boxes)), areas(boxes), atol=1e-6)
    picture, (top, left, bottom, right) = np.zeros((8, 8)), (1, 2, 4, 7)
    picture[top:bottom, left:right] = 1
    top, left, bottom, right = np.rint(mirrored(np.array([1, 2, 4, 7]) / 8) * 8).astype(int)
    assert picture[:, ::-1][top:bottom, left:right].all() and (bottom - top, right - left) == (3, 5)


def test_numpy_and_jax_agree():
    boxes, others = random_boxes(0, 5, 0.01), random_boxes(1, 5, 0.01)
    for function in (overlaps, offsets, moved):
        traced = jax.jit(function)(jnp.asarray(boxes), jnp.asarray(others))
        np.testing.assert_allclose(traced, function(boxes, others), rtol=1e-4, atol=1e-5)
        assert isinstance(function(boxes, others), np.ndarray)


@settings(max_examples=30)
@given(st.integers(0, 1000), st.sampled_from([0.1, 0.3, 0.7]))
def test_suppression_is_greedy_within_a_label(seed, most):
    rng = np.random.default_rng(seed)
    boxes, labels = random_boxes(seed, 30, 0.3), rng.integers(0, 3, 30)
    scores = rng.permutation(30) / 30
    kept = []
    for place in sorted(range(30), key=lambda i: -scores[i]):
        rivals = [i for i in kept if labels[i] == labels[place]]
        if all(overlap(boxes[i], boxes[place]) <= most for i in rivals):
            kept.append(place)
    assert not_suppressed(boxes, scores, labels, most, 99).tolist() == kept
    assert not_suppressed(boxes, scores, labels, most, 3).tolist() == kept[:3]


def test_nothing_suppresses_nothing():
    none = np.zeros(0)
    assert not_suppressed(np.zeros((0, 4)), none, none.astype(int), 0.3, 9).shape == (0,)
