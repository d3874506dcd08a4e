import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, top_k_accuracy_score

from transfer_jax.readout.metrics import (
    auc_by_image,
    average_precision,
    average_precision_by_image,
    average_precisions,
    class_accuracy_by_image,
    mean_per_class_accuracy,
    right_bits,
)

rankings = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([1, 0, -1])), min_size=1, max_size=25
).filter(lambda pairs: any(label == 1 for _, label in pairs))


def test_accuracies_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(60, 5)), rng.integers(0, 5, 60)
    for k in (1, 2, 5):
        wanted = top_k_accuracy_score(labels, scores, k=k, labels=np.arange(5)) if k < 5 else 1
        assert right_bits(scores, labels, k).mean() == pytest.approx(wanted)
    wanted = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert mean_per_class_accuracy(right_bits(scores, labels), labels) == pytest.approx(wanted)


def test_ties_and_missing_numbers_count_against_the_classifier():
    labels = np.array([0, 0, 1])
    scores = np.array([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [np.nan, np.nan, np.nan]])
    assert right_bits(scores, labels, 1).tolist() == [False, True, False]
    assert right_bits(scores, labels, 2).tolist() == [True, True, False]
    assert not right_bits(np.zeros((3, 4)), labels, 3).any()


def test_average_precisions_worked_by_hand():
    # Retrieved in order: +, -, +, +, -, -, + : precisions at the positives 1, 2/3, 3/4, 4/7, of
    # which the envelope lifts 2/3 to 3/4.
    labels, scores = np.array([1, 0, 1, 1, 0, 0, 1]), np.arange(7, 0, -1.0)
    area = (1 + 3 / 4 + 3 / 4 + 4 / 7) / 4
    assert average_precision(scores, labels, "area") == pytest.approx(area)
    # Recalls 0, .1, .2 at 1; .3 to .7 at 3/4; .8, .9, 1 at 4/7.
    eleven = (3 * 1 + 5 * 3 / 4 + 3 * 4 / 7) / 11
    assert average_precision(scores, labels, "voc2007") == pytest.approx(eleven)
    # Nothing at the top: at recall 0, too, the precision is one that was measured.
    assert average_precision(np.array([2.0, 1.0]), np.array([0, 1]), "voc2007") == 0.5


def test_positives_that_are_not_retrieved_lower_the_recall():
    scores, labels = np.array([3.0, 2.0, 1.0]), np.array([1, 0, 1])
    # Precisions 1 and 2/3 at recalls 1/4 and 2/4.
    assert average_precision(scores, labels, "area", 4) == pytest.approx((1 + 2 / 3) / 4)
    eleven = (3 * 1 + 3 * 2 / 3) / 11
    assert average_precision(scores, labels, "voc2007", 4) == pytest.approx(eleven)
    assert average_precision(scores, 0 * labels, "area", 4) == 0
    assert np.isnan(average_precision(scores, 0 * labels, "area", 0))
    assert average_precision(scores, labels, "area", 2) == average_precision(scores, labels)


def test_a_recall_of_three_tenths_reaches_the_threshold_of_three_tenths():
    labels = np.array([1] * 3 + [0] * 97 + [1] * 7)
    found = average_precision(np.arange(107, 0, -1.0), labels, "voc2007")
    assert found == pytest.approx((4 * 1 + 7 * 10 / 107) / 11)


def by_loops(scores, labels, rule):
    kept = [(s, y) for s, y in zip(scores, labels, strict=True) if y != -1]
    points = []  # (positives retrieved, precision) at every distinct score
    for threshold in {s for s, _ in kept}:
        retrieved = [y for s, y in kept if s >= threshold]
        points.append((sum(retrieved), sum(retrieved) / len(retrieved)))
    total = sum(y for _, y in kept)
    wanted = [t * total / 10 for t in range(11)] if rule == "voc2007" else range(1, total + 1)
    return np.mean([max(p for r, p in points if r >= least - 1e-9) for least in wanted])


@given(rankings, st.integers(0, 99), st.sampled_from(["area", "voc2007"]))
@settings(max_examples=60)
def test_average_precision_is_that_of_loops_whatever_the_order_of_images(pairs, seed, rule):
    scores, labels = np.random.default_rng(seed).permutation(pairs).T
    wanted = by_loops(scores.tolist(), labels.tolist(), rule)
    assert average_precision(np.exp(scores), labels, rule) == pytest.approx(wanted)


def test_each_class_is_judged_alone_and_one_without_images_has_no_number():
    labels = np.array([[1, 1, 0], [0, -1, 0], [1, 0, 0]])
    found = average_precisions(np.array([[3, 1, 1], [2, 3, 2], [1, 2, 3]]), labels)
    np.testing.assert_allclose(found, [(1 + 2 / 3) / 2, 1 / 2, np.nan])


def weighted_area(scores, labels, weights):
    """Average precision by the area of one class, images counted `weights` times."""
    order = [i for i in np.argsort(-scores) if labels[i] >= 0]
    hits = np.cumsum([weights[i] * labels[i] for i in order])
    precision = hits / np.cumsum([weights[i] for i in order])
    best = [precision[place:].max() for place in range(len(order))]
    return np.diff(hits, prepend=0) @ best / hits[-1]


def weighted_auc(scores, labels, weights):
    known = labels >= 0
    return roc_auc_score(labels[known], scores[known], sample_weight=weights[known])


@pytest.mark.parametrize(
    "by_image, weighted",
    [(average_precision_by_image, weighted_area), (auc_by_image, weighted_auc)],
)
def test_what_images_add_is_the_derivative_by_their_weights(by_image, weighted):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(15, 3)), rng.integers(-1, 2, (15, 3))
    labels[:, 2] = np.arange(15) % 4 == 0

    def measure(weights):
        columns = zip(scores.T, labels.T, strict=True)
        return np.mean([weighted(*column, weights) for column in columns])

    found = by_image(scores, labels)
    assert found.mean() == pytest.approx(measure(np.ones(15)))
    steps = 1e-5 * np.eye(15)
    slopes = [(measure(1 + step) - measure(1 - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(found, found.mean() + 15 * np.array(slopes), atol=1e-6)


def test_equal_scores_are_half_above_half_below_in_the_area_under_the_curve():
    scores, labels = np.array([[1.0], [1.0], [0.0], [2.0]]), np.array([[1], [0], [0], [1]])
    wanted = roc_auc_score(labels, scores)
    assert auc_by_image(scores, labels).mean() == pytest.approx(wanted)


def test_what_images_add_to_a_mean_over_classes():
    right, labels = np.array([1, 0, 1, 1, 0, 1], bool), np.array([0, 0, 0, 0, 1, 1])
    found = class_accuracy_by_image(right, labels)
    assert found.mean() == pytest.approx((3 / 4 + 1 / 2) / 2)

    def measure(weights):
        return balanced_accuracy_score(
            labels, np.where(right, labels, 1 - labels), sample_weight=weights
        )

    slopes = [(measure(1 + s) - measure(1 - s)) / 2e-5 for s in 1e-5 * np.eye(6)]
    np.testing.assert_allclose(found, found.mean() + 6 * np.array(slopes), atol=1e-6)
