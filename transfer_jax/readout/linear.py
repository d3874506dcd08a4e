"""Linear readouts of frozen features (Zeiler & Fergus 2013, section 5.2, Tables 3 to 6).

Features are centred and divided by one number that makes the training images' mean squared length
1: their geometry stays, and one C suits layers of any width. C is chosen on a third of the training
images, of two values only: measured on features of trained and of random networks, from 5 and 60
images a class, an SVM's C between 1 and 10 changes the accuracy by a point or so, and a softmax's
between 10 and 100.

Features may be those of several copies of each image, (N, copies, D): each copy is then an example
to learn from, and of a test image the mean over its copies is judged, whose score is the mean of
theirs.
"""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit
from sklearn.svm import LinearSVC
from threadpoolctl import threadpool_limits

KINDS = {"svm": (0.3, 3.0), "softmax": (3.0, 30.0)}
"""The readouts, with the values of scikit-learn's C that are tried; the last serves where a class
has too few images to choose by."""


def layer_accuracy(
    train_x: np.ndarray,
    train_y: np.ndarray,
    test_x: np.ndarray,
    test_y: np.ndarray,
    kind: str = "svm",
) -> np.ndarray:
    """Which test images a linear classifier of a layer's features gets right, bool (M,): Table 6 of
    Zeiler & Fergus 2013.

    It learns from features (N, D) or (N, copies, D) with labels (N,), and is tested on (M, D) or
    (M, copies, D) with (M,). 'svm' is one class against the rest with squared hinge loss, 'softmax'
    multinomial logistic regression.

    Example:
      >>> layer_accuracy(train["fc7"], train_y, test["fc7"], test_y, "softmax").mean()
      0.862
    """
    # Small products on many threads take up to fifty times as long where the cores are busy.
    with threadpool_limits(1, "blas"):
        train_x, test_x = _prepared(train_x, test_x)
        model = _fitted(kind, train_x, train_y, "balanced_accuracy")
        return model.predict(test_x) == test_y


def multilabel_scores(train_x: np.ndarray, labels: np.ndarray, test_x: np.ndarray) -> np.ndarray:
    """Scores (M, K) by linear SVMs, one a class, of images that may show several classes, to be
    ranked by `metrics.average_precisions`.

    Features are as in `layer_accuracy`. Labels (N, K) are 1 where a class shows, 0 where it does
    not, -1 where it is difficult: the image is then left out of that class alone. Each class needs
    both of the others.
    """
    scores = []
    with threadpool_limits(1, "blas"):
        train_x, test_x = _prepared(train_x, test_x)
        for column in labels.T:
            known = column >= 0
            examples = train_x[np.repeat(known, len(train_x) // len(known))]
            model = _fitted("svm", examples, column[known], "average_precision")
            scores.append(model.decision_function(test_x))
    return np.stack(scores, axis=1)


def _prepared(train_x, test_x):
    """Training examples (N * copies, D) and test images (M, D), centred and scaled."""
    test_x = test_x.reshape(len(test_x), -1, test_x.shape[-1]).mean(axis=1)
    train_x = train_x.reshape(-1, train_x.shape[-1])
    mean = train_x.mean(axis=0, dtype=np.float64)
    length = np.sqrt(train_x.var(axis=0, dtype=np.float64).sum()) or 1.0
    train_x, test_x = (((x - mean) / length).astype(np.float32) for x in (train_x, test_x))
    if train_x.shape[1] > len(train_x):
        # Of weights under an L2 penalty only the part in the span of the images matters, and
        # turning them into coordinates of that span changes no score.
        axes, coordinates = np.linalg.qr(train_x.T)
        train_x, test_x = coordinates.T, test_x @ axes
    return train_x, test_x


def _fitted(kind, x, y, scoring):
    """A classifier of the examples x, as many copies of an image as there are for each of y."""
    if kind == "svm":
        # Coordinate descent in the dual is the faster one but for many images of few features.
        dual = len(x) < 10 * x.shape[1]
        model = LinearSVC(dual=dual, tol=1e-2, max_iter=5000, random_state=0)
    else:
        model = LogisticRegression(max_iter=1000)
    copies = len(x) // len(y)
    examples = np.repeat(y, copies)
    if np.unique(y, return_counts=True)[1].min() < 3:
        return model.set_params(C=KINDS[kind][-1]).fit(x, examples)
    third = StratifiedShuffleSplit(1, test_size=1 / 3, random_state=0).split(y, y)
    # The copies of an image stay on one side, or C would be chosen on what was learned.
    split = [[np.add.outer(part * copies, np.arange(copies)).ravel() for part in next(third)]]
    return GridSearchCV(model, {"C": KINDS[kind]}, cv=split, scoring=scoring).fit(x, examples)
