"""The embedded world: labelled photographs-in-miniature that any machine draws for itself."""

from transfer_jax.world.arrays import scene_arrays, world_arrays
from transfer_jax.world.classes import CLASSES, class_id, class_names, class_paths
from transfer_jax.world.groups import (
    attribute_arrays,
    instance_arrays,
    relation_arrays,
    render_relations,
    render_views,
    retrieval_arrays,
)
from transfer_jax.world.randomness import make_keys
from transfer_jax.world.rendering import render, render_images, render_scenes
from transfer_jax.world.scenes import (
    ABSENT,
    MOST_OBJECTS,
    Pose,
    sample_instance,
    sample_pose,
    sample_setting,
    sample_view,
)
