"""What layers see and need: projections, strongest images, occlusion, numbers about filters."""

from transfer_jax.visual.deconvnet import RULES, project, project_units, unpool
from transfer_jax.visual.filters import FilterStatistics, filter_statistics, silent_maps
from transfer_jax.visual.occlusion import (
    OcclusionMaps,
    centres_inside,
    lowest_probability_inside,
    occlusion_maps,
)
from transfer_jax.visual.receptive_field import ReceptiveField, receptive_field
from transfer_jax.visual.top_activations import TopActivations, top_activations
from transfer_jax.visual.units import strongest_unit, unit_signal

__all__ = [
    "RULES",
    "FilterStatistics",
    "OcclusionMaps",
    "ReceptiveField",
    "TopActivations",
    "centres_inside",
    "filter_statistics",
    "lowest_probability_inside",
    "occlusion_maps",
    "project",
    "project_units",
    "receptive_field",
    "silent_maps",
    "strongest_unit",
    "top_activations",
    "unit_signal",
    "unpool",
]
