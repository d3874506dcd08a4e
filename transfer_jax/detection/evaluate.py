"""Detections of a trained detector, and how good they are by PASCAL VOC's protocol."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from transfer_jax.data.batches import padded_batches, stream
from transfer_jax.data.dataset import Boxes
from transfer_jax.data.tasks import Task
from transfer_jax.detection.boxes import areas, moved, not_suppressed, overlaps
from transfer_jax.detection.network import judge_regions, pool_regions, split
from transfer_jax.networks import Network
from transfer_jax.readout.metrics import area_derivative, average_precision
from transfer_jax.training.recipe import Recipe

LEAST_SCORE, MOST_OVERLAP, MOST = 0.01, 0.3, 100
"""Detections of an image: those of a class with this probability at least, of which none overlaps a
better one of its class by more; at most so many."""


class Detections(NamedTuple):
    """What was detected, image by image, in each from the highest score down.

    Attributes:
      images: (M,) place of the image among the task's test images.
      labels: (M,) class.
      scores: (M,) its probability.
      boxes: (M, 4) as `data.dataset.Boxes`.
    """

    images: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray


def detect(
    network: Network, params: Any, recipe: Recipe, mean: np.ndarray, task: Task, batch_size: int = 8
) -> Detections:
    """What a detector finds among the proposals of its task's test images; `recipe` and `mean` are
    those of its training. An image without proposals has no detections."""
    rows, labels = task.val
    proposals = labels["proposals"]

    def read(indices):
        return task.dataset.read(rows[indices]), proposals[indices]

    batches = list(padded_batches(len(rows), min(batch_size, len(rows))))
    found = []
    for (indices, mask), (images, boxes) in zip(
        batches, stream(read, (indices for indices, _ in batches)), strict=True
    ):
        x = (images.astype(np.float32) - mean) * np.float32(recipe.pixel_scale)
        regions = _pooled(network, params, x, boxes)
        scores, moved_boxes = map(np.asarray, _judged(network, params, regions, boxes))
        for place in np.flatnonzero(mask):
            labels, *of_image = _best(scores[place], moved_boxes[place], boxes[place])
            images_of = np.full(len(labels), indices[place])
            found.append((images_of, labels, *of_image))
    return Detections(*map(np.concatenate, zip(*found, strict=True)))


# Two programs: in one, XLA:CPU pools anew for every input of the next layer.
@functools.partial(jax.jit, static_argnums=0)
def _pooled(network: Network, params, x, boxes):
    with jax.default_matmul_precision("highest"):
        return pool_regions(network, params, x, 0, boxes)


@functools.partial(jax.jit, static_argnums=0)
def _judged(network: Network, params, regions, boxes):
    """Probabilities (N, P, 1 + K), and boxes (N, P, K, 4) moved as each class would have them."""
    with jax.default_matmul_precision("highest"):
        logits, by = split(judge_regions(network, params, regions))
    return jax.nn.softmax(logits), moved(boxes[:, :, None], by)


def _best(scores, boxes, proposals):
    """Labels, scores and boxes of one image's detections."""
    there = areas(proposals)[:, None] > 0
    regions, labels = np.nonzero((scores[:, 1:] >= LEAST_SCORE) & there)
    boxes, scores = boxes[regions, labels], scores[regions, labels + 1]
    kept = not_suppressed(boxes, scores, labels, MOST_OVERLAP, MOST)
    return labels[kept], scores[kept], boxes[kept]


def judged(found: Detections, truth: Boxes) -> np.ndarray:
    """Whether each detection is right, (M,): 1, 0, or -1 where it is not to be judged.

    By PASCAL VOC's protocol (Everingham et al. 2010, section 4.2), from the highest score down: a
    detection is of the object of its class that it overlaps most, if by more than half. It is right
    if the object was not found before, and not judged if that is difficult. `truth` are the objects
    of the test images.
    """
    right, taken = np.zeros(len(found.scores), np.int8), np.zeros(len(truth.labels), bool)
    for place in np.argsort(-found.scores, kind="stable"):
        image, label = found.images[place], found.labels[place]
        objects = np.arange(truth.offsets[image], truth.offsets[image + 1])
        objects = objects[truth.labels[objects] == label]
        overlap = overlaps(found.boxes[place][None], truth.boxes[objects])[0]
        if overlap.max(initial=0) > 0.5:
            nearest = objects[overlap.argmax()]
            right[place] = -1 if truth.difficult[nearest] else not taken[nearest]
            taken[nearest] = True
    return right


def average_precisions(
    found: Detections, right: np.ndarray, truth: Boxes, num_classes: int, rule: str
) -> np.ndarray:
    """Average precision (K,) of each class, NaN for one without objects that are to be found.

    Args:
      found: in the test images.
      right: what `judged` says of them.
      truth: their objects, in the images' order.
      num_classes: K.
      rule: 'voc2007' or 'area', see `readout.metrics.average_precision`.
    """
    counted = truth.labels[~truth.difficult]
    return np.array(
        [
            average_precision(found.scores[of], right[of], rule, int((counted == label).sum()))
            for label in range(num_classes)
            for of in [found.labels == label]
        ]
    )


def by_image(
    found: Detections, right: np.ndarray, truth: Boxes, num_classes: int, rule: str = "area"
) -> np.ndarray:
    """What each of N test images adds to the mean of `average_precisions`: (N,). The spread is that
    of the area for both rules, see `readout.metrics`."""
    images, derivatives = len(truth.offsets) - 1, []
    owner = np.repeat(np.arange(images), np.diff(truth.offsets))
    for label in range(num_classes):
        positives = owner[(truth.labels == label) & ~truth.difficult]
        if positives.size:
            of = np.flatnonzero((found.labels == label) & (right >= 0))
            of = of[np.argsort(-found.scores[of], kind="stable")]
            of = right[of] == 1, found.images[of], positives, images
            derivatives.append(area_derivative(*of))
    mean = np.nanmean(average_precisions(found, right, truth, num_classes, rule))
    return mean + images * np.mean(derivatives, axis=0)
