"""Training: `train` for notebooks, recipes, and the machinery of the grid."""

from transfer_jax.data.views import Augmentation
from transfer_jax.training.loop import Runtime, train
from transfer_jax.training.recipe import SMALL_IMAGES, Recipe
