"""Splicing, freezing and the treatment notation: pure functions over parameter trees."""

from transfer_jax.transfer.freeze import freeze
from transfer_jax.transfer.splice import lower_layers, splice
from transfer_jax.transfer.treatment import Treatment

__all__ = ["Treatment", "freeze", "lower_layers", "splice"]
