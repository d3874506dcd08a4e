"""Objectives: what a network sees of a batch, its loss, and how it is scored, as values.

Any frozen dataclass with the methods of `Classification` is one. A task names its own
(`Task.objective`); single-label classification is what tasks mean that name none.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from transfer_jax.data import views
from transfer_jax.networks import Network
from transfer_jax.training.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class Classification:
    """One class an image, by softmax.

    `measures` names the columns of `score`; the first is the accuracy that the plateau schedule
    follows, and, where it is 'top1', says which images are right. `start` is the position of the
    layer that the views enter: images enter 0, stored activations the layer above them.
    """

    start: int = 0
    measures = ("top1", "top5", "eval_loss")

    def num_outputs(self, num_classes: int) -> int:
        """Outputs of the last layer."""
        return num_classes

    def train_view(self, recipe: Recipe, images, labels, keys, mean) -> tuple[jax.Array, Any]:
        """What enters layer `start` for uint8 images (N, h, w, 3), and the labels that go with it;
        all that is random comes from keys (N,)."""
        if self.start:
            return images, labels
        options = recipe.augmentation, mean, recipe.pixel_scale, recipe.crops
        return views.train_view(images, keys, *options), labels

    def eval_view(self, recipe: Recipe, images, labels, mean) -> tuple[jax.Array, Any]:
        """The same without randomness; several crops of an image follow each other."""
        if self.start:
            return images, labels
        view = views.ten_crop_view if recipe.ten_crop else views.eval_view
        x = view(images, recipe.augmentation, mean, recipe.pixel_scale)
        return x.reshape(-1, *x.shape[-3:]), labels

    def loss(self, network: Network, recipe: Recipe, params, x, start: int, labels, keys):
        """Mean loss of a batch, x being what enters layer `start`; keys (N,) are dropout's."""
        logits = network.apply_range(params, x, start, None, train=True, rng=keys)
        targets = jax.nn.one_hot(labels, logits.shape[1])
        targets = optax.smooth_labels(targets, recipe.label_smoothing)
        return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets).mean()

    def score(self, network: Network, params, x, start: int, labels) -> jax.Array:
        """`measures` of every image, (N, 3) float32: whether the true class is the first, whether
        it is among the first five (a tie counts against the network), its cross-entropy in nats."""
        logits = network.apply_range(params, x, start, None)
        log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
        log_p = log_p.reshape(len(labels), -1, logits.shape[1])
        # Of the mean probabilities of an image's crops.
        log_p = jax.nn.logsumexp(log_p, axis=1) - jnp.log(log_p.shape[1])
        true = jnp.take_along_axis(log_p, labels[:, None], axis=1)
        # Negated, so that a network whose logits are not numbers hits nothing.
        rank = jnp.sum(~(log_p < true), axis=1) - 1
        return jnp.stack([rank < 1, rank < 5, -true[:, 0]], axis=-1)


CLASSIFICATION = Classification()
