"""Fast R-CNN (Girshick 2015, section 2.3) as an objective, and the tasks that it learns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from transfer_jax.data.dataset import Dataset
from transfer_jax.data.tasks import TRAIN_VAL, Task
from transfer_jax.detection.boxes import areas, mirrored, offsets, overlaps
from transfer_jax.detection.network import apply_regions, split
from transfer_jax.detection.proposals import padded
from transfer_jax.networks import Network
from transfer_jax.training.recipe import Recipe

FOREGROUND, BACKGROUND = 0.5, 0.1
"""Overlap with an object from which a region is of its class, and from which it is background;
what overlaps none is too easy to learn from."""


@dataclasses.dataclass(frozen=True)
class Detection:
    """Which object a region shows, or none, and how to move its box onto the object.

    In every step each image gives `regions` of its proposals and objects, drawn anew: up to a
    quarter of the foreground, the others of the background. Where there are fewer, places stay
    empty and count nothing; so an image without objects teaches nothing, and one without proposals
    its objects' own boxes. The loss is the mean over all places of the cross-entropy and, in the
    foreground, the smooth L1 distance of the offsets. Half of the images are mirrored with their
    boxes, none is cropped.

    Labels of images (N,) are a tree: 'proposals' (N, P, 4) and 'objects' (N, G, 4), filled up with
    boxes that have no area, and 'classes' (N, G) of the objects.
    """

    regions: int = 64
    start = 0
    measures = ("regions_right", "eval_loss")

    def num_outputs(self, num_classes: int) -> int:
        """Logits of the background and the classes, then four offsets for each class."""
        return 5 * num_classes + 1

    def train_view(self, recipe: Recipe, images, labels, keys, mean):
        """Images (N, h, w, 3) as the network takes them, and the regions drawn: 'boxes' (N, R, 4),
        'classes' (N, R) counted from 1, 0 for background, -1 for empty places, and 'offsets'
        (N, R, 4) to the object."""
        draw, flip = jnp.moveaxis(jax.vmap(jax.random.split)(keys), 1, 0)
        flip = recipe.augmentation.mirror & jax.vmap(jax.random.bernoulli)(flip)
        flip = flip[:, None, None]
        for name in ("proposals", "objects"):
            there = jnp.where(flip, mirrored(labels[name]), labels[name])
            labels = {**labels, name: there}
        x, drawn = self._view(recipe, images, labels, draw, mean)
        return jnp.where(flip[..., None], x[:, :, ::-1], x), drawn

    def eval_view(self, recipe: Recipe, images, labels, mean):
        """The same not mirrored, with regions that are the same in every evaluation."""
        keys = jnp.broadcast_to(jax.random.key(0), (len(images),))
        return self._view(recipe, images, labels, keys, mean)

    def loss(self, network: Network, recipe: Recipe, params, x, start: int, labels, keys):
        """Mean loss of a batch over the places of its regions; keys (N,) are dropout's."""
        outputs = apply_regions(network, params, x, start, labels["boxes"], keys)
        return _losses(outputs, labels).mean()

    def score(self, network: Network, params, x, start: int, labels) -> jax.Array:
        """For every image the share of its regions whose class is right, and its loss: (N, 2)."""
        outputs, true = apply_regions(network, params, x, start, labels["boxes"]), labels["classes"]
        right = (split(outputs)[0].argmax(axis=-1) == true).sum(axis=1)
        share = right / jnp.maximum((true >= 0).sum(axis=1), 1)
        return jnp.stack([share, _losses(outputs, labels).mean(axis=1)], axis=-1)

    def _view(self, recipe, images, labels, keys, mean):
        drawn = jax.vmap(self._drawn)(keys, **labels)
        return (images.astype(jnp.float32) - mean) * recipe.pixel_scale, drawn

    def _drawn(self, key, proposals, objects, classes):
        """Regions of one image: objects propose themselves, too."""
        regions = jnp.concatenate([objects, proposals, jnp.zeros((self.regions, 4))])
        overlap = overlaps(regions, objects)
        best, nearest = overlap.max(axis=1), overlap.argmax(axis=1)
        luck = jax.random.uniform(key, best.shape)

        def draw(among, most):
            order, places = lax.top_k(jnp.where(among, luck, -1), most)
            return places, (order >= 0).sum()

        shown, num_shown = draw(best >= FOREGROUND, self.regions // 4)
        others, num_others = draw((best >= BACKGROUND) & (best < FOREGROUND), self.regions)
        slot = jnp.arange(self.regions)
        is_shown, filled = slot < num_shown, slot < num_shown + num_others
        place = jnp.where(is_shown, shown[slot % len(shown)], others[slot - num_shown])
        boxes, objects, classes = regions[place], objects[nearest[place]], classes[nearest[place]]
        # Empty places have no offsets, not even in the arithmetic.
        safe = jnp.where(is_shown[:, None], boxes, jnp.array([0.0, 0.0, 1.0, 1.0]))
        return {
            "boxes": boxes,
            "classes": jnp.where(filled, jnp.where(is_shown, classes + 1, 0), -1),
            "offsets": jnp.where(is_shown[:, None], offsets(safe, objects), 0),
        }


def _losses(outputs: jax.Array, labels: dict) -> jax.Array:
    """(N, R) loss of each place."""
    logits, moves = split(outputs)
    true = labels["classes"]
    of_class = jax.nn.one_hot(true, logits.shape[-1])
    entropy = -(of_class * jax.nn.log_softmax(logits)).sum(axis=-1)
    own = (of_class[..., 1:, None] * moves).sum(axis=-2)
    return entropy + (true > 0) * optax.huber_loss(own, labels["offsets"]).sum(axis=-1)


def detection_task(
    name: str, dataset: Dataset, proposals: np.ndarray, *, splits: Sequence[str] = TRAIN_VAL
) -> Task:
    """The objects of a dataset with boxes, to be found among `proposals` (N, P, 4) of its images.
    Difficult ones are not learned; regions on them are background where they overlap others by
    `BACKGROUND`.

    Raises:
      ValueError: the dataset has no boxes, or no object in a split that is not difficult.
    """
    if dataset.boxes is None:
        raise ValueError(f"{dataset.name} has no boxes to learn detection from")

    def side(split):
        rows = np.asarray(dataset.splits[split], np.int64)
        found = [dataset.boxes[row] for row in rows]
        objects = padded([boxes[~difficult] for _, boxes, difficult in found])
        if not objects.shape[1]:
            raise ValueError(f"no image of {split!r} of {dataset.name} shows an object")
        classes = np.full(objects.shape[:2], -1, np.int32)
        for into, (labels, _, difficult) in zip(classes, found, strict=True):
            into[: (~difficult).sum()] = labels[~difficult]
        most = int((areas(proposals[rows]) > 0).sum(axis=1).max())
        labels = {"proposals": proposals[rows, :most], "objects": objects, "classes": classes}
        return rows, labels

    train, val = map(side, splits)
    return Task(name, dataset, dataset.class_names, train, val, Detection())
