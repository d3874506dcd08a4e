"""Ensembles: the averaged probabilities of several networks (Zeiler & Fergus 2013, Table 1)."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from transfer_jax.data.augment import Augmentation, eval_view, ten_crop_view
from transfer_jax.networks import Network
from transfer_jax.readout.features import Images, map_batches
from transfer_jax.readout.metrics import top_k_accuracy


@dataclasses.dataclass(frozen=True, eq=False)
class Predictions:
    """What a network, or an ensemble, says of some images.

    Attributes:
      probabilities: (N, K).
      labels: (N,) the images' classes.

    Raises:
      ValueError: shapes or labels that do not fit, or rows that are not distributions.
    """

    probabilities: np.ndarray
    labels: np.ndarray

    def __post_init__(self):
        shape = np.shape(self.probabilities)
        if len(shape) != 2 or np.shape(self.labels) != shape[:1] or not shape[0]:
            raise ValueError(
                f"expected probabilities (N, K) and labels (N,), got {shape} and "
                f"{np.shape(self.labels)}"
            )
        if not (0 <= np.min(self.labels) and np.max(self.labels) < shape[1]):
            raise ValueError(f"labels should lie in 0 .. {shape[1] - 1}")
        _check_distributions(self.probabilities, "probabilities")

    def error(self, k: int = 1) -> float:
        """Top-k error: the share of images whose class is not among the k likeliest.

        A class as likely as the true one counts as likelier.
        """
        return 1 - top_k_accuracy(self.probabilities, self.labels, k)


def average_probabilities(members: Sequence[np.ndarray]) -> np.ndarray:
    """Mean (N, K) of the members' probabilities, float64.

    Args:
      members: probabilities (N, K) of each member for the same images and classes in one order.

    Raises:
      ValueError: no members, members of different shapes, or rows that are not distributions.
    """
    if not len(members):
        raise ValueError("an ensemble needs at least one member")
    for index, member in enumerate(members):
        if np.shape(member) != np.shape(members[0]) or np.ndim(member) != 2:
            raise ValueError(
                f"member {index} has probabilities of shape {np.shape(member)}; expected (N, K) "
                f"as member 0, {np.shape(members[0])}"
            )
        _check_distributions(member, f"member {index}")
    return sum(np.asarray(member, np.float64) for member in members) / len(members)


def ensemble(members: Sequence[Predictions]) -> Predictions:
    """The ensemble of some members: their probabilities averaged.

    Raises:
      ValueError: members that differ in their images, by number or labels, or in their classes.

    Example:
      >>> both = ensemble([predict(net, one, ...), predict(net, other, ...)])
      >>> both.error(1), both.error(5)
    """
    average = average_probabilities([member.probabilities for member in members])
    for index, member in enumerate(members):
        differing = np.flatnonzero(np.asarray(member.labels) != np.asarray(members[0].labels))
        if differing.size:
            raise ValueError(
                f"members 0 and {index} differ in {differing.size} labels, first in that of image "
                f"{differing[0]}; expected predictions of the same images in one order"
            )
    return Predictions(average, members[0].labels)


def predict(
    network: Network,
    params: Any,
    dataset: Images,
    split: str,
    indices: np.ndarray,
    labels: np.ndarray,
    *,
    augmentation: Augmentation,
    mean: ArrayLike,
    scale: ArrayLike = 1.0,
    ten_crop: bool = False,
    batch_size: int = 256,
) -> Predictions:
    """Class probabilities of a trained network for some images.

    Args:
      network, params: the network, and parameters of all its layers.
      dataset, split, indices, augmentation, mean, scale: as in `readout.features.features`.
      labels: (N,) the images' classes in the network's task.
      ten_crop: average the probabilities of the four corners, the centre and their mirror images
        instead of taking the centre.
      batch_size: images per forward pass.
    """
    run = functools.partial(
        _program(network, augmentation, ten_crop), params, mean=mean, scale=scale
    )
    indices = np.asarray(indices, np.int64).reshape(-1)
    batches = list(map_batches(run, dataset, split, indices, batch_size))
    if not batches:
        raise ValueError("there are no images to predict: indices is empty")
    return Predictions(np.concatenate(batches), np.asarray(labels))


@functools.lru_cache(maxsize=64)
def _program(network: Network, augmentation: Augmentation, ten_crop: bool):
    @jax.jit
    def run(params, images, mean, scale):
        if ten_crop:
            views = ten_crop_view(images, augmentation, mean, scale)
        else:
            views = eval_view(images, augmentation, mean, scale)[:, None]
        logits = network.apply(params, views.reshape(-1, *views.shape[2:]))
        logits = logits.astype(jnp.float32).reshape(*views.shape[:2], -1)
        return jax.nn.softmax(logits).mean(axis=1)

    return run


def _check_distributions(probabilities: np.ndarray, what: str) -> None:
    probabilities = np.asarray(probabilities)
    sums = probabilities.sum(axis=1)
    if not ((probabilities >= 0).all() and np.allclose(sums, 1, atol=1e-3)):
        raise ValueError(f"{what}: rows should be distributions, not negative and summing to 1")
