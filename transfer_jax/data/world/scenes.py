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

from transfer_jax.data.world import palettes as p
from transfer_jax.data.world import shapes as s
from transfer_jax.data.world.canvas import Canvas
from transfer_jax.data.world.classes import CLASSES
from transfer_jax.data.world.randomness import Field, Keys, Tape, make_keys

ABSENT = -1  # the class id of an object that is not in its picture

_SPIN = np.asarray([record.spin for record in CLASSES] + [0.0], np.float32)
_BUILT = np.asarray([record.kingdom == "man_made" for record in CLASSES] + [False], np.float32)


@dataclasses.dataclass(frozen=True)
class Instance:
    """n objects: `class_ids` (n,) int and `keys` (n,) uint64, which settle all their looks."""

    class_ids: NDArray[np.int64]
    keys: Keys


@dataclasses.dataclass(frozen=True)
class Pose:
    """Where n objects are seen and how; every field is float32 (n,).

    Attributes:
      x, y: centre in the picture, (0, 0) top left, (1, 1) bottom right.
      scale: half the object's extent, as a share of the picture's side.
      angle: rotation in rad, counter-clockwise.
      mirror: 1, or -1 to swap left and right.
      shear, stretch: of the object frame; 0 and 1 leave it as it is.
      tilt_u, tilt_v: strength of perspective.
    """

    x: Field
    y: Field
    scale: Field
    angle: Field
    mirror: Field
    shear: Field
    stretch: Field
    tilt_u: Field
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
    """What surrounds the objects of n pictures.

    Attributes:
      keys: (n,) uint64, which settle background, clutter, occluder and noise.
      built: (n,) 1 for rooms and streets, 0 for land and sky.
      clutter: (n,) share of the possible distractors that appear behind the objects.
      occlusion: (n,) 1 where something stands in front of the objects, else 0.
      light_angle: (n,) where light comes from, in rad, counter-clockwise from the right.
      light_strength: (n,) strength of shading.
      exposure: (n, 3) gain per channel.
      contrast: (n,) 1 leaves it as it is.
      noise: (n,) standard deviation of the sensor noise, in 0..1.
    """

    keys: Keys
    built: Field
    clutter: Field
    occlusion: Field
    light_angle: Field
    light_strength: Field
    exposure: Field
    contrast: Field
    noise: Field


@dataclasses.dataclass(frozen=True)
class View:
    """The pose of one object per picture and the setting around it."""

    pose: Pose
    setting: Setting


def sample_instance(class_ids: ArrayLike, keys: Keys) -> Instance:
    """Draws one instance of each class from each key.

    Args:
      class_ids: (n,) labels; `ABSENT` stands for no object.
      keys: (n,) uint64, see `randomness.make_keys`; equal keys give equal instances.
    """
    class_ids = np.atleast_1d(np.asarray(class_ids, np.int64))
    bad = class_ids[(class_ids < ABSENT) | (class_ids >= len(CLASSES))]
    if bad.size:
        raise ValueError(f"class id {bad[0]} is not in 0..{len(CLASSES) - 1}")
    return Instance(class_ids, make_keys("instance", keys))


def sample_pose(class_ids: ArrayLike, keys: Keys, *, scale: tuple[float, float] = (0.34, 0.5)):
    """Draws how each object is seen; how far it may turn depends on its class.

    Args:
      class_ids: (n,) labels.
      keys: (n,) uint64.
      scale: range of half the object's extent, as a share of the picture's side.
    """
    draw = Tape(make_keys("pose", keys)).numbers(12)
    size = scale[0] + (scale[1] - scale[0]) * draw[:, 0]
    room = np.clip(0.5 - 0.8 * size, 0.04, None)
    spin = _SPIN[np.asarray(class_ids, np.int64)]
    return Pose(
        x=0.5 + room * (2 * draw[:, 1] - 1),
        y=0.5 + room * (2 * draw[:, 2] - 1),
        scale=size,
        angle=spin * (2 * draw[:, 3] - 1),
        mirror=np.where(draw[:, 4] < 0.5, -1, 1).astype(np.float32),
        shear=0.3 * (draw[:, 5] - 0.5),
        stretch=np.exp(0.28 * (draw[:, 6] - 0.5)),
        tilt_u=0.36 * (draw[:, 7] - 0.5),
        tilt_v=0.36 * (draw[:, 8] - 0.5),
    )


def sample_setting(keys: Keys, *, built: ArrayLike = 0.5) -> Setting:
    """Draws surroundings, light and sensor.

    Args:
      keys: (n,) uint64.
      built: probability of a room or street, a number or (n,).
    """
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


def sample_view(class_ids: ArrayLike, keys: Keys) -> View:
    """Draws a view of one object per picture: its pose, and a setting that suits its kingdom.

    Natural objects are seen outdoors and man-made ones among built things four times in five.
    """
    built = 0.2 + 0.6 * _BUILT[np.asarray(class_ids, np.int64)]
    return View(sample_pose(class_ids, keys), sample_setting(keys, built=built))


def picture_frame(picture: Field, tape: Tape) -> Canvas:
    """A canvas whose frame is the picture itself, from -1 to 1, v up."""
    affine = np.asarray([[2, 0, -1], [0, -2, 1]], np.float32)
    return Canvas(picture, np.broadcast_to(affine, (len(picture), 2, 3)), tape)


def _either(built: Field, made: Field, grown: Field) -> Field:
    return grown + (made - grown) * built


def paint_background(c: Canvas, setting: Setting) -> None:
    """Fills the pictures with land and sky, or wall and floor, and clutter."""
    tape = c.tape
    built = setting.built[:, None, None]
    built_row = setting.built[:, None]
    far = _either(built_row, tape.colour(p.INTERIOR), tape.colour(p.SKY))
    further = _either(built_row, tape.colour(p.INTERIOR), tape.colour(p.SKY))
    ground = tape.colour(np.concatenate([p.EARTH, p.LEAF]))
    ground = _either(built_row, tape.colour(np.concatenate([p.STREET, p.WOOD])), ground)
    fade = np.clip(0.5 + 0.5 * c.v, 0, 1)
    everywhere = np.full_like(c.u, -9)
    c.paint(everywhere, far, further, fade, bulge=None)
    horizon = tape.uniform(-1.1, 0.9)
    rough = (1 - built) * 0.1 * c.waves(3, 12, count=8)
    c.paint(c.v - horizon + rough, ground, p.tone(ground, 0.75), 1 - fade, bulge=None)
    mottle = c.waves(2, 50, slope=1.0, count=20) + 0.3 * c.waves(25, 60, slope=0.0, count=24)
    mottle *= tape.uniform(0.05, 0.2) * (1 - 0.65 * built)
    pitch = tape.uniform(0.18, 0.7)
    lines = np.minimum(
        np.abs(s.repeat(c.u, pitch * tape.uniform(0.6, 3))), np.abs(s.repeat(c.v, pitch))
    )
    grid = c.soften(0.02 - lines, 1) * built * tape.uniform(-0.2, 0.25)
    c.picture *= (1 + mottle - grid)[:, None]
    for _ in range(5):
        _distractor(c, setting, built, tape)


def _distractor(c: Canvas, setting: Setting, built: Field, tape: Tape) -> None:
    colours = [p.EARTH, p.LEAF, p.PETAL, p.FUR, p.PAINT, p.WOOD, p.STREET, p.GLAZE]
    colour, other = (tape.colour(np.concatenate(colours)) for _ in range(2))
    x, y = tape.uniform(-1, 1), tape.uniform(-1, 1)
    long, wide = tape.uniform(0.15, 0.7), tape.uniform(0.06, 0.32)
    du, dv = c.turned(tape.uniform(-1.6, 1.6) * (1 - 0.7 * built), x, y)
    boxy = (tape.uniform() < 0.2 + 0.6 * built).astype(np.float32)
    du, dv = np.abs(du) / long, np.abs(dv) / wide
    round_ = np.sqrt(du * du + dv * dv)
    distance = (round_ + (np.maximum(du, dv) - round_) * boxy - 1) * wide
    absent = (tape.uniform() > setting.clutter[:, None, None]).astype(np.float32)
    stripes = 0.6 * c.stripes(du * long + 0.3 * dv, tape.uniform(10, 40)) * tape.flip(0.4)
    c.paint(distance + 9 * absent, colour, other, stripes, bulge=None)


def paint_shadow(c: Canvas, instance: Instance, pose: Pose) -> None:
    """Darkens a soft patch below each object."""
    strength = c.tape.uniform(0.1, 0.5) * (instance.class_ids != ABSENT)[:, None, None]
    x, y, size = (part[:, None, None] for part in (pose.x, pose.y, pose.scale))
    du = (c.u - (2 * x - 1)) / (2.1 * size)
    dv = (c.v - (1 - 2 * y) + 1.5 * size) / (0.7 * size)
    dark = strength.astype(np.float32) * np.clip(1 - du * du - dv * dv, 0, 1)
    c.picture *= (1 - dark)[:, None]


def paint_occluder(c: Canvas, setting: Setting) -> Field:
    """Puts a blade, branch or post in front; returns how much of each sample it covers."""
    tape = c.tape
    built = setting.built[:, None]
    colour = _either(built, tape.colour(p.PAINT), tape.colour(np.concatenate([p.LEAF, p.BARK])))
    angle = tape.uniform(-1.6, 1.6)
    du, _ = c.turned(angle, 0.75 * np.cos(angle + 0.3), 0.75 * np.sin(angle + 0.3))
    bend = (1 - built[:, :, None]) * 0.07 * c.waves(2, 6, count=4)
    distance = np.abs(du + bend) - tape.uniform(0.05, 0.15)
    distance = distance + 9 * (1 - setting.occlusion[:, None, None])
    c.paint(distance, colour, p.tone(colour, 0.6), np.clip(0.5 + 4 * du, 0, 1), bulge=None)
    return c.alpha
