import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    balanced_accuracy_score,
    precision_recall_curve,
    top_k_accuracy_score,
)

from transfer_jax.readout.metrics import (
    AVERAGE_PRECISIONS,
    average_precision,
    average_precisions,
    mean_average_precision,
    mean_per_class_accuracy,
    per_class_accuracy,
    top_k_accuracy,
)

rankings = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([1, 0, -1])), min_size=1, max_size=25
).filter(lambda pairs: any(target == 1 for _, target in pairs))


def arrays(pairs):
    scores, targets = np.array(pairs).T
    return scores / 7, targets


@given(st.integers(2, 8), st.integers(1, 30), st.integers(1, 3), st.integers(0, 99))
@hypothesis_settings(max_examples=25)
def test_top_k_agrees_with_scikit_learn(classes, count, k, seed):
    rng = np.random.default_rng(seed)
    scores, labels = rng.normal(size=(count, classes)), rng.integers(0, classes, count)
    if k < classes and classes > 2:
        wanted = top_k_accuracy_score(labels, scores, k=k, labels=np.arange(classes))
        assert top_k_accuracy(scores, labels, k) == pytest.approx(wanted)
    assert top_k_accuracy(scores, labels, classes) == 1


def test_ties_and_missing_numbers_count_against_the_classifier():
    labels = np.array([0, 0, 1])
    scores = np.array([[1.0, 1.0, 0.0], [2.0, 1.0, 0.0], [np.nan, np.nan, np.nan]])
    assert top_k_accuracy(scores, labels, 1) == pytest.approx(1 / 3)
    assert top_k_accuracy(scores, labels, 2) == pytest.approx(2 / 3)
    assert top_k_accuracy(np.zeros((3, 4)), labels, 3) == 0


def test_classes_count_alike_however_many_images_they_have():
    labels = np.array([0] * 8 + [1] * 2)
    predicted = np.array([0] * 8 + [1, 0])
    assert mean_per_class_accuracy(predicted, labels, 2) == pytest.approx(0.75)
    assert np.array_equal(per_class_accuracy(predicted, labels, 2), [1.0, 0.5])
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(60, 5)), rng.integers(0, 5, 60)
    wanted = balanced_accuracy_score(labels, scores.argmax(axis=1))
    assert mean_per_class_accuracy(scores, labels) == pytest.approx(wanted)
    assert mean_per_class_accuracy(scores.argmax(axis=1), labels, 5) == pytest.approx(wanted)


def test_average_precisions_worked_by_hand():
    # Retrieved in order: +, -, +, +, -, -, + : precisions at the positives 1, 2/3, 3/4, 4/7.
    targets = np.array([1, -1, 1, 1, -1, -1, 1])
    scores = np.arange(7, 0, -1.0)
    assert average_precision(scores, targets, "sum") == pytest.approx(
        (1 + 2 / 3 + 3 / 4 + 4 / 7) / 4
    )
    # The envelope lifts 2/3 to 3/4.
    assert average_precision(scores, targets, "area") == pytest.approx(
        (1 + 3 / 4 + 3 / 4 + 4 / 7) / 4
    )
    # Recalls 0, .1, .2 at 1; .3 to .7 at 3/4; .8, .9, 1 at 4/7.
    assert average_precision(scores, targets, "voc2007") == pytest.approx(
        (3 * 1 + 5 * 3 / 4 + 3 * 4 / 7) / 11
    )


def test_a_recall_of_three_tenths_reaches_the_threshold_of_three_tenths():
    # Ten positives, three at the top, then nothing else for a hundred images.
    targets = np.array([1] * 3 + [-1] * 97 + [1] * 7)
    scores = np.arange(107, 0, -1.0)
    tail = 10 / 107
    wanted = (4 * 1 + 7 * tail) / 11
    assert average_precision(scores, targets, "voc2007") == pytest.approx(wanted)


def test_all_retrieved_at_once_is_the_share_of_positives():
    targets = np.array([1, -1, -1, 1, -1])
    for method in AVERAGE_PRECISIONS:
        assert average_precision(np.zeros(5), targets, method) == pytest.approx(2 / 5)
        assert average_precision(np.array([5, 1, 2, 5, 0]), targets, method) == 1


@given(rankings)
@hypothesis_settings(max_examples=60)
def test_average_precision_agrees_with_scikit_learn(pairs):
    scores, targets = arrays(pairs)
    kept = targets != 0
    wanted = average_precision_score(targets[kept] > 0, scores[kept])
    assert average_precision(scores, targets, "sum") == pytest.approx(wanted)
    precision, recall, _ = precision_recall_curve(targets[kept] > 0, scores[kept])
    # scikit-learn's curve runs from recall 1 down to an added point (0, 1).
    precision, recall = precision[:-1], recall[:-1]
    at_least = lambda r: precision[recall >= r - 1e-9].max()  # noqa: E731
    wanted = np.mean([at_least(tenth / 10) for tenth in range(11)])
    assert average_precision(scores, targets, "voc2007") == pytest.approx(wanted)
    steps = np.unique(recall)
    wanted = sum(
        (high - low) * at_least(high) for low, high in zip([0, *steps], steps, strict=False)
    )
    assert average_precision(scores, targets, "area") == pytest.approx(wanted)


@given(rankings, st.integers(0, 99), st.sampled_from(AVERAGE_PRECISIONS))
@hypothesis_settings(max_examples=40)
def test_only_the_order_of_scores_matters_and_not_that_of_images(pairs, seed, method):
    scores, targets = arrays(pairs)
    value = average_precision(scores, targets, method)
    order = np.random.default_rng(seed).permutation(len(scores))
    assert average_precision(scores[order], targets[order], method) == pytest.approx(value)
    assert average_precision(np.exp(3 * scores), targets, method) == pytest.approx(value)
    assert 0 < value <= 1


def test_means_over_classes_and_images_left_out():
    rng = np.random.default_rng(3)
    scores, targets = rng.normal(size=(30, 4)), rng.choice([1, 0, -1], (30, 4))
    each = average_precisions(scores, targets, "voc2007")
    for k in range(4):
        kept = targets[:, k] != 0
        alone = average_precision(scores[kept, k], targets[kept, k], "voc2007")
        assert each[k] == pytest.approx(alone)
    assert mean_average_precision(scores, targets, "voc2007") == pytest.approx(each.mean())


@pytest.mark.parametrize(
    "message, call",
    [
        ("class 2 of 3 has no test", lambda: mean_per_class_accuracy(np.eye(3)[:2], [0, 1])),
        ("need num_classes", lambda: per_class_accuracy(np.array([0]), np.array([0]))),
        (r"outside 0 \.\. 2", lambda: top_k_accuracy(np.eye(3), np.array([0, 1, 3]))),
        ("3 predictions were given with 2", lambda: top_k_accuracy(np.eye(3), np.array([0, 1]))),
        ("k=0", lambda: top_k_accuracy(np.eye(3), np.arange(3), 0)),
        ("method='mean'", lambda: average_precision(np.ones(2), np.ones(2), "mean")),
        ("no image is of the class", lambda: average_precision(np.ones(2), np.array([0, -1]))),
        ("not finite", lambda: average_precision(np.array([np.nan, 1]), np.array([1, -1]))),
        ("1, -1 or 0", lambda: average_precision(np.ones(2), np.array([2, -1]))),
        ("class 1: no image", lambda: average_precisions(np.eye(2), np.array([[1, -1]] * 2))),
    ],
)
def test_bad_arguments_are_named(message, call):
    with pytest.raises(ValueError, match=message):
        call()
