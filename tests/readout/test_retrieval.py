import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from transfer_jax.networks import Conv, Network, Relu
from transfer_jax.readout.metrics import average_precision
from transfer_jax.readout.reading import Reading, features, reduced
from transfer_jax.readout.retrieval import (
    average_precisions_of_queries,
    distances,
    ns_scores,
    patch_view,
    sub_patches,
)


def test_patches_of_a_level_are_squares_that_overlap_by_half():
    np.testing.assert_allclose(sub_patches(1), [[0, 0, 1, 1]])
    two = [[0, 0, 2, 2], [0, 1, 2, 3], [1, 0, 3, 2], [1, 1, 3, 3]]
    np.testing.assert_allclose(sub_patches(2)[1:], np.array(two) / 3)
    assert [len(sub_patches(levels)) for levels in (3, 4)] == [14, 30]
    three = sub_patches(3)[5:]
    np.testing.assert_allclose(three[:, 2:] - three[:, :2], 1 / 2)
    assert set(np.round(three[:, 0], 9)) == {0, 0.25, 0.5}


@pytest.mark.parametrize("height,width", [(24, 24), (20, 31)])
def test_patches_are_cut_and_enlarged_as_by_pillow(height, width):
    images = np.random.default_rng(0).integers(0, 256, (3, height, width, 3), dtype=np.uint8)
    found = np.asarray(patch_view(lambda x: x, 3)(images))
    assert found.shape == (3, 14, height, width, 3)
    for image, patches in zip(images, found, strict=True):
        for box, patch in zip(sub_patches(3), patches, strict=True):
            top, left, bottom, right = (round(x) for x in box * [height, width, height, width])
            for channel in range(3):
                cut = Image.fromarray(image[top:bottom, left:right, channel].astype(np.float32))
                wanted = cut.resize((width, height), Image.Resampling.BILINEAR)
                np.testing.assert_allclose(patch[..., channel], wanted, atol=0.01)


def by_loops(queries, references):
    found = np.empty((len(queries), len(references)))
    for i, query in enumerate(queries):
        for j, reference in enumerate(references):
            nearest = []
            for patch in query:
                nearest.append(min(np.linalg.norm(patch - other) for other in reference))
            found[i, j] = np.mean(nearest)
    return found


@given(
    st.integers(0, 99), st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 5),
    st.sampled_from([1, 7, 100]), st.sampled_from([0.0, 100.0]),
)  # fmt: skip
@settings(max_examples=15)
def test_distances_are_those_of_loops_whatever_the_blocks(seed, q, r, p, o, block, offset):
    rng = np.random.default_rng(seed)
    queries, references = (rng.normal(size=(n, k, 6)) + offset for n, k in ((q, p), (r, o)))
    found = distances(queries.astype(np.float32), references.astype(np.float32), block=block)
    np.testing.assert_allclose(found, by_loops(queries, references), atol=1e-4)


def test_an_image_is_near_one_that_holds_all_its_patches():
    # The distance is one of a query to a reference: the other way round it differs.
    query, reference = np.array([[[0.0], [1.0]]]), np.array([[[0.0], [1.0], [9.0]]])
    assert distances(query, reference) == 0
    assert distances(reference, query) == pytest.approx(8 / 3)


def test_average_precisions_of_queries_by_hand():
    # Query 1 ranks references 2 0 3 1 4, of which 2 is junk: +, -, + at 0, 3, 1 and - at 4.
    # Trapezoids: from precision 1 to 1, then from 1/2 to 2/3.
    # Query 2 ranks 4 3 2 1 0: -, -, + and so on: from 0/2 to 1/3.
    rows = np.array([[0.2, 0.5, 0.1, 0.3, 0.9], [5.0, 4.0, 3.0, 2.0, 1.0]])
    first, second = (1 + (1 / 2 + 2 / 3) / 2) / 2, (0 + 1 / 3) / 2
    found = average_precisions_of_queries(rows, [np.array([0, 1]), [2]], [np.array([2]), []])
    assert found == pytest.approx([first, second])


def as_oxford_computes_it(scores, labels):
    """The steps of compute_ap.cpp: along the ranking, junk skipped, recall times mean precision."""
    ranking = sorted(range(len(scores)), key=lambda i: (-scores[i], labels[i]))
    recall, precision, area, hits, place = 0.0, 1.0, 0.0, 0, 0
    for i in ranking:
        if labels[i] == -1:
            continue
        hits, place = hits + (labels[i] == 1), place + 1
        before = recall, precision
        recall, precision = hits / sum(y == 1 for y in labels), hits / place
        area += (recall - before[0]) * (before[1] + precision) / 2
    return area


pairs = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([1, 0, -1])), min_size=1, max_size=20)


@given(pairs.filter(lambda found: any(label == 1 for _, label in found)))
def test_the_trapezoid_rule_is_that_of_oxfords_program(found):
    scores, labels = np.array(found).T
    wanted = as_oxford_computes_it(scores.tolist(), labels.tolist())
    assert average_precision(scores, labels, "trapezoid") == pytest.approx(wanted)


def test_features_that_say_nothing_are_not_rewarded():
    labels = np.array([1, 0, 0, 0, 0, 0, 0, 0])
    assert average_precision(np.zeros(8), labels, "trapezoid") == pytest.approx(1 / 16)
    assert ns_scores(np.zeros((1, 8)), [np.array([0, 1, 2, 3])]) == [0]


def test_ns_score_by_hand():
    # First four of query 1: itself, 1, 5, 2; of query 2: itself and three others.
    rows = np.array([[0.0, 0.1, 0.3, 0.9, 0.8, 0.2], [0.0, 0.7, 0.8, 0.9, 0.2, 0.1]])
    assert ns_scores(rows, [np.array([0, 1, 2, 3]), np.array([0, 1, 2, 3])]).tolist() == [3, 2]


def test_patches_find_an_object_among_clutter():
    """The whole way: an object of a quarter of the image, elsewhere and on other ground."""
    rng = np.random.default_rng(0)
    objects = rng.integers(0, 256, (8, 16, 16, 3), dtype=np.uint8)
    images, labels = rng.integers(90, 166, (32, 32, 32, 3), dtype=np.uint8), np.arange(32) % 8
    for image, label in zip(images, labels, strict=True):
        top, left = 8 * rng.integers(0, 3, 2)
        image[top : top + 16, left : left + 16] = objects[label]
    network = Network("small", 32, (Conv("conv1", 32, 5, stride=2, then=(Relu(),)),))
    params = network.init(jax.random.key(0))

    def view(x):
        return (x - np.float32(128)) / 60

    def found(levels):
        one = Reading("conv1", copies=len(sub_patches(levels)))
        views = {one.copies: patch_view(view, levels)}
        x = features(network, params, images.__getitem__, range(32), [one], views=views)
        ((_, x, _),) = reduced(x, x, [one])
        same = [np.flatnonzero((labels == labels[i]) & (np.arange(32) != i)) for i in range(32)]
        junk = [[i] for i in range(32)]
        return average_precisions_of_queries(distances(x, x), same, junk).mean()

    assert found(3) > 0.9 > 0.4 > found(1)
