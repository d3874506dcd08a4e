import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from transfer_jax.readout import linear
from transfer_jax.readout.linear import layer_accuracy, multilabel_scores
from transfer_jax.readout.metrics import average_precisions

kinds = pytest.mark.parametrize("kind", linear.KINDS)


def clouds(distance, each=12, size=20):
    """Gaussian clouds of decaying axes, four classes: training and test features and labels."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 2 * each)
    x = rng.normal(size=(len(labels), size)) * np.arange(1, size + 1) ** -0.5
    x += distance * rng.normal(size=(4, size))[labels] / np.sqrt(size)
    x = x.astype(np.float32)
    return x[::2], labels[::2], x[1::2], labels[1::2]


@kinds
@pytest.mark.parametrize("size", [20, 100])  # fewer and more features than images
def test_it_is_scikit_learns_classifier_of_standardised_features(kind, size, monkeypatch):
    monkeypatch.setitem(linear.KINDS, kind, (2.0,))
    train, labels, test, test_labels = clouds(size=size, distance=0.8)
    length = np.sqrt(np.mean(np.sum((train - train.mean(0)) ** 2, axis=1)))
    models = {
        "svm": LinearSVC(C=2.0, dual=False, tol=1e-8),
        "softmax": LogisticRegression(C=2.0, tol=1e-8, max_iter=5000),
    }
    model = models[kind].fit((train - train.mean(0)) / length, labels)
    wanted = model.predict((test - train.mean(0)) / length)
    found = layer_accuracy(train, labels, test, test_labels, kind)
    np.testing.assert_array_equal(found, wanted == test_labels)
    assert 0.3 < found.mean() < 1


@kinds
def test_c_is_chosen_on_the_training_images(kind, monkeypatch):
    train, labels, test, test_labels = clouds(each=30, distance=2.0)
    accuracy = {}
    for values in ((1e-9,), (1.0,), (1e-9, 1.0), (1.0, 1e-9)):
        monkeypatch.setitem(linear.KINDS, kind, values)
        accuracy[values] = layer_accuracy(train, labels, test, test_labels, kind).mean()
    assert accuracy[1e-9, 1.0] == accuracy[1.0, 1e-9] == accuracy[(1.0,)]
    assert accuracy[(1.0,)] > accuracy[(1e-9,)]


@kinds
@pytest.mark.parametrize("each", [1, 2, 3])
def test_a_few_images_a_class_are_enough(kind, each):
    assert layer_accuracy(*clouds(each=each, distance=15.0), kind).mean() > 0.8


def test_average_precisions_of_images_of_several_classes():
    rng = np.random.default_rng(1)
    labels = rng.choice(np.array([1, 0, -1], np.int8), (160, 3), p=(0.3, 0.6, 0.1))
    informative = (labels == 1) + 0.3 * rng.normal(size=labels.shape)
    noise = rng.normal(size=labels.shape)
    good, bad = (
        average_precisions(multilabel_scores(x[:80], labels[:80], x[80:]), labels[80:])
        for x in (informative, noise)
    )
    assert good.min() > 0.9 > 0.7 > bad.mean()


def test_difficult_images_are_left_out_of_that_class_only(monkeypatch):
    monkeypatch.setitem(linear.KINDS, "svm", (1.0,))
    rng = np.random.default_rng(5)
    x, labels = rng.normal(size=(60, 4)), rng.choice([1, 0, -1], (60, 2))
    scores = multilabel_scores(x, labels, x)
    scaled = (x - x.mean(0)) / np.sqrt(x.var(0).sum())
    for k in range(2):
        known = labels[:, k] >= 0
        model = LinearSVC(C=1.0, dual=False, tol=1e-8).fit(scaled[known], labels[known, k])
        np.testing.assert_allclose(scores[:, k], model.decision_function(scaled), atol=0.02)


@kinds
def test_copies_are_examples_in_training_and_averaged_in_testing(kind, monkeypatch):
    monkeypatch.setitem(linear.KINDS, kind, (2.0,))
    rng = np.random.default_rng(0)
    train, labels, test, test_labels = clouds(distance=0.8)
    train, test = (
        x[:, None] + 0.5 * rng.normal(size=(len(x), 3, x.shape[1])) for x in (train, test)
    )
    found = layer_accuracy(train, labels, test, test_labels, kind)
    flat, repeated = train.reshape(-1, train.shape[2]), np.repeat(labels, 3)
    wanted = layer_accuracy(flat, repeated, test.mean(axis=1), test_labels, kind)
    np.testing.assert_array_equal(found, wanted)
    both = np.stack([labels == 0, labels <= 1], axis=1).astype(np.int8)
    both[::5, 0] = -1
    scores = multilabel_scores(train, both, test)
    wanted = multilabel_scores(flat, np.repeat(both, 3, axis=0), test.mean(axis=1))
    np.testing.assert_allclose(scores, wanted, atol=1e-4)


def test_c_is_not_chosen_on_copies_of_what_was_learned(monkeypatch):
    # Of pure noise a classifier knows the copies of an image that it learned, and nothing else.
    monkeypatch.setitem(linear.KINDS, "svm", (100.0,))
    rng = np.random.default_rng(0)
    x = np.repeat(rng.normal(size=(60, 200)), 4, axis=0).astype(np.float32)
    chosen = linear._fitted("svm", x, np.arange(60) % 2, "balanced_accuracy")
    assert chosen.best_score_ < 0.8
    assert chosen.predict(x).tolist() == np.repeat(np.arange(60) % 2, 4).tolist()
