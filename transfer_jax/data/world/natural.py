"""Drawings of the natural classes: bent outlines, irregular textures, organic colours.

A drawing paints one instance per picture onto a `Canvas`, facing right, feet or stalk downwards or
upwards as nature has it. Whatever varies between instances is read from the canvas's tape.
"""

from __future__ import annotations

import numpy as np

from transfer_jax.data.world import palettes as p
from transfer_jax.data.world import shapes as s
from transfer_jax.data.world.canvas import Canvas
from transfer_jax.data.world.randomness import Field


def _eye(c: Canvas, x, y, radius: float) -> None:
    dark = np.full((len(c.u), 3), 0.06, np.float32)
    c.paint(s.circle(c.u, c.v, x, y, radius), dark, bulge=None)


# Mammals share one skeleton; coat, proportions and heads tell them apart.


def _quadruped(c: Canvas, base, mark, pattern, *, length, girth, leg, width, neck, head, ear):
    t = c.tape
    c.warp(t.uniform(0.01, 0.03))
    u, v = c.u, c.v
    length = length * t.uniform(0.9, 1.1)
    girth = girth * t.uniform(0.88, 1.15)
    stride = t.uniform(-0.14, 0.14)
    lift = t.uniform(-0.25, 0.2)
    feet = -0.85
    hip = feet + leg + girth * 0.8
    x0, x1 = -length * 0.78 - 0.08, length * 0.78 - 0.08
    far = s.union(
        s.capsule(u, v, x0 + 0.1, hip, x0 + 0.1 - stride, feet, width * 1.1, width * 0.75),
        s.capsule(u, v, x1 - 0.1, hip, x1 - 0.1 + stride, feet, width * 1.1, width * 0.75),
    )
    c.paint(far, p.tone(base, 0.62), p.tone(mark, 0.62), pattern, depth=width)
    tail = s.capsule(u, v, x0 - 0.1, hip + girth * 0.5, x0 - 0.24 - 0.2 * lift, hip - 0.35, 0.035)
    c.paint(tail, p.tone(base, 0.8), depth=0.05)
    near = s.union(
        s.capsule(u, v, x0, hip, x0 + stride, feet, width * 1.3, width * 0.8),
        s.capsule(u, v, x1, hip, x1 - stride, feet, width * 1.3, width * 0.8),
    )
    body = s.blend(s.ellipse(u, v, -0.08, hip, length + 0.06, girth), near, 0.12)
    reach, rise, thick = neck
    hx, hy = x1 + reach, hip + girth * 0.3 + rise * (1 + lift * 0.5)
    body = s.blend(body, s.capsule(u, v, x1, hip + girth * 0.2, hx, hy, thick * 1.5, thick), 0.15)
    size, snout, droop = head
    muzzle = (hx + snout, hy - droop - 0.1 * lift)
    face = s.capsule(u, v, hx, hy, *muzzle, size, size * 0.65)
    c.paint(s.blend(body, face, 0.06), base, mark, pattern, depth=girth)
    if ear:
        flap = s.ellipse(
            u, v, hx - size * 0.5, hy + size * 0.95, ear * 0.55, ear, t.uniform(0, 0.6)
        )
        c.paint(flap, p.tone(base, 0.85), depth=0.06)
    _eye(c, hx + size * 0.45, hy + size * 0.25, 0.045)
    return hx, hy, muzzle


def zebra(c: Canvas) -> None:
    base, mark = c.tape.colour(p.PALE_FUR, 0.05), c.tape.colour(p.DARK_FUR, 0.04)
    bend = c.waves(2, 6, count=6)
    lines = c.stripes(c.u + 0.25 * c.v + 0.05 * bend, c.tape.uniform(19, 26))
    hx, hy, _ = _quadruped(
        c, base, mark, lines,
        length=0.5, girth=0.27, leg=0.5, width=0.075, neck=(0.26, 0.36, 0.13),
        head=(0.12, 0.26, 0.17), ear=0.1,
    )  # fmt: skip
    mane = s.capsule(c.u, c.v, hx - 0.3, hy - 0.25, hx - 0.06, hy + 0.1, 0.05)
    c.paint(mane, mark, depth=0.06)


def leopard(c: Canvas) -> None:
    base, mark = c.tape.colour(p.FUR, 0.07), c.tape.colour(p.DARK_FUR, 0.05)
    spots = c.soften(c.waves(20, 30, slope=0, count=14) - 0.75, 26)
    _quadruped(
        c, base, mark, spots,
        length=0.6, girth=0.23, leg=0.36, width=0.085, neck=(0.2, 0.14, 0.13),
        head=(0.17, 0.12, 0.05), ear=0.08,
    )  # fmt: skip


def elephant(c: Canvas) -> None:
    t = c.tape
    base = t.colour(p.FUR[[3, 4, 5, 7]], 0.06)
    wrinkles = 0.5 + 0.3 * c.waves(8, 30, slope=0.5, stretch=(0.5, 1))
    hx, hy, (mx, my) = _quadruped(
        c, base, p.tone(base, 0.65), np.clip(wrinkles, 0, 1),
        length=0.52, girth=0.38, leg=0.36, width=0.13, neck=(0.2, 0.1, 0.2),
        head=(0.23, 0.12, 0.1), ear=0,
    )  # fmt: skip
    curl = t.uniform(-0.05, 0.3)
    trunk = s.blend(
        s.capsule(c.u, c.v, mx, my, mx + 0.14, my - 0.4, 0.12, 0.08),
        s.capsule(c.u, c.v, mx + 0.14, my - 0.4, mx + 0.16 + curl, my - 0.5 + curl, 0.08, 0.05),
        0.05,
    )
    c.paint(trunk, base, p.tone(base, 0.7), np.clip(wrinkles, 0, 1), depth=0.1)
    tusk = s.capsule(c.u, c.v, mx - 0.02, my - 0.1, mx + 0.18, my - 0.24, 0.045, 0.02)
    c.paint(tusk, t.colour(p.PALE_FUR[2:3], 0.03), depth=0.04)
    flap = s.ellipse(c.u, c.v, hx - 0.16, hy - 0.05, 0.19, 0.29, t.uniform(-0.3, 0.3))
    c.paint(flap, p.tone(base, 0.82), depth=0.1)


def giraffe(c: Canvas) -> None:
    base, mark = c.tape.colour(p.PALE_FUR, 0.06), c.tape.colour(p.FUR[[0, 3, 1]], 0.06)
    bend = 0.12 * c.waves(3, 8, count=6)
    cell = np.sin(11 * (c.u + bend) + 5 * c.v) * np.sin(11 * (c.v - bend) - 5 * c.u)
    patches = c.soften(np.abs(cell) - 0.16, 12)
    hx, hy, _ = _quadruped(
        c, base, mark, patches,
        length=0.36, girth=0.22, leg=0.6, width=0.06, neck=(0.3, 0.8, 0.09),
        head=(0.1, 0.19, 0.1), ear=0.07,
    )  # fmt: skip
    horn = s.capsule(c.u, c.v, hx - 0.01, hy + 0.05, hx - 0.02, hy + 0.22, 0.028)
    c.paint(horn, p.tone(mark, 0.6), depth=0.03)


# Birds share body, wing, beak and eye.


def _bird(c: Canvas, *, body, head, beak, hook, tail, palette, leg=0.0, neck=0.0, stilt=0.02):
    t = c.tape
    c.warp(t.uniform(0.008, 0.025))
    u, v = c.u, c.v
    feathers, trim = t.colour(palette), t.colour(palette)
    bill = t.colour(p.BEAK)
    x, y, rx, ry, tilt = body
    tilt = tilt + t.uniform(-0.15, 0.15)
    hx, hy, hr = head
    hx, hy = hx + t.uniform(-0.05, 0.05), hy + t.uniform(-0.04, 0.04)
    down = np.clip(0.5 + 0.25 * c.waves(12, 45, slope=0.3, stretch=(0.5, 1)), 0, 1)
    if leg:
        for dx in (-0.06, 0.07):
            shin = s.capsule(u, v, x + dx, y, x + dx + t.uniform(-0.05, 0.05), y - leg, stilt)
            c.paint(shin, bill, depth=0.03)
    du, dv = s.rotate(u, v, tilt, x, y)
    fan = s.capsule(du, dv, -rx * 0.7, 0.0, -rx - tail, 0.0, ry * 0.4, ry * 0.28)
    c.paint(fan, p.tone(trim, 0.8), p.tone(trim, 0.5), down, depth=0.1)
    trunk = s.ellipse(du, dv, 0.0, 0.0, rx, ry)
    skull = s.circle(u, v, hx, hy, hr)
    if neck:
        mid = (x + rx * 0.95 + 0.12, (y + hy) / 2)
        bow = s.blend(
            s.capsule(u, v, x + rx * 0.7, y + 0.02, *mid, neck * 1.3, neck),
            s.capsule(u, v, *mid, hx, hy, neck, neck * 0.9),
            0.1,
        )
        skull = s.blend(skull, bow, 0.05)
    point = s.capsule(u, v, hx + hr * 0.6, hy, hx + hr + beak, hy - hook, hr * 0.5, hr * 0.12)
    c.paint(point, bill, depth=0.06)
    c.paint(s.blend(trunk, skull, 0.15), feathers, p.tone(feathers, 0.7), down, depth=ry)
    wing = s.ellipse(du, dv, -rx * 0.2, ry * 0.05, rx * 0.72, ry * 0.6, -0.12)
    bars = c.stripes(du + dv * 0.7, 22)
    c.paint(wing, trim, p.tone(trim, 0.6), bars * 0.7, depth=ry * 0.6)
    _eye(c, hx + hr * 0.3, hy + hr * 0.25, max(0.04, hr * 0.2))
    return feathers, trim, bill, (hx, hy, hr)


def duck(c: Canvas) -> None:
    _bird(
        c, body=(-0.1, -0.3, 0.66, 0.34, 0.12), head=(0.48, 0.34, 0.22), beak=0.3, hook=0.06,
        tail=0.1, palette=p.PLUMAGE, neck=0.13, leg=0.5, stilt=0.035,
    )  # fmt: skip


def flamingo(c: Canvas) -> None:
    _bird(
        c, body=(-0.12, 0.02, 0.42, 0.25, 0.2), head=(0.4, 0.78, 0.12), beak=0.14, hook=0.17,
        tail=0.05, palette=p.BRIGHT_PLUMAGE[[0, 4, 4, 6]], leg=0.98, neck=0.06, stilt=0.025,
    )  # fmt: skip


def parrot(c: Canvas) -> None:
    _bird(
        c, body=(0.05, 0.08, 0.5, 0.27, 1.05), head=(0.3, 0.62, 0.23), beak=0.08, hook=0.2,
        tail=0.5, palette=p.BRIGHT_PLUMAGE,
    )  # fmt: skip


def owl(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.008, 0.02))
    u, v = c.u, c.v
    base, pale = t.colour(p.PLUMAGE[[0, 1, 2, 3, 9]]), t.colour(p.PALE_FUR)
    flecks = c.soften(c.waves(24, 38, slope=0, stretch=(1, 0.6)) - 0.5, 30)
    body = s.ellipse(u, v, 0.0, -0.25, 0.48, 0.66)
    skull = s.ellipse(u, v, 0.0, 0.45, 0.46, 0.36)
    for side in (-1, 1):
        tuft = s.capsule(u, v, side * 0.28, 0.62, side * 0.42, 0.92, 0.12, 0.03)
        c.paint(tuft, p.tone(base, 0.8), depth=0.1)
    c.paint(s.blend(body, skull, 0.1), base, p.tone(base, 0.55), flecks, depth=0.4)
    c.paint(s.ellipse(u, v, 0.0, -0.35, 0.3, 0.45), pale, p.tone(base, 0.8), flecks, bulge=None)
    for side in (-1, 1):
        wing = s.ellipse(u, v, side * 0.44, -0.28, 0.13, 0.5, side * -0.12)
        c.paint(wing, p.tone(base, 0.75), depth=0.12)
        c.paint(s.circle(u, v, side * 0.2, 0.45, 0.2), pale, depth=0.2, bulge=0.3)
        c.paint(s.circle(u, v, side * 0.2, 0.45, 0.13), t.colour(p.BEAK[:2]), bulge=None)
        _eye(c, side * 0.2, 0.45, 0.08)
    c.paint(s.capsule(u, v, 0.0, 0.4, 0.0, 0.24, 0.07, 0.01), t.colour(p.BEAK), depth=0.05)


# Insects are seen from above, head upwards: segments, legs and wings in pairs.


def _legs(c: Canvas, colour: Field, reach: float, rows: tuple[float, ...], tilt: float) -> None:
    for row in rows:
        bend = c.tape.uniform(-0.08, 0.08)
        leg = s.capsule(np.abs(c.u), c.v, 0.1, row, reach, row + tilt * row + bend, 0.028)
        c.paint(leg, colour, depth=0.03)


def _feelers(c: Canvas, colour: Field, y: float, length: float) -> None:
    line = s.capsule(np.abs(c.u), c.v, 0.03, y, 0.2, y + length, 0.022)
    c.paint(line, colour, depth=0.03)


def butterfly(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.025))
    side, v = np.abs(c.u), c.v
    wing, trim, dark = t.colour(p.WING), t.colour(p.WING), t.colour(p.DARK_FUR)
    spread = t.uniform(-0.15, 0.15)
    upper = s.ellipse(side, v, 0.5, 0.34, 0.54, 0.32, 0.55 + spread)
    lower = s.ellipse(side, v, 0.38, -0.36, 0.4, 0.32, -0.6 + spread)
    dust = np.clip(0.4 + 0.35 * c.waves(4, 20), 0, 1)
    for part in (lower, upper):
        c.paint(part, dark, depth=0.1, bulge=0.1)
        c.paint(part + 0.07, wing, trim, dust, bulge=None)
    for x, y, r in ((0.66, 0.48, 0.12), (0.42, -0.4, 0.13)):
        c.paint(s.circle(side, v, x, y, r * t.uniform(0.6, 1.2)), trim, bulge=None)
    _feelers(c, dark, 0.42, 0.38)
    c.paint(s.capsule(c.u, v, 0.0, 0.42, 0.0, -0.48, 0.08, 0.05), dark, depth=0.08)


def dragonfly(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.02))
    side, v = np.abs(c.u), c.v
    body, dark = t.colour(p.WING[[0, 1, 2, 6, 7]]), t.colour(p.DARK_FUR)
    film = t.colour(p.SKY)
    veins = 0.5 * c.stripes(side + 0.3 * v, 34, -0.6)
    for y, lift in ((0.3, 0.18), (0.12, -0.16)):
        lift = lift + t.uniform(-0.08, 0.08)
        wing = s.capsule(side, v, 0.08, y, 0.9, y + lift, 0.05, 0.1)
        c.paint(wing, film, dark, veins, depth=0.1, bulge=0.05)
    rings = c.stripes(v, 28, -0.3)
    c.paint(s.capsule(c.u, v, 0.0, 0.1, 0.0, -0.92, 0.085, 0.05), body, dark, rings, depth=0.06)
    c.paint(s.ellipse(c.u, v, 0.0, 0.24, 0.15, 0.22), body, depth=0.15)
    for x in (-0.09, 0.09):
        c.paint(s.circle(c.u, v, x, 0.53, 0.12), p.tone(body, 0.6), depth=0.1)


def ladybird(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.02))
    u, v = c.u, c.v
    shell, dark = t.colour(p.SHELL), t.colour(p.DARK_FUR, 0.04)
    _legs(c, dark, 0.85, (0.3, -0.1, -0.45), 0.3)
    _feelers(c, dark, 0.75, 0.18)
    c.paint(s.ellipse(u, v, 0.0, 0.62, 0.34, 0.24), dark, depth=0.2)
    dome = s.ellipse(u, v, 0.0, -0.1, 0.66, 0.7)
    c.paint(dome, shell, depth=0.6, bulge=0.5)
    side = np.abs(u)
    size = t.uniform(0.8, 1.25)
    for x, y, r in ((0.28, 0.22, 0.13), (0.36, -0.2, 0.14), (0.2, -0.52, 0.1)):
        spot = s.circle(side, v, x + t.uniform(-0.04, 0.04), y + t.uniform(-0.05, 0.05), r * size)
        c.paint(spot, dark, bulge=None)
    c.paint(s.both(np.abs(u) - 0.025, dome), dark, bulge=None)


def bee(c: Canvas) -> None:
    t = c.tape
    c.warp(t.uniform(0.01, 0.02))
    u, v = c.u, c.v
    amber, dark, film = t.colour(p.SHELL[[2, 1, 5]]), t.colour(p.DARK_FUR, 0.04), t.colour(p.SKY)
    fuzz = np.clip(0.5 + 0.3 * c.waves(15, 45, slope=0.2), 0, 1)
    _legs(c, dark, 0.5, (0.35, 0.05, -0.2), 0.5)
    _feelers(c, dark, 0.75, 0.2)
    rings = c.stripes(v + 0.1 * u * u, t.uniform(15, 19))
    c.paint(s.ellipse(u, v, 0.0, -0.4, 0.36, 0.52), amber, dark, rings, depth=0.35)
    wing = s.ellipse(np.abs(u), v, 0.5, 0.05, 0.45, 0.19, t.uniform(-0.5, 0.0))
    c.paint(wing, film, p.tone(film, 0.7), 0.5 * c.stripes(u, 30, -0.6), depth=0.2, bulge=0.06)
    c.paint(s.circle(u, v, 0.0, 0.3, 0.3), p.tone(amber, 0.8), dark, fuzz, depth=0.25)
    c.paint(s.ellipse(u, v, 0.0, 0.66, 0.22, 0.17), dark, depth=0.15)
