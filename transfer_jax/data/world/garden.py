"""Drawings of fruits and plants, the other natural classes (see `natural`)."""

from __future__ import annotations

import numpy as np

from transfer_jax.data.world import palettes as p
from transfer_jax.data.world import shapes as s
from transfer_jax.data.world.canvas import Canvas
from transfer_jax.data.world.randomness import Field

# Fruits share blushing, speckled, glossy skin, a stalk and leaves.


def _skin(c: Canvas, distance: Field, depth: float, colours: Field = p.FRUIT, speckle=0.0) -> Field:
    t = c.tape
    ripe, blush = t.colour(colours), t.colour(colours)
    spread = 0.45 * t.uniform() + 0.3 * c.waves(1, 5) + 0.08 * c.waves(20, 45, slope=0)
    if speckle:
        seeds = c.soften(c.waves(20, 26, slope=0, count=14) - 1.0, 26)
        c.paint(distance, ripe, p.tone(ripe, 1.6), seeds * speckle, depth=depth, bulge=0.6)
    else:
        c.paint(distance, ripe, blush, np.clip(spread, 0, 1), depth=depth, bulge=0.6)
    return ripe


def _stalk(c: Canvas, x, y, length: float) -> None:
    lean = c.tape.uniform(-0.16, 0.16)
    stalk = s.capsule(c.u, c.v, x, y, x + lean, y + length, 0.045, 0.035)
    c.paint(stalk, c.tape.colour(p.BARK), depth=0.04)


def _leaf(c: Canvas, x, y, angle, length: float, width: float) -> None:
    du, dv = c.turned(angle, x, y)
    blade = s.both(
        s.circle(du, dv, length / 2, width - length / 1.6, length / 1.6),
        s.circle(du, dv, length / 2, length / 1.6 - width, length / 1.6),
    )
    green = c.tape.colour(p.LEAF)
    c.paint(blade, green, p.tone(green, 1.4), c.soften(0.02 - np.abs(dv), 1), depth=0.08)


def apple(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.035))
    u, v = c.u, c.v
    side = np.abs(u)
    _stalk(c, 0.0, 0.42, 0.4)
    body = s.blend(
        s.ellipse(side, v, 0.24, 0.02, 0.5, 0.62), s.ellipse(side, v, 0.18, -0.3, 0.42, 0.48), 0.2
    )
    _skin(c, body, 0.6)
    dimple = s.ellipse(u, v, 0.0, 0.58, 0.2, 0.1)
    c.paint(s.both(dimple, body), t.colour(p.BARK), bulge=None)
    if_leaf = t.uniform(0.0, 0.9)
    _leaf(c, 0.02, 0.66, if_leaf, 0.5, 0.14)


def pear(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.035))
    u, v = c.u, c.v
    lean = t.uniform(-0.12, 0.12)
    _stalk(c, lean, 0.6, 0.34)
    body = s.blend(
        s.ellipse(u, v, 0.0, -0.38, 0.52, 0.5),
        s.ellipse(u, v, lean, 0.28, 0.26, 0.42),
        0.4,
    )
    _skin(c, body, 0.5)
    _leaf(c, lean, 0.7, t.uniform(2.2, 3.2), 0.4, 0.12)


def banana(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.03))
    u, v = c.u, c.v
    curve = t.uniform(0.9, 1.2)
    angle = np.arctan2(v + curve - 0.35, u)
    radius = np.sqrt(u * u + (v + curve - 0.35) ** 2)
    along = (angle - np.float32(np.pi / 2)) * curve / 0.82
    width = 0.24 * np.sqrt(np.clip(1 - along * along, 0.02, None))
    body = np.maximum(np.abs(radius - curve) - width, np.abs(along) - 0.98)
    ripe = _skin(c, body, 0.25, p.FRUIT[[2, 5, 6, 4, 3]])
    ridge = s.both(np.abs(radius - curve - 0.06) - 0.025, body)
    c.paint(ridge, p.tone(ripe, 0.75), bulge=None)
    for end in (-1, 1):
        c.paint(s.both(0.86 - end * along, body), t.colour(p.BARK), bulge=None)


def strawberry(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.035))
    u, v = c.u, c.v
    body = s.blend(
        s.ellipse(u, v, 0.0, 0.2, 0.6, 0.42), s.capsule(u, v, 0.0, 0.1, 0.0, -0.6, 0.42, 0.14), 0.2
    )
    _skin(c, body, 0.5, p.FRUIT[[0, 1, 7, 4, 2]], speckle=1.0)
    _stalk(c, 0.0, 0.5, 0.4)
    for angle in (-0.35, 0.5, 1.57, 2.6, 3.5):
        _leaf(c, 0.0, 0.55, angle + t.uniform(-0.15, 0.15), 0.5, 0.13)


# Plants share foliage, bark and green stems.


def oak(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.03, 0.07), 3, 12)
    u, v = c.u, c.v
    bark, green = t.colour(p.BARK), t.colour(p.LEAF)
    grain = np.clip(0.5 + 0.4 * c.waves(15, 40, slope=0.3, stretch=(1, 0.15)), 0, 1)
    trunk = s.union(
        s.capsule(u, v, 0.0, -0.9, 0.02, 0.0, 0.14, 0.08),
        s.capsule(u, v, 0.0, -0.25, 0.3, 0.2, 0.06, 0.04),
        s.capsule(u, v, 0.0, -0.3, -0.28, 0.15, 0.06, 0.04),
    )
    c.paint(trunk, bark, p.tone(bark, 0.55), grain, depth=0.1)
    leaves = np.clip(0.5 + 0.4 * c.waves(6, 40, slope=0.5, count=16), 0, 1)
    crown = s.blend(
        s.ellipse(u, v, t.uniform(-0.1, 0.1), 0.5, 0.52, 0.42),
        s.union(s.ellipse(u, v, -0.4, 0.2, 0.42, 0.34), s.ellipse(u, v, 0.42, 0.22, 0.42, 0.34)),
        0.1,
    )
    crown = crown + 0.05 * c.waves(8, 25, slope=0.5)
    c.paint(crown, green, p.tone(green, 0.4), leaves, depth=0.4, bulge=0.4)


def fir(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.015, 0.04), 3, 12)
    u, v = c.u, c.v
    bark, green = t.colour(p.BARK), t.colour(p.LEAF[[2, 5, 0, 1, 6]])
    needles = np.clip(0.5 + 0.4 * c.waves(10, 45, slope=0.3, stretch=(1, 0.5), count=16), 0, 1)
    c.paint(s.box(u, v, 0.0, -0.8, 0.08, 0.2), bark, depth=0.08)
    fringe = 0.05 * c.waves(14, 35, slope=0.2)
    tiers = 4
    for tier in range(tiers):
        base = -0.7 + 0.4 * tier
        half = 0.62 * (1 - tier / tiers) + 0.1
        cone = s.convex(u, v, (-half, base), (half, base), (0.0, base + 0.62)) + fringe
        c.paint(cone, green, p.tone(green, 0.4), needles, depth=0.25, bulge=0.3)


def cactus(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.03))
    u, v = c.u, c.v
    green = t.colour(p.LEAF)
    left, right = t.uniform(-0.35, 0.15), t.uniform(-0.35, 0.15)
    column = s.capsule(u, v, 0.0, -0.9, 0.0, 0.68, 0.22, 0.2)
    arms = s.union(
        s.capsule(u, v, 0.0, left, -0.52, left, 0.12),
        s.capsule(u, v, -0.52, left, -0.52, left + 0.5, 0.13),
        s.capsule(u, v, 0.0, right, 0.52, right, 0.12),
        s.capsule(u, v, 0.52, right, 0.52, right + 0.5, 0.13),
    )
    ribs = c.stripes(u + 0.02 * c.waves(3, 9, count=6), 44, -0.35)
    spines = c.soften(c.waves(30, 42, slope=0) - 1.3, 36)
    c.paint(s.blend(column, arms, 0.05), green, p.tone(green, 0.5), ribs, depth=0.2, bulge=0.35)
    pale = t.colour(p.PALE_FUR)
    c.paint(s.union(column, arms) + 0.02 + 0.3 * (1 - spines), pale, bulge=None)
    bloom = s.lobed(u, v - 0.88, 0.1, 5, 0.04, 0.0)
    c.paint(bloom, t.colour(p.PETAL), depth=0.06)


def daisy(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.03))
    u, v = c.u, c.v
    green, petal, heart = t.colour(p.LEAF), t.colour(p.PETAL), t.colour(p.SHELL)
    lean = t.uniform(-0.15, 0.15)
    c.paint(s.capsule(u, v, lean, -0.98, 0.0, 0.2, 0.05), green, depth=0.05)
    _leaf(c, lean * 0.7, -0.75, t.uniform(0.3, 0.9), 0.55, 0.13)
    _leaf(c, lean * 0.7, -0.65, t.uniform(2.2, 2.8), 0.5, 0.12)
    dv = (v - 0.3) / t.uniform(0.75, 1.0)
    turn = t.uniform(0, 6.28)
    streaks = np.clip(0.3 + 0.4 * c.waves(8, 30, slope=0.4), 0, 1)
    back = s.lobed(u, dv, 0.46, 9, 0.14, turn + 3.14)
    c.paint(back, p.tone(petal, 0.75), depth=0.15)
    c.paint(s.lobed(u, dv, 0.44, 9, 0.17, turn), petal, p.tone(petal, 0.7), streaks, depth=0.2)
    pollen = np.clip(0.5 + 0.4 * c.waves(20, 40, slope=0), 0, 1)
    c.paint(s.circle(u, dv, 0.0, 0.0, 0.19), heart, p.tone(heart, 0.5), pollen, depth=0.18)
