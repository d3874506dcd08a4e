"""Minimising a linear readout's objective, in coordinates that make it small and round.

Of L2-regularised weights only the part in the span of the training features matters, so features
are first written in an orthonormal basis of their span: min(N, D) numbers an image instead of D,
the same scores and the same objective exactly. The basis is that of the principal axes, in which
the objective's curvature is nearly diagonal and known in advance; dividing by its square root
leaves a few tens of L-BFGS iterations.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from transfer_jax.readout.objectives import Objective

SOLVERS = ("sklearn", "scipy", "optax")
_MAX_ITERATIONS = 2000
_COLUMNS = 8192
_SMALL = 1500
_LEAST_ENERGY = 1e-12


@dataclasses.dataclass(frozen=True, eq=False)
class Span:
    """Training features in coordinates of their own span; made by `Span.of`.

    Attributes:
      features: (N, D) the features themselves.
      coordinates: (N, r) float64, r <= min(N, D): the features along their principal axes
        (through the origin, not the mean), strongest last.
      energies: (r,) sum of squares of each coordinate over the images.
    """

    features: np.ndarray
    coordinates: np.ndarray
    energies: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Span:
        """Finds the span of features (N, D).

        Inner products are summed in float64. Axes with less than 1e-12 of the strongest one's
        energy, a millionth of its length, are left out as rounding.
        """
        count, size = features.shape
        with _threads(min(count, size)):
            if size > count:
                gram = np.zeros((count, count))
                for start in range(0, size, _COLUMNS):
                    part = features[:, start : start + _COLUMNS].astype(np.float64)
                    gram += part @ part.T
                energies, vectors = np.linalg.eigh(gram)
            else:
                whole = features.astype(np.float64)
                energies, axes = np.linalg.eigh(whole.T @ whole)
        kept = energies > _LEAST_ENERGY * max(energies[-1], 0)
        energies = energies[kept]
        if size > count:
            coordinates = vectors[:, kept] * np.sqrt(energies)
        else:
            coordinates = whole @ axes[:, kept]
        return cls(features, coordinates, energies)

    def weights(self, weights: np.ndarray) -> np.ndarray:
        """Weights (D, K) of features that score as weights (r, K) of coordinates do."""
        combination = (self.coordinates / self.energies) @ weights
        if self.features.dtype == np.float32:
            combination = combination.astype(np.float32)
        return self.features.T @ combination


def default_solver(kind: str) -> str:
    """'optax' on accelerators; on a CPU 'sklearn' for SVMs and 'scipy' for the others."""
    if jax.default_backend() != "cpu":
        return "optax"
    return "sklearn" if kind == "svm" else "scipy"


def solve(
    objective: Objective,
    coordinates: np.ndarray,
    energies: np.ndarray,
    targets: np.ndarray,
    solver: str,
    tolerance: float,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """The minimum of an objective.

    Args:
      objective: what is minimised.
      coordinates: (N, r) as a `Span` has them, or some rows of those.
      energies: (r,) the span's; their sizes set the pace and not the result.
      targets: (N, K).
      solver: 'sklearn' (LIBLINEAR's trust region Newton method, SVMs only), 'scipy' (L-BFGS in
        float64) or 'optax' (L-BFGS in float32, compiled for the default device).
      tolerance: iterations end when J is proved to be within this share of its minimum.
      start: (r + 1, K) where 'scipy' and 'optax' begin; None begins at 0.

    Returns:
      (r + 1, K) float64, the biases last. Warns where the tolerance was not proved.

    Raises:
      ValueError: an unknown solver, or 'sklearn' for another kind than 'svm'.
    """
    if solver not in SOLVERS:
        raise ValueError(f"solver={solver!r}: expected 'auto' or one of {', '.join(SOLVERS)}")
    if solver == "sklearn" and objective.kind != "svm":
        raise ValueError(f"solver='sklearn' fits SVMs; use 'scipy' or 'optax' ({objective.kind})")
    with _threads(coordinates.shape[1]):
        x = np.concatenate([coordinates, np.ones((len(coordinates), 1))], axis=1)
        if solver == "sklearn":
            v = _liblinear(objective, x, targets, tolerance)
        else:
            slopes = np.append(energies, len(x))
            curvature = objective.factor * objective.curvature(targets.shape[1]) * slopes
            scale = np.sqrt(objective.penalty + curvature)[:, None]
            start = np.zeros((x.shape[1], targets.shape[1])) if start is None else start * scale
            run = _scipy if solver == "scipy" else _optax
            v = run(objective, x, targets, scale, tolerance, start)
        gap = objective.relative_gap(*objective.value_and_gradient(v, x, targets))
    # In float32 the gradient itself is known to some digits only.
    if not gap <= (100 if solver == "optax" else 10) * tolerance:
        warnings.warn(
            f"the {objective.kind} fit by {solver} stopped up to {gap:.1e} above the minimum of "
            f"its objective, relative to it; {tolerance:.1e} was asked for",
            RuntimeWarning,
            stacklevel=3,
        )
    return v


def _threads(size: int):
    """Products of matrices of a few hundred rows are slower on many threads, and very much slower
    where the cores are busy with something else."""
    return threadpool_limits(1 if size <= _SMALL else None, user_api="blas")


def _liblinear(objective, x, targets, tolerance):
    # Imported on use: it takes most of a second, which every start of the program would pay.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    columns = []
    for target in targets.T:
        used = target != 0
        rows, signs = x[used], target[used, None]
        for tol in (1e-5, 1e-7, 1e-9):
            classifier = LinearSVC(C=objective.factor, dual=False, tol=tol, max_iter=1000)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                classifier.fit(rows[:, :-1], signs[:, 0])
            v = np.append(classifier.coef_[0], classifier.intercept_)[:, None]
            if objective.relative_gap(*objective.value_and_gradient(v, rows, signs)) <= tolerance:
                break
        columns.append(v)
    return np.concatenate(columns, axis=1)


def _scipy(objective, x, targets, scale, tolerance, start):
    shape = start.shape
    gap = np.inf

    def value_and_gradient(u):
        nonlocal gap
        value, gradient = objective.value_and_gradient(u.reshape(shape) / scale, x, targets)
        gap = objective.relative_gap(value, gradient)
        return value, (gradient / scale).ravel()

    def stop_when_proved(_):
        if gap <= tolerance:
            raise StopIteration

    found = minimize(
        value_and_gradient,
        start.ravel(),
        method="L-BFGS-B",
        jac=True,
        callback=stop_when_proved,
        options={
            "maxiter": _MAX_ITERATIONS,
            "maxfun": 2 * _MAX_ITERATIONS,
            "ftol": 0,
            "gtol": 0,
        },
    )
    return found.x.reshape(shape) / scale


def _optax(objective, x, targets, scale, tolerance, start):
    arrays = [np.asarray(array, np.float32) for array in (start, x, targets, scale)]
    # Accelerators would round the factors of products to fewer digits.
    with jax.default_matmul_precision("highest"):
        u = _lbfgs(*arrays, objective.penalty, objective.factor, tolerance, kind=objective.kind)
    return np.asarray(u, np.float64) / scale


@functools.partial(jax.jit, static_argnames="kind")
def _lbfgs(start, x, targets, scale, penalty, factor, tolerance, *, kind):
    def value(u):
        v = u / scale
        return penalty / 2 * jnp.vdot(v, v) + factor * _JAX_LOSSES[kind](x @ v, targets)

    solver = optax.lbfgs(
        memory_size=10, linesearch=optax.scale_by_zoom_linesearch(max_linesearch_steps=20)
    )
    value_and_gradient = optax.value_and_grad_from_state(value)

    def update(carry):
        u, state, _, iteration = carry
        loss, gradient = value_and_gradient(u, state=state)
        updates, state = solver.update(
            gradient, state, u, value=loss, grad=gradient, value_fn=value
        )
        new = optax.apply_updates(u, updates)
        # The slope along V, of which u is a multiple.
        slope = optax.tree.get(state, "grad") * scale
        bound = jnp.vdot(slope, slope) / (2 * penalty * optax.tree.get(state, "value"))
        done = (bound <= tolerance) | jnp.all(new == u)
        return new, state, done, iteration + 1

    def goes_on(carry):
        return ~carry[2] & (carry[3] < _MAX_ITERATIONS)

    return jax.lax.while_loop(goes_on, update, (start, solver.init(start), False, 0))[0]


def _jax_squared_hinge(scores, targets):
    return jnp.sum(jnp.maximum(0, jnp.abs(targets) - targets * scores) ** 2)


def _jax_logistic(scores, targets):
    return jnp.sum(jnp.abs(targets) * jax.nn.softplus(-targets * scores))


def _jax_cross_entropy(scores, targets):
    return jnp.sum(optax.softmax_cross_entropy(scores, targets))


_JAX_LOSSES = {
    "svm": _jax_squared_hinge,
    "sigmoid": _jax_logistic,
    "softmax": _jax_cross_entropy,
}
