"""Drawings of furniture, tools and vessels, the other man-made classes (see `man_made`)."""

from __future__ import annotations

import numpy as np

from transfer_jax.data.world import palettes as p
from transfer_jax.data.world import shapes as s
from transfer_jax.data.world.canvas import Canvas
from transfer_jax.data.world.randomness import Field


def _grain(c: Canvas, x: Field) -> Field:
    """Lines of wood grain along the direction in which `x` stays the same."""
    return 0.45 * c.stripes(x + 0.012 * c.waves(3, 8, count=6), c.tape.uniform(38, 60), -0.2)


# Furniture shares planks, rails, legs and cloth.


def _plank(c: Canvas, distance: Field, wood: Field, grain: Field) -> None:
    c.paint(distance, wood, p.tone(wood, 0.6), grain, depth=0.06, bulge=0.15)


def chair(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    wood, cloth = t.colour(p.WOOD), t.colour(p.PAINT, 0.06)
    grain = _grain(c, u)
    seat, half = t.uniform(-0.25, -0.1), t.uniform(0.42, 0.54)
    thick = t.uniform(0.045, 0.075)
    side = np.abs(u)
    for inset, shade in ((0.2, 0.6), (0.05, 1.0)):
        _plank(c, s.box(side, v, half - inset, (seat - 0.92) / 2, thick, (seat + 0.92) / 2),
               p.tone(wood, shade), grain)  # fmt: skip
    post = s.box(side, v, half - 0.06, (seat + 0.92) / 2, thick, (0.92 - seat) / 2)
    slats = s.both(np.abs(s.repeat(u, 0.22)) - 0.05, s.box(u, v, 0.0, 0.4, half - 0.06, 0.5))
    rail = s.box(u, v, 0.0, 0.8, half, 0.1)
    _plank(c, s.union(post, s.both(slats, seat - v), rail), wood, grain)
    pad = s.convex(
        u, v, (-half - 0.1, seat - 0.12), (half + 0.1, seat - 0.12),
        (half - 0.08, seat + 0.12), (0.08 - half, seat + 0.12),
    )  # fmt: skip
    c.paint(pad, cloth, p.tone(cloth, 0.6), 0.5 * c.stripes(u, 30), depth=0.12)


def table(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    wood = t.colour(p.WOOD)
    grain = _grain(c, v)
    top, half = t.uniform(0.2, 0.4), t.uniform(0.82, 0.96)
    thick = t.uniform(0.055, 0.085)
    side = np.abs(u)
    for inset, drop, shade in ((0.28, 0.22, 0.55), (0.1, 0.0, 1.0)):
        foot = -0.8 + drop
        leg = s.box(side, v, half - inset, (top + foot) / 2, thick, (top - foot) / 2)
        _plank(c, leg, p.tone(wood, shade), grain)
    _plank(c, s.box(u, v, 0.0, top - 0.22, half - 0.1, 0.12), p.tone(wood, 0.75), grain)
    board = s.convex(
        u, v, (-half, top - 0.1), (half, top - 0.1), (half - 0.22, top + 0.16),
        (0.22 - half, top + 0.16),
    )  # fmt: skip
    _plank(c, board, wood, grain)
    c.paint(s.box(u, v, 0.0, top - 0.12, half, 0.05), p.tone(wood, 0.8), depth=0.05)


def bookcase(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    wood = t.colour(p.WOOD)
    half, tall = t.uniform(0.55, 0.72), t.uniform(0.84, 0.95)
    grain = _grain(c, u)
    case = s.box(u, v, 0.0, 0.0, half, tall)
    _plank(c, case, wood, grain)
    bay = s.box(u, s.repeat(v, 0.44, 0.22), 0.0, 0.0, half - 0.08, 0.17)
    bay = s.both(bay, case + 0.07)
    c.paint(bay, p.tone(wood, 0.3), bulge=None)
    for offset in (0.0, 0.14, 0.28):
        spine = s.box(
            s.repeat(u, 0.42, offset + 0.04), s.repeat(v, 0.44, 0.22), 0.0,
            t.uniform(-0.09, -0.02), 0.06, 0.14,
        )  # fmt: skip
        c.paint(s.both(spine, bay), t.colour(p.PAINT, 0.08), bulge=0.1, depth=0.05)


def bed(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    wood, cloth, sheet = t.colour(p.WOOD), t.colour(p.PAINT, 0.06), t.colour(p.PALE_FUR, 0.03)
    grain = _grain(c, v)
    head, mattress = t.uniform(0.4, 0.62), t.uniform(-0.18, -0.05)
    _plank(c, s.box(u, v, -0.88, (head - 0.75) / 2, 0.08, (head + 0.75) / 2, 0.03), wood, grain)
    _plank(c, s.box(u, v, 0.88, (mattress - 0.6) / 2, 0.08, (mattress + 0.9) / 2), wood, grain)
    _plank(c, s.box(u, v, 0.0, -0.45, 0.86, 0.09), p.tone(wood, 0.8), grain)
    c.paint(s.box(u, v, 0.0, mattress - 0.14, 0.84, 0.18, 0.06), sheet, depth=0.12)
    checks = 0.5 * c.stripes(u, t.uniform(12, 24)) + 0.3 * c.stripes(v, 26)
    quilt = s.box(u, v, 0.2, mattress - 0.1, 0.64, 0.24, 0.08)
    c.paint(quilt, cloth, p.tone(cloth, 0.5), checks, depth=0.15)
    c.paint(s.box(u, v, -0.6, mattress + 0.14, 0.2, 0.11, 0.09), sheet, depth=0.1, bulge=0.35)


# Tools share handles in wood or paint and heads in metal; they lie at any angle, handle downwards.


def _handle(c: Canvas, low: float, high: float, width) -> None:
    t, u, v = c.tape, c.u, c.v
    grip = t.colour(np.concatenate([p.WOOD[:4], p.PAINT[:6]]), 0.05)
    rod = s.box(u, v, 0.0, (low + high) / 2, width, (high - low) / 2, 0.05)
    lines = 0.4 * c.stripes(u, 45) * t.flip(0.5)
    c.paint(rod, grip, p.tone(grip, 0.5), lines, depth=0.1, bulge=0.3)
    c.paint(s.both(rod, np.abs(v - low - 0.16) - 0.04), p.tone(grip, 0.5), bulge=None)


def _steel(c: Canvas, distance: Field, depth: float = 0.08) -> Field:
    metal = c.tape.colour(p.METAL, 0.04)
    brushed = 0.3 * c.stripes(c.v + 0.2 * c.u, 50)
    c.paint(distance, metal, p.tone(metal, 0.75), brushed, depth=depth, bulge=0.3)
    return metal


def hammer(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    _handle(c, -0.95, 0.6, t.uniform(0.08, 0.12))
    claw = t.uniform(0.38, 0.56)
    head = s.union(
        s.box(u, v, 0.32, 0.64, 0.14, 0.18, 0.02),
        s.box(u, v, 0.0, 0.64, 0.26, 0.12),
        s.convex(u, v, (-claw - 0.1, 0.45), (-0.2, 0.52), (-0.2, 0.76), (-claw, 0.6)),
    )
    _steel(c, head, 0.12)


def screwdriver(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    width, tip = t.uniform(0.035, 0.055), t.uniform(0.8, 0.95)
    blade = s.union(
        s.box(u, v, 0.0, 0.35, width, 0.45),
        s.convex(u, v, (-width, 0.7), (width, 0.7), (0.09, tip), (-0.09, tip)),
    )
    _steel(c, blade, 0.05)
    _handle(c, -0.95, 0.0, t.uniform(0.15, 0.2))


def spanner(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    jaw = t.uniform(0.26, 0.33)
    shaft = s.box(u, v, 0.0, 0.0, t.uniform(0.085, 0.125), 0.7)
    head = s.without(s.circle(u, v, 0.0, 0.64, jaw), s.box(u, v, 0.0, 0.86, jaw * 0.42, 0.26))
    eye = s.without(s.circle(u, v, 0.0, -0.68, 0.24), s.circle(u, v, 0.0, -0.68, 0.12))
    metal = _steel(c, s.union(shaft, head, eye), 0.1)
    c.paint(s.box(u, v, 0.0, 0.0, 0.045, 0.36, 0.04), p.tone(metal, 0.6), bulge=None)


def saw(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    nose = t.uniform(0.08, 0.2)
    blade = s.convex(u, v, (-0.18, -0.35), (0.3, -0.35), (0.3, 0.95), (0.3 - nose, 0.95))
    teeth = 0.05 * np.abs(s.repeat(v, 0.14)) / 0.07
    _steel(c, np.maximum(blade, u - 0.3 + teeth), 0.05)
    grip = t.colour(np.concatenate([p.WOOD[:4], p.PAINT[:6]]), 0.05)
    stock = s.box(u, v, 0.06, -0.64, 0.36, 0.32, 0.14)
    hole = s.box(u, v, 0.06, -0.66, 0.17, 0.14, 0.1)
    c.paint(s.without(stock, hole), grip, p.tone(grip, 0.6), 0.5 * c.stripes(u, 45), depth=0.1)


# Vessels are bodies of revolution in glaze or glass, some with handle and spout.


def _turned_body(c: Canvas, half: Field, low, high, *, banded: float = 0.7) -> Field:
    """Paints the body whose half-width at each height is `half`; returns its distance."""
    t, u, v = c.tape, c.u, c.v
    glaze, trim = t.colour(p.GLAZE, 0.05), t.colour(p.GLAZE, 0.05)
    body = np.maximum((np.abs(u) - half) * 0.85, np.maximum(low - v, v - high))
    bands = c.stripes(v, t.uniform(9, 22), t.uniform(-0.7, 0.0)) * t.flip(banded)
    checks = np.abs(bands - t.flip(0.35) * c.stripes(u, 16))
    c.paint(body, glaze, trim, 0.9 * checks, depth=0.35, bulge=0.45)
    c.paint(s.both(body, high - 0.05 - v), p.tone(glaze, 0.75), bulge=None)
    return body


def _ear(c: Canvas, x, y, rx, ry) -> None:
    loop = s.ring(s.ellipse(c.u, c.v, x, y, rx, ry), 0.13)
    c.paint(loop, c.tape.colour(p.GLAZE, 0.05), depth=0.07)


def mug(c: Canvas) -> None:
    t = c.tape
    half, tall = t.uniform(0.44, 0.54), t.uniform(0.5, 0.72)
    _ear(c, half - 0.06, -0.05, 0.32, tall * 0.6)
    _turned_body(c, half + 0.05 * c.v, -tall, tall)
    rim = s.ellipse(c.u, c.v, 0.0, tall, half + 0.04, 0.13)
    c.paint(rim, t.colour(p.GLAZE, 0.05), depth=0.1)
    c.paint(rim + 0.05, t.colour(p.BARK, 0.05), bulge=0.0)


def bottle(c: Canvas) -> None:
    t = c.tape
    belly, throat = t.uniform(0.28, 0.4), t.uniform(0.09, 0.14)
    shoulder = t.uniform(0.05, 0.3)
    half = belly + (throat - belly) * s.ramp(c.v, shoulder, shoulder + 0.32)
    body = _turned_body(c, half, -0.95, 0.82, banded=0.2)
    label = s.box(c.u, c.v, 0.0, -0.4, 2.0, t.uniform(0.15, 0.3))
    paper = t.colour(p.PALE_FUR, 0.04)
    c.paint(s.both(label, body), paper, t.colour(p.PAINT), c.stripes(c.v, 30) * 0.6, bulge=None)
    c.paint(s.box(c.u, c.v, 0.0, 0.85, throat + 0.03, 0.1), t.colour(p.PAINT), depth=0.06)


def vase(c: Canvas) -> None:
    t = c.tape
    belly, throat, lip = t.uniform(0.44, 0.62), t.uniform(0.14, 0.24), t.uniform(0.28, 0.42)
    low = s.ramp(c.v, -0.95, t.uniform(-0.4, 0.0))
    high = s.ramp(c.v, -0.1, t.uniform(0.45, 0.6))
    flare = s.ramp(c.v, 0.55, 0.9)
    half = 0.25 + (belly - 0.25) * low + (throat - belly) * high + (lip - throat) * flare
    _turned_body(c, half, -0.92, 0.88)


def teapot(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    _ear(c, -0.56, -0.05, 0.3, 0.34)
    glaze = t.colour(p.GLAZE, 0.05)
    lip = t.uniform(0.2, 0.4)
    spout = s.union(
        s.capsule(u, v, 0.4, -0.3, 0.7, 0.02, 0.15, 0.1),
        s.capsule(u, v, 0.7, 0.02, 0.88, lip, 0.1, 0.06),
    )
    c.paint(spout, glaze, depth=0.1)
    tall = t.uniform(0.46, 0.58)
    half = 0.6 * np.sqrt(np.clip(1 - (v + 0.1) * (v + 0.1) / (tall * tall * 1.1), 0.02, None))
    _turned_body(c, half, -tall - 0.1, tall - 0.12)
    c.paint(s.ellipse(u, v, 0.0, tall - 0.12, 0.28, 0.12), glaze, depth=0.1)
    c.paint(s.circle(u, v, 0.0, tall + 0.06, 0.09), glaze, depth=0.08)
