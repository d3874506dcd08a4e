"""Drawings of the man-made classes: straight edges, mirror symmetry, regular textures, paint.

A drawing paints one instance per picture onto a `Canvas`, upright. Whatever varies between
instances is read from the canvas's tape.
"""

from __future__ import annotations

import numpy as np

from transfer_jax.data.world import palettes as p
from transfer_jax.data.world import shapes as s
from transfer_jax.data.world.canvas import Canvas
from transfer_jax.data.world.randomness import Field

# Vehicles share wheels, windows, lamps and coachwork in paint.


def _wheel(c: Canvas, x, y, radius, rubber: Field, rim: Field) -> None:
    disc = s.circle(c.u, c.v, x, y, radius)
    c.paint(disc, rubber, depth=0.08)
    c.paint(disc + radius * 0.45, rim, depth=0.06)
    c.paint(disc + radius * 0.85, rubber, bulge=None)


def _coachwork(c: Canvas, body: Field, paint: Field, trim: Field, seam: float, waist) -> None:
    """Paint with panel seams and a stripe along the waist."""
    c.paint(body, paint, depth=0.12, bulge=0.2)
    panel = s.ring(s.repeat(c.u, seam), 0.025)
    c.paint(s.both(panel, body + 0.04), p.tone(paint, 0.6), bulge=None)
    c.paint(s.both(np.abs(c.v - waist) - 0.04, body), trim, bulge=None)


def _lamps(c: Canvas, front, back, y) -> None:
    lamp = np.asarray([[1.0, 0.92, 0.6]], np.float32)
    tail = np.asarray([[0.85, 0.12, 0.08]], np.float32)
    c.paint(s.box(c.u, c.v, front, y, 0.045, 0.05), lamp, bulge=None)
    c.paint(s.box(c.u, c.v, back, y, 0.03, 0.05), tail, bulge=None)


def _vehicle_colours(c: Canvas) -> tuple[Field, ...]:
    t = c.tape
    return (
        t.colour(p.PAINT, 0.05), t.colour(p.PAINT, 0.05), t.colour(p.GLASS, 0.04),
        t.colour(p.RUBBER, 0.02), t.colour(p.METAL, 0.04),
    )  # fmt: skip


def car(c: Canvas) -> None:
    paint, trim, glass, rubber, rim = _vehicle_colours(c)
    t, u, v = c.tape, c.u, c.v
    roof = t.uniform(0.36, 0.52)
    back, front = t.uniform(-0.62, -0.4), t.uniform(0.18, 0.34)
    cabin = s.convex(u, v, (back - 0.2, 0.0), (front + 0.28, 0.0), (front, roof), (back, roof))
    c.paint(cabin, paint, depth=0.12)
    c.paint(s.both(cabin + 0.08, 0.04 - np.abs(u + 0.1)), glass, bulge=None)
    _coachwork(c, s.box(u, v, 0.0, -0.15, 0.94, 0.22, 0.1), paint, trim, 0.62, -0.28)
    _lamps(c, 0.88, -0.9, -0.08)
    for x in (-0.56, 0.56):
        _wheel(c, x, -0.38, 0.22, rubber, rim)


def bus(c: Canvas) -> None:
    paint, trim, glass, rubber, rim = _vehicle_colours(c)
    t, u, v = c.tape, c.u, c.v
    top = t.uniform(0.42, 0.58)
    body = s.box(u, v, 0.0, (top - 0.5) / 2, 0.96, (top + 0.5) / 2, 0.08)
    _coachwork(c, body, paint, trim, 0.32, -0.2)
    pane = s.box(s.repeat(u, 0.32, 0.16), v, 0.0, top - 0.28, 0.12, 0.15)
    c.paint(s.both(pane, body + 0.06), glass, bulge=None)
    c.paint(s.box(u, v, 0.74, -0.12, 0.1, 0.34), p.tone(glass, 0.8), bulge=None)
    _lamps(c, 0.9, -0.92, -0.38)
    for x in (-0.58, 0.5):
        _wheel(c, x, -0.5, 0.19, rubber, rim)


def lorry(c: Canvas) -> None:
    paint, trim, glass, rubber, rim = _vehicle_colours(c)
    t, u, v = c.tape, c.u, c.v
    top = t.uniform(0.48, 0.66)
    c.paint(s.box(u, v, 0.0, -0.42, 0.94, 0.07), rubber, depth=0.06)
    crate = s.box(u, v, -0.3, (top - 0.36) / 2, 0.66, (top + 0.36) / 2)
    ribs = 0.35 * c.stripes(u, t.uniform(26, 36), -0.4)
    c.paint(crate, trim, p.tone(trim, 0.5), ribs, depth=0.08)
    cab = s.box(u, v, 0.69, -0.12, 0.26, 0.34, 0.06)
    c.paint(cab, paint, depth=0.12)
    c.paint(s.box(u, v, 0.77, 0.04, 0.14, 0.12), glass, bulge=None)
    _lamps(c, 0.9, -0.93, -0.34)
    for x in (-0.68, -0.26, 0.62):
        _wheel(c, x, -0.5, 0.2, rubber, rim)


def tractor(c: Canvas) -> None:
    paint, trim, glass, rubber, _ = _vehicle_colours(c)
    t, u, v = c.tape, c.u, c.v
    c.paint(s.capsule(u, v, 0.56, 0.1, 0.56, 0.52, 0.04), rubber, depth=0.04)
    _coachwork(c, s.box(u, v, 0.4, -0.1, 0.46, 0.22, 0.04), paint, trim, 0.25, -0.2)
    roof = t.uniform(0.62, 0.78)
    frame = s.box(u, v, -0.3, (roof - 0.3) / 2, 0.36, (roof + 0.3) / 2)
    c.paint(frame, paint, depth=0.1)
    c.paint(s.both(frame + 0.09, 0.12 - v), glass, bulge=None)
    c.paint(s.box(u, v, -0.3, roof, 0.46, 0.06), p.tone(paint, 0.85), depth=0.06)
    _lamps(c, 0.84, -0.66, 0.0)
    _wheel(c, -0.42, -0.4, 0.46, rubber, trim)
    _wheel(c, 0.58, -0.58, 0.26, rubber, trim)


# Buildings share masonry, windows, doors and roofs.


def _wall(c: Canvas, distance: Field, stone: Field, *, width=0.2, height=0.09) -> None:
    """Masonry in courses, every other course shifted by half a brick."""
    course = np.floor(c.v / height)
    shift = (course - 2 * np.floor(course / 2)) * (width / 2)
    joint = np.minimum(np.abs(s.repeat(c.u, width, shift)), np.abs(s.repeat(c.v, height)))
    mortar = c.soften(0.014 - joint, 1) * 0.55
    c.paint(distance, stone, p.tone(stone, 0.45), mortar, depth=0.06, bulge=0.15)


def _windows(c: Canvas, region: Field, glass: Field, frame: Field, pitch, size, offset) -> None:
    """A regular grid of framed windows wherever one fits into the region."""
    pane = s.box(
        s.repeat(c.u, pitch[0], offset[0]), s.repeat(c.v, pitch[1], offset[1]), 0.0, 0.0, *size
    )
    c.paint(s.both(pane - 0.025, region), frame, bulge=None)
    c.paint(s.both(pane, region), glass, bulge=None)


def _building_colours(c: Canvas) -> tuple[Field, ...]:
    t = c.tape
    return (
        t.colour(p.STONE, 0.06), t.colour(p.ROOF, 0.05), t.colour(p.GLASS, 0.04),
        t.colour(p.PAINT, 0.05),
    )  # fmt: skip


def _roof(c: Canvas, gable: Field, roof: Field) -> None:
    c.paint(gable, roof, p.tone(roof, 0.55), 0.7 * c.stripes(c.v, 42, -0.3), depth=0.1)


def house(c: Canvas) -> None:
    stone, roof, glass, paint = _building_colours(c)
    t, u, v = c.tape, c.u, c.v
    half, eaves = t.uniform(0.62, 0.8), t.uniform(0.05, 0.2)
    ridge = eaves + t.uniform(0.4, 0.6)
    c.paint(s.box(u, v, half * 0.5, ridge - 0.1, 0.09, 0.28), p.tone(stone, 0.75), depth=0.05)
    wall = s.box(u, v, 0.0, (eaves - 0.85) / 2, half, (eaves + 0.85) / 2)
    _wall(c, wall, stone)
    gable = s.convex(u, v, (-half - 0.15, eaves), (half + 0.15, eaves), (0.0, ridge))
    _roof(c, gable, roof)
    pane = s.box(np.abs(u), v, half * 0.55, eaves - 0.32, 0.15, 0.15)
    c.paint(pane - 0.03, paint, bulge=None)
    c.paint(s.without(pane, s.ring(np.abs(u) - half * 0.55, 0.03)), glass, bulge=None)
    c.paint(s.box(u, v, 0.0, -0.57, 0.14, 0.28), paint, depth=0.05, bulge=0.1)


def tower_block(c: Canvas) -> None:
    stone, roof, glass, paint = _building_colours(c)
    t, u, v = c.tape, c.u, c.v
    half, top = t.uniform(0.36, 0.56), t.uniform(0.72, 0.92)
    wall = s.box(u, v, 0.0, (top - 0.92) / 2, half, (top + 0.92) / 2)
    c.paint(s.box(u, v, half * 0.3, top, 0.1, 0.1), roof, depth=0.05)
    _wall(c, wall, stone, width=0.4, height=0.24)
    storeys = (2 * half / np.rint(half / 0.11), 0.24)
    _windows(c, wall + 0.05, glass, p.tone(paint, 0.9), storeys, (0.055, 0.07), (0.0, top - 0.14))
    c.paint(s.box(u, v, 0.0, -0.84, 0.16, 0.09), paint, bulge=None)


def church(c: Canvas) -> None:
    stone, roof, glass, paint = _building_colours(c)
    t, u, v = c.tape, c.u, c.v
    eaves = t.uniform(-0.25, -0.05)
    _wall(c, s.box(u, v, 0.28, (eaves - 0.88) / 2, 0.58, (eaves + 0.88) / 2), stone)
    nave = s.convex(u, v, (-0.3, eaves), (0.94, eaves), (0.76, eaves + 0.34), (-0.3, eaves + 0.34))
    _roof(c, nave, roof)
    arch = s.capsule(s.repeat(u, 0.3, 0.32), v, 0.0, -0.6, 0.0, eaves - 0.2, 0.07)
    c.paint(s.both(arch, s.box(u, v, 0.4, -0.4, 0.4, 0.6)), glass, bulge=None)
    top = t.uniform(0.2, 0.34)
    _wall(c, s.box(u, v, -0.42, (top - 0.9) / 2, 0.28, (top + 0.9) / 2), stone)
    spire = s.convex(u, v, (-0.76, top), (-0.08, top), (-0.42, top + 0.56))
    _roof(c, spire, roof)
    c.paint(s.capsule(u, v, -0.42, -0.9, -0.42, -0.6, 0.11), paint, bulge=None)
    c.paint(s.circle(u, v, -0.42, top - 0.22, 0.12), glass, bulge=None)
    cross = s.union(
        s.box(u, v, -0.42, top + 0.6, 0.025, 0.12), s.box(u, v, -0.42, top + 0.62, 0.08, 0.025)
    )
    c.paint(cross, p.tone(roof, 0.6), depth=0.03)


def lighthouse(c: Canvas) -> None:
    stone, roof, glass, paint = _building_colours(c)
    t, u, v = c.tape, c.u, c.v
    foot, head = t.uniform(0.3, 0.42), t.uniform(0.18, 0.24)
    shaft = s.convex(u, v, (-foot, -0.95), (foot, -0.95), (head, 0.45), (-head, 0.45))
    bands = c.stripes(v, t.uniform(7, 11))
    c.paint(shaft, stone, paint, bands, depth=0.3, bulge=0.35)
    c.paint(s.box(u, v, 0.0, 0.47, 0.32, 0.045), roof, depth=0.04)
    lantern = s.box(u, v, 0.0, 0.62, 0.17, 0.12)
    lamp = np.broadcast_to(np.asarray([[1.0, 0.9, 0.55]], np.float32), stone.shape)
    c.paint(lantern, lamp, glass, c.stripes(u + 0.045, 35, -0.5), depth=0.1)
    c.paint(s.convex(u, v, (-0.24, 0.72), (0.24, 0.72), (0.0, 0.97)), roof, depth=0.1)
    _windows(c, shaft + 0.08, glass, roof, (2.0, 0.42), (0.05, 0.08), (0.0, 0.1))
    c.paint(s.box(u, v, 0.0, -0.82, 0.1, 0.14), roof, bulge=None)
