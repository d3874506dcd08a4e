"""Training: `train` for notebooks, recipes, and the machinery of the grid."""

from transfer_jax.data.views import Augmentation
from transfer_jax.training.loop import Runtime, train, train_group
from transfer_jax.training.recipe import SMALL_IMAGES, Recipe

__all__ = ["SMALL_IMAGES", "Augmentation", "Recipe", "Runtime", "train", "train_group"]
