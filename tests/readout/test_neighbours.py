"""Nearest neighbours against scikit-learn, loops and cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

from transfer_jax.readout import neighbours
from transfer_jax.readout.neighbours import (
    class_means,
    nearest,
    neighbour_accuracy,
    sibling_share,
)


def by_loops(queries, references, k, metric):
    """Exact distances one by one; equal ones in index order."""
    indices, distances = [], []
    for q in queries.astype(np.float64):
        row = []
        for index, r in enumerate(references.astype(np.float64)):
            if metric == "euclidean":
                distance = np.sqrt(((q - r) ** 2).sum())
            else:
                norms = np.linalg.norm(q) * np.linalg.norm(r)
                distance = 1 - (q @ r / norms if norms else 0.0)
            row.append((distance, index))
        row.sort()
        indices.append([index for _, index in row[:k]])
        distances.append([distance for distance, _ in row[:k]])
    return np.array(indices), np.array(distances)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_neighbours_are_those_of_scikit_learn(metric, offset):
    rng = np.random.default_rng(0)
    references = (rng.standard_normal((3000, 20)) + offset).astype(np.float32)
    queries = (rng.standard_normal((500, 20)) + offset).astype(np.float32)
    indices, distances = nearest(
        queries, references, 7, metric=metric, query_block=128, reference_block=700
    )
    model = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute")
    model.fit(references.astype(np.float64))
    expected_distances, expected = model.kneighbors(queries.astype(np.float64))
    np.testing.assert_array_equal(indices, expected)
    # scikit-learn's own cosine loses digits far from the origin.
    tolerance = 1e-4 if offset and metric == "cosine" else 1e-9
    np.testing.assert_allclose(distances, expected_distances, rtol=tolerance)


@settings(max_examples=10)
@given(
    st.integers(0, 1000),
    st.sampled_from([(5, 16), (64, 7), (3, 64)]),
    st.sampled_from(["euclidean", "cosine"]),
)
def test_ties_go_to_the_lower_index_whatever_the_blocks(seed, blocks, metric):
    rng = np.random.default_rng(seed)
    references = rng.integers(-1, 2, (60, 2)).astype(np.float32) * 4
    queries = rng.integers(-1, 2, (9, 2)).astype(np.float32)
    indices, distances = nearest(
        queries, references, 12, metric=metric, query_block=blocks[0], reference_block=blocks[1]
    )
    expected, expected_distances = by_loops(queries, references, 12, metric)
    np.testing.assert_allclose(distances, expected_distances, atol=1e-12)
    if metric == "euclidean":  # the cosines of the loops differ in the last digit
        np.testing.assert_array_equal(indices, expected)
    same = distances[:, 1:] == distances[:, :-1]
    assert (indices[:, 1:] > indices[:, :-1])[same].all()


def test_many_identical_references_come_in_order_of_index():
    references = np.ones((500, 3), np.float32)
    references[123] = 0
    indices, distances = nearest(np.ones((2, 3)), references, 30, reference_block=64)
    np.testing.assert_array_equal(indices, [np.arange(30)] * 2)
    np.testing.assert_array_equal(distances, 0)


def test_neighbours_closer_than_float32_can_tell_are_told_apart(monkeypatch):
    # 200 references whose squared distances differ by parts in 10^9, far from a few others.
    steps = np.random.default_rng(0).permutation(200)
    references = np.stack([1 + steps * 1e-9, np.zeros(200)], 1)
    references = np.concatenate([references, [[-1e4, 0.0], [1e4, 0.0]]])
    searched = []
    exhaustive = neighbours._exhaustive
    monkeypatch.setattr(
        neighbours, "_exhaustive", lambda *a: searched.append(len(a[0])) or exhaustive(*a)
    )
    indices, distances = nearest(np.zeros((1, 2)), references, 4)
    np.testing.assert_array_equal(indices[0], np.argsort(steps)[:4])
    np.testing.assert_allclose(distances[0], 1 + np.arange(4) * 1e-9, rtol=1e-13)
    assert searched == [1]


def test_well_separated_neighbours_need_no_second_search(monkeypatch):
    monkeypatch.delattr(neighbours, "_exhaustive")
    rng = np.random.default_rng(0)
    nearest(rng.standard_normal((50, 64)), rng.standard_normal((2000, 64)), 5)


def test_a_zero_vector_is_at_right_angles_to_everything():
    vectors = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    indices, distances = nearest(vectors, vectors, 4, metric="cosine")
    np.testing.assert_array_equal(indices, [[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [3, 0, 2, 1]])
    np.testing.assert_allclose(
        distances, [[1, 1, 1, 1], [0, 1, 1, 2], [0, 1, 1, 1], [0, 1, 1, 2]], atol=1e-12
    )


def test_k_may_be_all_references_and_there_may_be_no_query():
    references = np.array([[3.0], [1.0], [2.0]])
    indices, distances = nearest(np.array([[0.0]]), references, 3)
    assert indices.tolist() == [[1, 2, 0]] and distances.tolist() == [[1, 2, 3]]
    assert nearest(np.empty((0, 1)), references, 2)[0].shape == (0, 2)


def test_accuracy_by_hand():
    train = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])
    labels = np.array([0, 1, 0, 2, 1])
    test = np.array([[0.1], [1.1], [9.9], [10.9]])
    # Nearest, in order: 0 1 2 | 1 2 0 | 3 4 2 | 4 3 2, of classes 0 1 0 | 1 0 0 | 2 1 0 | 1 2 0.
    accuracy = neighbour_accuracy(train, labels, test, np.array([0, 0, 1, 0]), k=(1, 2, 3))
    assert accuracy == {1: 0.25, 2: 0.75, 3: 1.0}


def test_top_1_is_that_of_scikit_learn():
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((10, 16))
    labels, test_labels = rng.integers(0, 10, 800), rng.integers(0, 10, 300)
    train = centres[labels] + 1.2 * rng.standard_normal((800, 16))
    test = centres[test_labels] + 1.2 * rng.standard_normal((300, 16))
    expected = KNeighborsClassifier(1).fit(train, labels).score(test, test_labels)
    accuracy = neighbour_accuracy(train, labels, test, test_labels)
    assert accuracy[1] == pytest.approx(expected) and 0.3 < expected < accuracy[5] < 1


def test_sibling_share_by_hand():
    features = np.array([[0.0], [1.0], [3.0], [10.0], [11.5], [30.0]])
    parents = np.array([0, 0, 1, 1, 1, 2])
    # Nearest others: 0: 1 2 | 1: 0 2 | 2: 1 0 | 3: 4 2 | 4: 3 2; class 5 has no sibling.
    one = sibling_share(features, parents, 1)
    assert one.by_class[:5].tolist() == [1, 1, 0, 1, 1] and np.isnan(one.by_class[5])
    assert one.share == pytest.approx(0.8) and one.attainable == 1
    assert one.chance == pytest.approx((1 / 5 * 2 + 2 / 5 * 3) / 5)
    two = sibling_share(features, parents, 2)
    assert two.by_class[:5].tolist() == [0.5, 0.5, 0, 1, 1]
    assert two.attainable == pytest.approx((0.5 * 2 + 1 * 3) / 5)
    assert two.chance == one.chance


def test_chance_is_what_random_features_give():
    rng = np.random.default_rng(2)
    parents = np.repeat(np.arange(5), 8)
    shares = [sibling_share(rng.standard_normal((40, 30)), parents, 5) for _ in range(12)]
    assert np.mean([s.share for s in shares]) == pytest.approx(shares[0].chance, abs=0.03)
    assert shares[0].chance == pytest.approx(7 / 39)


def test_no_class_is_its_own_neighbour_even_among_equals():
    found = sibling_share(np.zeros((6, 2)), np.array([0, 1, 2, 3, 4, 4]), 2)
    np.testing.assert_array_equal(found.by_class[4:], 0)  # neighbours 0 and 1, as for all
    alone = sibling_share(np.zeros((3, 2)), np.arange(3))
    assert np.isnan(alone.share) and np.isnan(alone.by_class).all()


def test_class_means(monkeypatch):
    features = np.random.default_rng(0).standard_normal((50, 3))
    labels = np.arange(50) % 4
    monkeypatch.setattr(neighbours, "_HOST_BLOCK", 21)
    expected = [features[labels == c].mean(0) for c in range(4)]
    np.testing.assert_allclose(class_means(features, labels), expected)
    with pytest.raises(ValueError, match="every class from 0 to 4"):
        class_means(features, np.where(labels == 3, 4, labels))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nearest(np.ones((2, 3)), np.ones((4, 2)), 1), "equally many columns, got 3 and 2"),
        (lambda: nearest(np.ones(3), np.ones((4, 3)), 1), "queries should be a matrix"),
        (lambda: nearest(np.ones((2, 3)), np.ones((4, 3)), 5), r"k should lie in 1 .. 4"),
        (lambda: nearest(np.ones((2, 3)), np.ones((4, 3)), 1, metric="l1"), "metric .* got 'l1'"),
        (lambda: nearest(np.ones((2, 3)), np.ones((4, 3)), 1, query_block=0), "blocks should be"),
        (lambda: nearest(np.full((2, 3), np.nan), np.ones((4, 3)), 1), "queries should be finite"),
        (lambda: nearest(np.ones((2, 3)), np.full((4, 3), np.inf), 1), "references should be fin"),
        (
            lambda: neighbour_accuracy(np.ones((4, 2)), np.arange(3), np.ones((1, 2)), [0]),
            "train labels should be 4 integers",
        ),
        (
            lambda: neighbour_accuracy(
                np.ones((4, 2)), np.arange(4), np.ones((1, 2)), np.array([0]), k=(0,)
            ),
            "at least 1",
        ),
        (lambda: sibling_share(np.ones((4, 2)), np.arange(3)), r"parents should have shape \(4,\)"),
        (lambda: sibling_share(np.ones((4, 2)), np.arange(4), 4), "k should lie in 1 .. 3"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
