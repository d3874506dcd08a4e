import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score

from tests.readout.linear_problems import clouds, signs
from transfer_jax.readout.linear import as_targets
from transfer_jax.readout.selection import GRIDS, _deal, choose


def test_the_choice_agrees_with_scikit_learns_cross_validation():
    x, labels = clouds(3, 30, 40, 0.5, seed=4)
    grid = (10.0, 0.1, 1e-2, 1e-5)
    chosen = choose(x, labels, kind="softmax", grid=grid, folds=5)
    accuracy = {
        l2: cross_val_score(LogisticRegression(C=1 / (l2 * 72), max_iter=2000), x, labels).mean()
        for l2 in grid
    }
    # The folds differ, so the choice need not be the same one, but it must be a good one.
    assert accuracy[chosen] >= max(accuracy.values()) - 0.05
    assert min(accuracy.values()) < max(accuracy.values()) - 0.05


@pytest.mark.parametrize("kind", ["svm", "softmax", "sigmoid"])
def test_noise_wants_strong_and_many_clean_features_weak_regularisation(kind):
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(2), 40)
    # The class is the sign of a weak feature among strong irrelevant ones: weights must grow.
    weak = np.where(labels, 0.05, -0.05)
    x = np.concatenate([weak[:, None], rng.normal(size=(80, 3))], axis=1)
    strengths = (1e-4, 1e4) if kind == "svm" else (1e2, 1e-7)
    assert choose(x, labels, kind=kind, grid=strengths) == strengths[1]


def test_of_equal_values_the_strongest_regularisation_wins_and_a_seed_repeats():
    x, labels = clouds(3, 12, 5, 30.0)
    assert choose(x, labels, kind="svm") == GRIDS["svm"][0]
    x, labels = clouds(3, 12, 5, 1.0)
    choices = [choose(x, labels, kind="softmax", seed=7) for _ in range(2)]
    assert choices[0] == choices[1]


@pytest.mark.parametrize("kind", ["svm", "softmax", "sigmoid"])
def test_images_of_several_classes_are_chosen_for_by_average_precision(kind):
    targets = signs(0, 60, 3)
    x = targets + np.random.default_rng(1).normal(size=targets.shape)
    assert choose(x, targets, kind=kind, grid=GRIDS[kind][:2]) in GRIDS[kind][:2]


def test_classes_are_dealt_out_evenly_and_rare_ones_first():
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), (9, 6, 4, 3)))
    targets = as_targets("svm", labels)
    parts = _deal(targets, (targets > 0).sum(axis=0), 3, seed=1)
    for k in range(4):
        in_fold = np.bincount(parts[labels == k], minlength=3)
        assert in_fold.max() - in_fold.min() <= 1
    # Two images of the rare class, both also of the common one, go to different folds.
    several = np.array([[1, -1]] * 10 + [[1, 1]] * 2 + [[-1, -1]] * 3)
    parts = _deal(several, (several > 0).sum(axis=0), 2, seed=0)
    assert parts[10] != parts[11] and set(parts) == {0, 1}
    assert not np.array_equal(parts, _deal(several, (several > 0).sum(axis=0), 2, seed=5))


@pytest.mark.parametrize(
    "message, changes",
    [
        ("class 2 has 1 training images", {"y": np.array([0] * 3 + [1] * 6 + [2])}),
        ("folds=1", {"folds": 1}),
        ("0 values", {"grid": ()}),
        ("kind='tree'", {"kind": "tree"}),
        (
            "image 9 has no class",
            {"kind": "softmax", "y": np.array([[1, -1], [-1, 1], [1, 1]] * 3 + [[-1, -1]])},
        ),
    ],
)
def test_bad_arguments_are_named(message, changes):
    arguments = {"x": np.eye(10), "y": np.arange(10) % 2, "kind": "svm", **changes}
    with pytest.raises(ValueError, match=message):
        choose(arguments.pop("x"), arguments.pop("y"), **arguments)
