"""What is in a picture: instances, the pose each is seen in, and the setting around them.

An `Instance` is what an object is: its class and the key its shape, colours and texture are drawn
from. A `Pose` is where and how it is seen; a `Setting` is background, clutter, light and sensor.
The same instance in several poses and settings gives several views of one object; several
instances in one setting give a scene.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transfer_jax.world.classes import CLASSES
from transfer_jax.world.randomness import Field, Keys, Tape, make_keys

ABSENT = -1  # the class id of an object that is not in its picture

# Range of half an object's extent, by how many share the picture.
_SCALES = ((0, 0), (0.34, 0.5), (0.26, 0.38), (0.21, 0.31), (0.18, 0.27), (0.16, 0.24))
MOST_OBJECTS = len(_SCALES) - 1
_CANDIDATES = 12  # places that are tried for each object of a scene; the emptiest is taken

# The last value is that of ABSENT.
_SPIN = np.asarray([record.spin for record in CLASSES] + [0.0], np.float32)
_BUILT = np.asarray([record.kingdom == "man_made" for record in CLASSES] + [False], np.float32)


@dataclasses.dataclass(frozen=True)
class Instance:
    """n objects: `class_ids` (n,) int and `keys` (n,) uint64, which settle all their looks."""

    class_ids: NDArray[np.int64]
    keys: Keys


@dataclasses.dataclass(frozen=True)
class Dressed(Instance):
    """n objects in coats: what their drawing painted takes on a colour and a pattern."""

    colours: Field  # (n, 3)
    patterns: NDArray[np.int64]  # (n,) place in canvas.PATTERNS


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where n objects are seen and how; every field is float32 (n,)."""

    x: Field  # centre in the picture, (0, 0) top left, (1, 1) bottom right
    y: Field
    scale: Field  # half the object's extent, as a share of the picture's side
    angle: Field  # rotation in rad, counter-clockwise
    mirror: Field  # 1, or -1 to swap left and right
    shear: Field  # of the object frame; 0 leaves it as it is
    stretch: Field  # of the object frame; 1 leaves it as it is
    tilt_u: Field  # strength of perspective
    tilt_v: Field

    def affine(self) -> Field:
        """(n, 2, 3): takes (x, y, 1) of the picture to (u, v) of the object frame."""
        cos, sin = np.cos(self.angle), np.sin(self.angle)
        u = np.stack([cos, -sin], axis=1)
        v = np.stack([-sin, -cos], axis=1)
        u = (u + self.shear[:, None] * v) * self.mirror[:, None]
        rows = np.stack([u * self.stretch[:, None], v / self.stretch[:, None]], axis=1)
        rows = rows / self.scale[:, None, None]
        centre = np.stack([self.x, self.y], axis=1)
        offset = -(rows[:, :, 0] * centre[:, :1] + rows[:, :, 1] * centre[:, 1:])
        return np.concatenate([rows, offset[:, :, None]], axis=2).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Setting:
    """What surrounds the objects of n pictures; fields without a remark are float32 (n,)."""

    keys: Keys  # (n,), which settle background, clutter, occluder and noise
    built: Field  # 1 for rooms and streets, 0 for land and sky
    clutter: Field  # share of the possible distractors that appear behind the objects
    occlusion: Field  # 1 where something stands in front of the objects, else 0
    light_angle: Field  # where light comes from, in rad, counter-clockwise from the right
    light_strength: Field  # of the shading
    exposure: Field  # (n, 3), gain per channel
    contrast: Field  # 1 leaves it as it is
    noise: Field  # standard deviation of the sensor noise, in 0..1


def sample_instance(class_ids: ArrayLike, keys: Keys) -> Instance:
    """One instance of each class (n,) from each key; equal keys give equal instances."""
    return Instance(np.asarray(class_ids, np.int64), make_keys("instance", keys))


def sample_pose(class_ids: ArrayLike, keys: Keys, *, scale=(0.34, 0.5)) -> Pose:
    """Draws how each object is seen; how far it may turn depends on its class.

    `scale` is the range of half the object's extent, as a share of the picture's side.
    """
    draw = Tape(make_keys("pose", keys)).numbers(12)
    size = scale[0] + (scale[1] - scale[0]) * draw[:, 0]
    room = _room(size)
    return Pose(
        x=0.5 + room * (2 * draw[:, 1] - 1),
        y=0.5 + room * (2 * draw[:, 2] - 1),
        scale=size,
        angle=_SPIN[class_ids] * (2 * draw[:, 3] - 1),
        mirror=np.where(draw[:, 4] < 0.5, -1, 1).astype(np.float32),
        shear=0.3 * (draw[:, 5] - 0.5),
        stretch=np.exp(0.28 * (draw[:, 6] - 0.5)),
        tilt_u=0.36 * (draw[:, 7] - 0.5),
        tilt_v=0.36 * (draw[:, 8] - 0.5),
    )


def _room(scale: Field) -> Field:
    """How far from the picture's middle an object may stand."""
    return np.clip(0.5 - 0.8 * scale, 0.04, None)


def sample_setting(keys: Keys, *, built: float | Field = 0.5) -> Setting:
    """Draws surroundings, light and sensor; `built` is the probability of a room or street."""
    draw = Tape(make_keys("setting", keys)).numbers(12)
    gain = 0.72 + 0.5 * draw[:, 4:5]
    return Setting(
        keys=make_keys("details", keys),
        built=(draw[:, 0] < built).astype(np.float32),
        clutter=0.05 + 0.6 * draw[:, 1],
        occlusion=(draw[:, 2] < 0.3).astype(np.float32),
        light_angle=np.float32(np.pi / 2) + 2.4 * (draw[:, 3] - 0.5),
        light_strength=0.25 + 0.45 * draw[:, 5],
        exposure=gain * (1 + 0.16 * (draw[:, 6:9] - 0.5)),
        contrast=0.75 + 0.45 * draw[:, 9],
        noise=0.012 + 0.045 * draw[:, 10] ** 2,
    )


def sample_view(class_ids: ArrayLike, keys: Keys) -> tuple[Pose, Setting]:
    """Draws the pose of one object per picture, and a setting that suits its kingdom.

    Natural objects are seen outdoors and man-made ones among built things four times in five.
    """
    setting = sample_setting(keys, built=0.2 + 0.6 * _BUILT[class_ids])
    return sample_pose(class_ids, keys), setting


def sample_scene(class_ids: NDArray[np.int64], keys: Keys, most: int):
    """Draws which objects share a picture, and places them where they hide each other little.

    The first object is of the class asked for, the others of classes drawn evenly from the rest, no
    two alike; all numbers of objects from 1 to `most` are equally frequent. Returns labels
    (n, most), `ABSENT` where a picture holds fewer; the setting; and `most` pairs of instances and
    poses.
    """
    tape = Tape(make_keys("classes", keys))
    count = 1 + (tape.numbers(1)[:, 0] * most).astype(np.int64)
    draw = tape.numbers(len(CLASSES)).copy()
    draw[np.arange(len(keys)), class_ids] = -1
    labels = np.argsort(draw, axis=1, kind="stable")[:, :most]
    labels[np.arange(most) >= count[:, None]] = ABSENT
    low, high = np.asarray(_SCALES, np.float32)[count].T
    objects: list[tuple[Instance, Pose]] = []
    for slot, ids in enumerate(labels.T):
        own = make_keys("object", slot, keys)
        pose = sample_pose(ids, own, scale=(low, high))
        draw = Tape(make_keys("place", own)).numbers(2 * _CANDIDATES)
        places = draw.reshape(len(keys), _CANDIDATES, 2)
        places = 0.5 + _room(pose.scale)[:, None, None] * (2 * places - 1)
        nearest = np.full(places.shape[:2], np.inf)
        for _, other in objects:
            centre = np.stack([other.x, other.y], axis=1)[:, None]
            nearest = np.minimum(nearest, np.linalg.norm(places - centre, axis=2))
        best = places[np.arange(len(keys)), nearest.argmax(axis=1)].astype(np.float32)
        pose = dataclasses.replace(pose, x=best[:, 0], y=best[:, 1])
        objects.append((sample_instance(ids, own), pose))
    return labels, sample_view(class_ids, keys)[1], objects
