"""The embedded world: labelled photographs-in-miniature that any machine draws for itself."""

from transfer_jax.data.world.builder import (
    EmbeddedScenes,
    EmbeddedWorld,
    ScenesConfig,
    WorldConfig,
    scenes_config,
    world_config,
)
from transfer_jax.data.world.classes import (
    CLASSES,
    WorldClass,
    class_id,
    class_names,
    class_paths,
)
from transfer_jax.data.world.multi_object import MOST_OBJECTS, render_scenes
from transfer_jax.data.world.randomness import make_keys
from transfer_jax.data.world.rendering import render, render_images
from transfer_jax.data.world.scenes import (
    ABSENT,
    Instance,
    Pose,
    Setting,
    View,
    sample_instance,
    sample_pose,
    sample_setting,
    sample_view,
)
from transfer_jax.data.world.sheet import contact_sheet

__all__ = [
    "ABSENT",
    "CLASSES",
    "MOST_OBJECTS",
    "EmbeddedScenes",
    "EmbeddedWorld",
    "Instance",
    "Pose",
    "ScenesConfig",
    "Setting",
    "View",
    "WorldClass",
    "WorldConfig",
    "class_id",
    "class_names",
    "class_paths",
    "contact_sheet",
    "make_keys",
    "render",
    "render_images",
    "render_scenes",
    "sample_instance",
    "sample_pose",
    "sample_setting",
    "sample_view",
    "scenes_config",
    "world_config",
]
