"""Drawings of the man-made classes: straight edges, mirror symmetry, regular textures, paint.

A drawing paints one instance per picture onto a `Canvas`, upright. Whatever varies between
instances is read from the canvas's tape.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from transfer_jax.world import palettes as p, shapes as s
from transfer_jax.world.canvas import Canvas
from transfer_jax.world.randomness import Field

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
    for x, width, *colour in ((front, 0.045, 1.0, 0.92, 0.6), (back, 0.03, 0.85, 0.12, 0.08)):
        c.paint(s.box(c.u, c.v, x, y, width, 0.05), np.asarray([colour], np.float32), bulge=None)


def _vehicle_colours(c: Canvas) -> Iterator[Field]:
    palettes = (p.PAINT, 0.05), (p.PAINT, 0.05), (p.GLASS, 0.04), (p.RUBBER, 0.02), (p.METAL, 0.04)
    return (c.tape.colour(*palette) for palette in palettes)


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
    across, up = (s.repeat(*each) for each in zip((c.u, c.v), pitch, offset, strict=True))
    pane = s.box(across, up, 0.0, 0.0, *size)
    c.paint(s.both(pane - 0.025, region), frame, bulge=None)
    c.paint(s.both(pane, region), glass, bulge=None)


def _building_colours(c: Canvas) -> Iterator[Field]:
    palettes = (p.STONE, 0.06), (p.ROOF, 0.05), (p.GLASS, 0.04), (p.PAINT, 0.05)
    return (c.tape.colour(*palette) for palette in palettes)


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
    bar = s.box(u, v, -0.42, top + 0.62, 0.08, 0.025)
    cross = s.union(s.box(u, v, -0.42, top + 0.6, 0.025, 0.12), bar)
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


# Furniture shares planks, rails, legs and cloth.


def _grain(c: Canvas, x: Field) -> Field:
    """Lines of wood grain along the direction in which `x` stays the same."""
    return 0.45 * c.stripes(x + 0.012 * c.waves(3, 8, count=6), c.tape.uniform(38, 60), -0.2)


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
        leg = s.box(side, v, half - inset, (seat - 0.92) / 2, thick, (seat + 0.92) / 2)
        _plank(c, leg, p.tone(wood, shade), grain)
    post = s.box(side, v, half - 0.06, (seat + 0.92) / 2, thick, (0.92 - seat) / 2)
    slats = s.both(np.abs(s.repeat(u, 0.22)) - 0.05, s.box(u, v, 0.0, 0.4, half - 0.06, 0.5))
    rail = s.box(u, v, 0.0, 0.8, half, 0.1)
    _plank(c, s.union(post, s.both(slats, seat - v), rail), wood, grain)
    front, back = half + 0.1, half - 0.08
    low, high = seat - 0.12, seat + 0.12
    pad = s.convex(u, v, (-front, low), (front, low), (back, high), (-back, high))
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
    back, low, high = half - 0.22, top - 0.1, top + 0.16
    board = s.convex(u, v, (-half, low), (half, low), (back, high), (-back, high))
    _plank(c, board, wood, grain)
    c.paint(s.box(u, v, 0.0, top - 0.12, half, 0.05), p.tone(wood, 0.8), depth=0.05)


def bookcase(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    wood = t.colour(p.WOOD)
    half, tall = t.uniform(0.55, 0.72), t.uniform(0.84, 0.95)
    grain = _grain(c, u)
    case = s.box(u, v, 0.0, 0.0, half, tall)
    _plank(c, case, wood, grain)
    shelf = s.repeat(v, 0.44, 0.22)
    bay = s.both(s.box(u, shelf, 0.0, 0.0, half - 0.08, 0.17), case + 0.07)
    c.paint(bay, p.tone(wood, 0.3), bulge=None)
    for offset in (0.0, 0.14, 0.28):
        book = s.repeat(u, 0.42, offset + 0.04)
        spine = s.box(book, shelf, 0.0, t.uniform(-0.09, -0.02), 0.06, 0.14)
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
    grip = t.colour(p.GRIP, 0.05)
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
    wedge = s.convex(u, v, (-claw - 0.1, 0.45), (-0.2, 0.52), (-0.2, 0.76), (-claw, 0.6))
    face = s.box(u, v, 0.32, 0.64, 0.14, 0.18, 0.02)
    _steel(c, s.union(face, s.box(u, v, 0.0, 0.64, 0.26, 0.12), wedge), 0.12)


def screwdriver(c: Canvas) -> None:
    t, u, v = c.tape, c.u, c.v
    width, tip = t.uniform(0.035, 0.055), t.uniform(0.8, 0.95)
    blade = s.convex(u, v, (-width, 0.7), (width, 0.7), (0.09, tip), (-0.09, tip))
    _steel(c, s.union(s.box(u, v, 0.0, 0.35, width, 0.45), blade), 0.05)
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
    grip = t.colour(p.GRIP, 0.05)
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
    spout = s.capsule(u, v, 0.4, -0.3, 0.7, 0.02, 0.15, 0.1)
    spout = s.union(spout, s.capsule(u, v, 0.7, 0.02, 0.88, lip, 0.1, 0.06))
    c.paint(spout, glaze, depth=0.1)
    tall = t.uniform(0.46, 0.58)
    half = 0.6 * np.sqrt(np.clip(1 - (v + 0.1) * (v + 0.1) / (tall * tall * 1.1), 0.02, None))
    _turned_body(c, half, -tall - 0.1, tall - 0.12)
    c.paint(s.ellipse(u, v, 0.0, tall - 0.12, 0.28, 0.12), glaze, depth=0.1)
    c.paint(s.circle(u, v, 0.0, tall + 0.06, 0.09), glaze, depth=0.08)
