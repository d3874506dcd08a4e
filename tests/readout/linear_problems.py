"""Small classification problems for the tests of linear readouts."""

import numpy as np


def clouds(classes: int, each: int, size: int, distance: float, seed: int = 0):
    """Gaussian clouds of decaying axes around random centres: float32 (N, D) and labels (N,).

    The further the centres are apart, the more separable the classes.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), each).astype(np.int32)
    axes = np.arange(1, size + 1) ** -0.5
    x = rng.normal(size=(len(labels), size)) * axes
    x += distance * rng.normal(size=(classes, size))[labels] / np.sqrt(size)
    return x.astype(np.float32), labels


PROBLEMS = {
    "separable": clouds(4, 15, 8, 12.0),
    "overlapping": clouds(4, 15, 8, 0.5, seed=1),
    "many classes": clouds(15, 6, 20, 3.0),
    "more features than images": clouds(4, 8, 100, 2.0),
}


def signs(seed: int, count: int, classes: int) -> np.ndarray:
    """Targets of images of several classes, int8 in {1, 0, -1}; every class has both sides."""
    rng = np.random.default_rng(seed)
    targets = rng.choice(np.array([1, 0, -1], np.int8), (count, classes), p=(0.3, 0.1, 0.6))
    targets[:2] = np.array([[1], [-1]])
    targets[targets.max(axis=1) < 1, 0] = 1
    return targets
