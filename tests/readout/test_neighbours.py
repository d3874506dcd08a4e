import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.neighbors import NearestNeighbors

from transfer_jax.readout.neighbours import nearest, neighbours_right, sibling_share


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_neighbours_are_those_of_scikit_learn(offset):
    rng = np.random.default_rng(0)
    references = (rng.standard_normal((1000, 20)) + offset).astype(np.float32)
    queries = (rng.standard_normal((200, 20)) + offset).astype(np.float32)
    model = NearestNeighbors(n_neighbors=7, algorithm="brute").fit(references.astype(np.float64))
    wanted = model.kneighbors(queries.astype(np.float64), return_distance=False)
    np.testing.assert_array_equal(nearest(queries, references, 7, block=128), wanted)


@given(st.integers(0, 1000), st.sampled_from([7, 16, 64]))
@settings(max_examples=8)
def test_ties_go_to_the_lower_position_whatever_the_blocks(seed, block):
    rng = np.random.default_rng(seed)
    references = np.concatenate([x := rng.integers(-4, 5, (30, 2)), -x])  # their mean is 0, exactly
    queries = rng.integers(-4, 5, (9, 2))
    squares = ((queries[:, None] - references) ** 2).sum(axis=2)
    wanted = np.argsort(squares, axis=1, kind="stable")[:, :12]
    np.testing.assert_array_equal(nearest(queries, references, 12, block=block), wanted)


def test_accuracy_by_hand():
    train, labels = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]]), np.array([0, 1, 0, 2, 1])
    test = np.array([[0.1], [1.1], [9.9], [10.9]])
    # Nearest, in order: 0 1 2 | 1 2 0 | 3 4 2 | 4 3 2, of classes 0 1 0 | 1 0 0 | 2 1 0 | 1 2 0.
    right = neighbours_right(train, labels, test, np.array([0, 0, 1, 0]), (1, 2, 3))
    assert right[1].tolist() == [True, False, False, False]
    assert right[2].tolist() == [True, True, True, False] and right[3].all()


def test_noise_is_at_chance():
    rng = np.random.default_rng(1)
    labels, test_labels = rng.integers(0, 10, 800), rng.integers(0, 10, 300)
    noise = neighbours_right(rng.random((800, 16)), labels, rng.random((300, 16)), test_labels)
    assert noise[5].mean() == pytest.approx(1 - 0.9**5, abs=0.08)


def test_sibling_share_by_hand():
    features = np.array([[0.0], [1.0], [3.0], [10.0], [11.5], [30.0]])
    # Nearest others: 0: 1 | 1: 0 | 2: 1 | 3: 4 | 4: 3; class 5 has no sibling.
    found = sibling_share(features, np.array([0, 0, 1, 1, 1, 2]))
    np.testing.assert_array_equal(found.by_class, [1, 1, 0, 1, 1, np.nan])
    assert found.share == pytest.approx(0.8)
    assert found.chance == pytest.approx((1 / 5 * 2 + 2 / 5 * 3) / 5)
    assert np.isnan(sibling_share(features, np.arange(6)).share)
    # Nobody is its own neighbour, even among equals.
    equal = sibling_share(np.zeros((6, 2)), np.array([0, 1, 2, 3, 4, 4]))
    np.testing.assert_array_equal(equal.by_class[4:], 0)
