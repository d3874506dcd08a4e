"""The embedded world: labelled photographs-in-miniature that any machine draws for itself."""

from transfer_jax.world.arrays import scene_arrays, world_arrays
from transfer_jax.world.classes import CLASSES, WorldClass, class_id, class_names, class_paths
from transfer_jax.world.groups import (
    attribute_arrays,
    instance_arrays,
    relation_arrays,
    render_relations,
    render_views,
    retrieval_arrays,
)
from transfer_jax.world.randomness import make_keys
from transfer_jax.world.rendering import image_keys, render, render_images, render_scenes
from transfer_jax.world.scenes import (
    ABSENT,
    MOST_OBJECTS,
    Instance,
    Pose,
    Setting,
    View,
    sample_instance,
    sample_pose,
    sample_scene,
    sample_setting,
    sample_view,
)
from transfer_jax.world.sheet import contact_sheet

__all__ = [
    "ABSENT",
    "CLASSES",
    "MOST_OBJECTS",
    "Instance",
    "Pose",
    "Setting",
    "View",
    "WorldClass",
    "attribute_arrays",
    "class_id",
    "class_names",
    "class_paths",
    "contact_sheet",
    "image_keys",
    "instance_arrays",
    "make_keys",
    "relation_arrays",
    "render",
    "render_images",
    "render_relations",
    "render_scenes",
    "render_views",
    "retrieval_arrays",
    "sample_instance",
    "sample_pose",
    "sample_scene",
    "sample_setting",
    "sample_view",
    "scene_arrays",
    "world_arrays",
]
