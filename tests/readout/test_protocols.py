import numpy as np
import pytest

from tests.readout.linear_problems import clouds, signs
from transfer_jax.readout.linear import fit_softmax, fit_svm, uniform_targets
from transfer_jax.readout.metrics import average_precision, mean_per_class_accuracy
from transfer_jax.readout.preprocessing import Standardisation
from transfer_jax.readout.protocols import (
    FoldFeatures,
    Summary,
    accuracy_curve,
    fit_readout,
    layer_accuracy,
    layer_average_precisions,
    layer_table,
    nested_subsets,
)


def halves(classes=3, each=12, size=20, distance=3.0, seed=0):
    """Training and test features and labels of the same clouds."""
    x, y = clouds(classes, 2 * each, size, distance, seed)
    return x[::2], y[::2], x[1::2], y[1::2]


def test_a_summary_is_the_mean_and_the_deviation_between_folds():
    summary = Summary.of([0.85, 0.87, 0.866])
    assert summary.mean == pytest.approx(0.862)
    assert summary.std == pytest.approx(np.std([0.85, 0.87, 0.866], ddof=1))
    assert str(summary) == "86.2 ± 1.1"
    assert str(Summary.of([0.5])) == "50.0" and Summary.of([0.5]).std is None
    for bad in ([], [0.5, float("nan")]):
        with pytest.raises(ValueError, match="at least one value"):
            Summary.of(bad)


@pytest.mark.parametrize("kind, fit", [("svm", fit_svm), ("softmax", fit_softmax)])
def test_layer_accuracy_is_that_of_a_readout_of_standardised_features(kind, fit):
    train, labels, test, test_labels = halves(distance=1.5)
    standardisation = Standardisation.of(train)
    option = {"c": 0.5} if kind == "svm" else {"l2": 0.5}
    model = fit(standardisation(train), labels, **option)
    scores = model.scores(standardisation(test))
    wanted = mean_per_class_accuracy(scores, test_labels)
    found = layer_accuracy(train, labels, test, test_labels, kind, regularisation=0.5)
    assert found == pytest.approx(wanted) and 0.4 < found < 1
    plain = fit_readout(train, labels, kind, regularisation=0.5)
    np.testing.assert_allclose(plain.scores(test), scores, atol=1e-3)


def test_the_scale_of_the_features_does_not_matter():
    train, labels, test, test_labels = halves(distance=1.5)
    for kind in ("svm", "softmax", "sigmoid"):
        one = layer_accuracy(train, labels, test, test_labels, kind)
        other = layer_accuracy(50 * train + 3, labels, 50 * test + 3, test_labels, kind)
        assert one == pytest.approx(other) and one > 1 / 3


def test_table_six_has_a_row_for_each_readout_and_layer():
    folds = []
    for seed in range(3):
        good, bad = halves(distance=6.0, seed=seed), halves(distance=0.0, seed=seed)
        folds.append(
            FoldFeatures(
                {"conv1": bad[0], "fc7": good[0]},
                good[1],
                {"conv1": bad[2], "fc7": good[2]},
                good[3],
            )
        )
    table = layer_table(iter(folds))
    assert set(table) == {(k, n) for k in ("svm", "softmax") for n in ("conv1", "fc7")}
    for kind in ("svm", "softmax"):
        values = [
            layer_accuracy(f.train["fc7"], f.train_labels, f.test["fc7"], f.test_labels, kind)
            for f in folds
        ]
        assert table[kind, "fc7"] == Summary.of(values)
        assert table[kind, "conv1"].mean < 0.6 < 0.9 < table[kind, "fc7"].mean
    with pytest.raises(ValueError, match="at least one fold"):
        layer_table([])
    one = FoldFeatures({"fc7": good[0]}, good[1], {"fc7": good[2]}, good[3])
    with pytest.raises(ValueError, match="the same layers in all 2"):
        layer_table([folds[0], one], kinds=("softmax",))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "svm"])
def test_average_precisions_of_images_of_several_classes(kind):
    targets = signs(0, 120, 3)
    targets[5] = -1
    rng = np.random.default_rng(1)
    informative = (targets + 0.3 * rng.normal(size=targets.shape)).astype(np.float32)
    noise = rng.normal(size=targets.shape).astype(np.float32)
    arguments = dict(kind=kind, regularisation=0.01 if kind != "svm" else 1.0, method="voc2007")
    good, bad = (
        layer_average_precisions(x[:60], targets[:60], x[60:], targets[60:], **arguments)
        for x in (informative, noise)
    )
    assert good.shape == (3,) and good.min() > 0.9 > 0.7 > bad.mean()


def test_a_softmax_ranks_images_by_probabilities_and_passes_over_images_without_a_class():
    targets = signs(2, 50, 3)
    x = (targets + np.random.default_rng(0).normal(size=(50, 3))).astype(np.float32)
    kept = (targets > 0).any(axis=1)
    blank = np.concatenate([targets, -np.ones((5, 3), np.int8)])
    more = np.concatenate([x, x[:5]])
    found = layer_average_precisions(
        more, blank, x, targets, regularisation=0.01, standardisation="none"
    )
    logits = fit_softmax(x[kept], uniform_targets(targets[kept]), l2=0.01).scores(x)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for k in range(3):
        assert found[k] == pytest.approx(average_precision(shares[:, k], targets[:, k]), abs=1e-3)


def test_subsets_are_nested_and_even():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(5), (7, 9, 8, 7, 12)))
    subsets = nested_subsets(labels, (1, 7, 3), seed=3)
    assert list(subsets) == [1, 7, 3]
    for count, chosen in subsets.items():
        assert np.array_equal(np.bincount(labels[chosen]), [count] * 5)
        assert (np.diff(chosen) > 0).all()
    assert set(subsets[1]) < set(subsets[3]) < set(subsets[7])
    other = nested_subsets(labels, (3,), seed=4)[3]
    assert not np.array_equal(other, subsets[3])
    for bad in (0, 8):
        with pytest.raises(ValueError, match=f"{bad} images a class were asked for; class 0 has 7"):
            nested_subsets(labels, (bad,))


def test_the_curve_of_figure_seven_rises_from_one_image_a_class():
    train, labels, test, test_labels = halves(classes=5, each=20, size=30, distance=1.3)
    curve = accuracy_curve(train, labels, test, test_labels, (1, 5, 20))
    assert list(curve) == [1, 5, 20]
    assert 0.2 < curve[1] < curve[20] - 0.1
    assert curve[20] == layer_accuracy(train, labels, test, test_labels, "softmax")


def test_test_images_of_every_class_are_needed():
    train, labels, test, test_labels = halves()
    with pytest.raises(ValueError, match="class 2 of 3 has no test image"):
        layer_accuracy(train, labels, test[test_labels < 2], test_labels[test_labels < 2])
    with pytest.raises(ValueError, match="kind='forest'"):
        layer_accuracy(train, labels, test, test_labels, "forest")
