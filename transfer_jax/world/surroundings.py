"""What is painted around the objects of a picture: background, clutter, shadows, an occluder."""

from __future__ import annotations

import numpy as np

from transfer_jax.world import palettes as p, shapes as s
from transfer_jax.world.canvas import Canvas
from transfer_jax.world.randomness import Field, Tape
from transfer_jax.world.scenes import ABSENT, Instance, Pose, Setting


def frame(picture: Field, tape: Tape) -> Canvas:
    """A canvas whose frame is the picture itself, from -1 to 1, v up."""
    affine = np.asarray([[2, 0, -1], [0, -2, 1]], np.float32)
    return Canvas(picture, np.broadcast_to(affine, (len(picture), 2, 3)), tape)


def _either(c: Canvas, built: Field, made: Field, grown: Field) -> Field:
    made, grown = c.tape.colour(made), c.tape.colour(grown)
    return grown + (made - grown) * built


def paint_background(c: Canvas, setting: Setting) -> None:
    """Fills the pictures with land and sky, or wall and floor, and clutter."""
    tape = c.tape
    built = setting.built[:, None, None]
    far = _either(c, setting.built[:, None], p.INTERIOR, p.SKY)
    further = _either(c, setting.built[:, None], p.INTERIOR, p.SKY)
    ground = tape.colour(np.concatenate([p.EARTH, p.LEAF]))
    floor = tape.colour(np.concatenate([p.STREET, p.WOOD]))
    ground = ground + (floor - ground) * setting.built[:, None]
    fade = np.clip(0.5 + 0.5 * c.v, 0, 1)
    everywhere = np.full_like(c.u, -9)
    c.paint(everywhere, far, further, fade, bulge=None)
    horizon = tape.uniform(-1.1, 0.9)
    rough = (1 - built) * 0.1 * c.waves(3, 12, count=8)
    c.paint(c.v - horizon + rough, ground, p.tone(ground, 0.75), 1 - fade, bulge=None)
    mottle = c.waves(2, 50, slope=1.0, count=20) + 0.3 * c.waves(25, 60, slope=0.0, count=24)
    mottle *= tape.uniform(0.05, 0.2) * (1 - 0.65 * built)
    pitch = tape.uniform(0.18, 0.7)
    upright = np.abs(s.repeat(c.u, pitch * tape.uniform(0.6, 3)))
    lines = np.minimum(upright, np.abs(s.repeat(c.v, pitch)))
    grid = c.soften(0.02 - lines, 1) * built * tape.uniform(-0.2, 0.25)
    c.picture *= (1 + mottle - grid)[:, None]
    for _ in range(5):
        _distractor(c, setting)


_CLUTTER = np.concatenate([p.EARTH, p.LEAF, p.PETAL, p.FUR, p.PAINT, p.WOOD, p.STREET, p.GLAZE])


def _distractor(c: Canvas, setting: Setting) -> None:
    tape, built = c.tape, setting.built[:, None, None]
    colour, other = tape.colour(_CLUTTER), tape.colour(_CLUTTER)
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
    """Puts a blade, branch or post in front; returns how much of each pixel it covers."""
    tape, built = c.tape, setting.built[:, None]
    colour = _either(c, built, p.PAINT, np.concatenate([p.LEAF, p.BARK]))
    angle = tape.uniform(-1.6, 1.6)
    du, _ = c.turned(angle, 0.75 * np.cos(angle + 0.3), 0.75 * np.sin(angle + 0.3))
    bend = (1 - built[:, :, None]) * 0.07 * c.waves(2, 6, count=4)
    distance = np.abs(du + bend) - tape.uniform(0.05, 0.15)
    distance = distance + 9 * (1 - setting.occlusion[:, None, None])
    c.paint(distance, colour, p.tone(colour, 0.6), np.clip(0.5 + 4 * du, 0, 1), bulge=None)
    return c.alpha
