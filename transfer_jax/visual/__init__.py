"""What layers need: projections, strongest images, occlusion, numbers about filters."""

from transfer_jax.visual.deconvnet import RULES, project_units
from transfer_jax.visual.filters import filter_statistics
from transfer_jax.visual.occlusion import centres_inside, occlusion_maps
from transfer_jax.visual.top_activations import top_activations
