"""What layers need: projections, strongest images, occlusion, numbers about filters."""

from transfer_jax.visual.deconvnet import RULES, project, project_units, unit_signal
from transfer_jax.visual.filters import FilterStatistics, filter_statistics
from transfer_jax.visual.occlusion import (
    OcclusionMaps,
    centres_inside,
    lowest_probability_inside,
    occlusion_maps,
)
from transfer_jax.visual.top_activations import TopActivations, top_activations

__all__ = [
    "RULES",
    "FilterStatistics",
    "OcclusionMaps",
    "TopActivations",
    "centres_inside",
    "filter_statistics",
    "lowest_probability_inside",
    "occlusion_maps",
    "project",
    "project_units",
    "top_activations",
    "unit_signal",
]
