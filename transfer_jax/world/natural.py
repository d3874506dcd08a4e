"""Drawings of the natural classes: bent outlines, irregular textures, organic colours.

A drawing paints one instance per picture onto a `Canvas`, facing right, feet or stalk downwards or
upwards as nature has it. Whatever varies between instances is read from the canvas's tape.
"""

from __future__ import annotations

import numpy as np

from transfer_jax.world import palettes as p, shapes as s
from transfer_jax.world.canvas import Canvas
from transfer_jax.world.randomness import Field


def _eye(c: Canvas, x, y, radius: float) -> None:
    dark = np.full((len(c.u), 3), 0.06, np.float32)
    c.paint(s.circle(c.u, c.v, x, y, radius), dark, bulge=None)


# Mammals share one skeleton; coat, proportions and heads tell them apart.


def _quadruped(c: Canvas, base, mark, pattern, *, length, girth, leg, width, neck, head, ear):
    t, u, v = c.bend(0.01, 0.03)
    length = length * t.uniform(0.9, 1.1)
    girth = girth * t.uniform(0.88, 1.15)
    stride = t.uniform(-0.14, 0.14)
    lift = t.uniform(-0.25, 0.2)
    feet = -0.85
    hip = feet + leg + girth * 0.8
    x0, x1 = -length * 0.78 - 0.08, length * 0.78 - 0.08

    def legs(inset, stride, *widths):
        back = s.capsule(u, v, x0 + inset, hip, x0 + inset + stride, feet, *widths)
        return s.union(back, s.capsule(u, v, x1 - inset, hip, x1 - inset - stride, feet, *widths))

    far = legs(0.1, -stride, width * 1.1, width * 0.75)
    c.paint(far, p.tone(base, 0.62), p.tone(mark, 0.62), pattern, depth=width)
    tail = s.capsule(u, v, x0 - 0.1, hip + girth * 0.5, x0 - 0.24 - 0.2 * lift, hip - 0.35, 0.035)
    c.paint(tail, p.tone(base, 0.8), depth=0.05)
    near = legs(0.0, stride, width * 1.3, width * 0.8)
    body = s.blend(s.ellipse(u, v, -0.08, hip, length + 0.06, girth), near, 0.12)
    reach, rise, thick = neck
    hx, hy = x1 + reach, hip + girth * 0.3 + rise * (1 + lift * 0.5)
    body = s.blend(body, s.capsule(u, v, x1, hip + girth * 0.2, hx, hy, thick * 1.5, thick), 0.15)
    size, snout, droop = head
    muzzle = (hx + snout, hy - droop - 0.1 * lift)
    face = s.capsule(u, v, hx, hy, *muzzle, size, size * 0.65)
    c.paint(s.blend(body, face, 0.06), base, mark, pattern, depth=girth)
    if ear:
        ear_x, ear_y, droop = hx - size * 0.5, hy + size * 0.95, t.uniform(0, 0.6)
        flap = s.ellipse(u, v, ear_x, ear_y, ear * 0.55, ear, droop)
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
    wrinkles = np.clip(0.5 + 0.3 * c.waves(8, 30, slope=0.5, stretch=(0.5, 1)), 0, 1)
    hx, hy, (mx, my) = _quadruped(
        c, base, p.tone(base, 0.65), wrinkles,
        length=0.52, girth=0.38, leg=0.36, width=0.13, neck=(0.2, 0.1, 0.2),
        head=(0.23, 0.12, 0.1), ear=0,
    )  # fmt: skip
    curl = t.uniform(-0.05, 0.3)
    upper = s.capsule(c.u, c.v, mx, my, mx + 0.14, my - 0.4, 0.12, 0.08)
    tip = (mx + 0.16 + curl, my - 0.5 + curl)
    trunk = s.blend(upper, s.capsule(c.u, c.v, mx + 0.14, my - 0.4, *tip, 0.08, 0.05), 0.05)
    c.paint(trunk, base, p.tone(base, 0.7), wrinkles, depth=0.1)
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
    t, u, v = c.bend(0.008, 0.025)
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
        lower = s.capsule(u, v, x + rx * 0.7, y + 0.02, *mid, neck * 1.3, neck)
        upper = s.capsule(u, v, *mid, hx, hy, neck, neck * 0.9)
        skull = s.blend(skull, s.blend(lower, upper, 0.1), 0.05)
    point = s.capsule(u, v, hx + hr * 0.6, hy, hx + hr + beak, hy - hook, hr * 0.5, hr * 0.12)
    c.paint(point, bill, depth=0.06)
    c.paint(s.blend(trunk, skull, 0.15), feathers, p.tone(feathers, 0.7), down, depth=ry)
    wing = s.ellipse(du, dv, -rx * 0.2, ry * 0.05, rx * 0.72, ry * 0.6, -0.12)
    bars = c.stripes(du + dv * 0.7, 22)
    c.paint(wing, trim, p.tone(trim, 0.6), bars * 0.7, depth=ry * 0.6)
    _eye(c, hx + hr * 0.3, hy + hr * 0.25, max(0.04, hr * 0.2))


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
    t, u, v = c.bend(0.008, 0.02)
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
        foot = row + tilt * row + c.tape.uniform(-0.08, 0.08)
        leg = s.capsule(np.abs(c.u), c.v, 0.1, row, reach, foot, 0.028)
        c.paint(leg, colour, depth=0.03)


def _feelers(c: Canvas, colour: Field, y: float, length: float) -> None:
    line = s.capsule(np.abs(c.u), c.v, 0.03, y, 0.2, y + length, 0.022)
    c.paint(line, colour, depth=0.03)


def butterfly(c: Canvas) -> None:
    t, u, v = c.bend(0.01, 0.025)
    side = np.abs(u)
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
    c.paint(s.capsule(u, v, 0.0, 0.42, 0.0, -0.48, 0.08, 0.05), dark, depth=0.08)


def dragonfly(c: Canvas) -> None:
    t, u, v = c.bend(0.01, 0.02)
    side = np.abs(u)
    body, dark = t.colour(p.WING[[0, 1, 2, 6, 7]]), t.colour(p.DARK_FUR)
    film = t.colour(p.SKY)
    veins = 0.5 * c.stripes(side + 0.3 * v, 34, -0.6)
    for y, lift in ((0.3, 0.18), (0.12, -0.16)):
        lift = lift + t.uniform(-0.08, 0.08)
        wing = s.capsule(side, v, 0.08, y, 0.9, y + lift, 0.05, 0.1)
        c.paint(wing, film, dark, veins, depth=0.1, bulge=0.05)
    rings = c.stripes(v, 28, -0.3)
    c.paint(s.capsule(u, v, 0.0, 0.1, 0.0, -0.92, 0.085, 0.05), body, dark, rings, depth=0.06)
    c.paint(s.ellipse(u, v, 0.0, 0.24, 0.15, 0.22), body, depth=0.15)
    for x in (-0.09, 0.09):
        c.paint(s.circle(u, v, x, 0.53, 0.12), p.tone(body, 0.6), depth=0.1)


def ladybird(c: Canvas) -> None:
    t, u, v = c.bend(0.01, 0.02)
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
    c.paint(s.both(side - 0.025, dome), dark, bulge=None)


def bee(c: Canvas) -> None:
    t, u, v = c.bend(0.01, 0.02)
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


# Fruits share blushing, speckled, glossy skin, a stalk and leaves.


def _skin(c: Canvas, distance: Field, depth: float, colours=p.FRUIT, speckled=False) -> Field:
    t = c.tape
    ripe, blush = t.colour(colours), t.colour(colours)
    spread = 0.45 * t.uniform() + 0.3 * c.waves(1, 5) + 0.08 * c.waves(20, 45, slope=0)
    if speckled:
        seeds = c.soften(c.waves(20, 26, slope=0, count=14) - 1.0, 26)
        c.paint(distance, ripe, p.tone(ripe, 1.6), seeds, depth=depth, bulge=0.6)
    else:
        c.paint(distance, ripe, blush, np.clip(spread, 0, 1), depth=depth, bulge=0.6)
    return ripe


def _stalk(c: Canvas, x, y, length: float) -> None:
    lean = c.tape.uniform(-0.16, 0.16)
    stalk = s.capsule(c.u, c.v, x, y, x + lean, y + length, 0.045, 0.035)
    c.paint(stalk, c.tape.colour(p.BARK), depth=0.04)


def _leaf(c: Canvas, x, y, angle, length: float, width: float) -> None:
    du, dv = c.turned(angle, x, y)
    radius = length / 1.6
    upper = s.circle(du, dv, length / 2, radius - width, radius)
    blade = s.both(s.circle(du, dv, length / 2, width - radius, radius), upper)
    green = c.tape.colour(p.LEAF)
    c.paint(blade, green, p.tone(green, 1.4), c.soften(0.02 - np.abs(dv), 1), depth=0.08)


def apple(c: Canvas) -> None:
    t, u, v = c.bend(0.01, 0.035)
    side = np.abs(u)
    _stalk(c, 0.0, 0.42, 0.4)
    upper, lower = ((0.24, 0.02, 0.5, 0.62), (0.18, -0.3, 0.42, 0.48))
    body = s.blend(s.ellipse(side, v, *upper), s.ellipse(side, v, *lower), 0.2)
    _skin(c, body, 0.6)
    dimple = s.ellipse(u, v, 0.0, 0.58, 0.2, 0.1)
    c.paint(s.both(dimple, body), t.colour(p.BARK), bulge=None)
    _leaf(c, 0.02, 0.66, t.uniform(0.0, 0.9), 0.5, 0.14)


def pear(c: Canvas) -> None:
    t, u, v = c.bend(0.01, 0.035)
    lean = t.uniform(-0.12, 0.12)
    _stalk(c, lean, 0.6, 0.34)
    upper = s.ellipse(u, v, lean, 0.28, 0.26, 0.42)
    body = s.blend(s.ellipse(u, v, 0.0, -0.38, 0.52, 0.5), upper, 0.4)
    _skin(c, body, 0.5)
    _leaf(c, lean, 0.7, t.uniform(2.2, 3.2), 0.4, 0.12)


def banana(c: Canvas) -> None:
    t, u, v = c.bend(0.01, 0.03)
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
    t, u, v = c.bend(0.01, 0.035)
    cone = s.capsule(u, v, 0.0, 0.1, 0.0, -0.6, 0.42, 0.14)
    body = s.blend(s.ellipse(u, v, 0.0, 0.2, 0.6, 0.42), cone, 0.2)
    _skin(c, body, 0.5, p.FRUIT[[0, 1, 7, 4, 2]], speckled=True)
    _stalk(c, 0.0, 0.5, 0.4)
    for angle in (-0.35, 0.5, 1.57, 2.6, 3.5):
        _leaf(c, 0.0, 0.55, angle + t.uniform(-0.15, 0.15), 0.5, 0.13)


# Plants share foliage, bark and green stems.


def oak(c: Canvas) -> None:
    t, u, v = c.bend(0.03, 0.07, 3, 12)
    bark, green = t.colour(p.BARK), t.colour(p.LEAF)
    grain = np.clip(0.5 + 0.4 * c.waves(15, 40, slope=0.3, stretch=(1, 0.15)), 0, 1)
    boughs = ((0.0, -0.25, 0.3, 0.2, 0.06, 0.04), (0.0, -0.3, -0.28, 0.15, 0.06, 0.04))
    stem = s.capsule(u, v, 0.0, -0.9, 0.02, 0.0, 0.14, 0.08)
    trunk = s.union(stem, *(s.capsule(u, v, *bough) for bough in boughs))
    c.paint(trunk, bark, p.tone(bark, 0.55), grain, depth=0.1)
    leaves = np.clip(0.5 + 0.4 * c.waves(6, 40, slope=0.5, count=16), 0, 1)
    top = s.ellipse(u, v, t.uniform(-0.1, 0.1), 0.5, 0.52, 0.42)
    left, right = (s.ellipse(u, v, x, y, 0.42, 0.34) for x, y in ((-0.4, 0.2), (0.42, 0.22)))
    crown = s.blend(top, s.union(left, right), 0.1) + 0.05 * c.waves(8, 25, slope=0.5)
    c.paint(crown, green, p.tone(green, 0.4), leaves, depth=0.4, bulge=0.4)


def fir(c: Canvas) -> None:
    t, u, v = c.bend(0.015, 0.04, 3, 12)
    bark, green = t.colour(p.BARK), t.colour(p.LEAF[[2, 5, 0, 1, 6]])
    needles = np.clip(0.5 + 0.4 * c.waves(10, 45, slope=0.3, stretch=(1, 0.5), count=16), 0, 1)
    c.paint(s.box(u, v, 0.0, -0.8, 0.08, 0.2), bark, depth=0.08)
    fringe = 0.05 * c.waves(14, 35, slope=0.2)
    for tier in range(4):
        base, half = -0.7 + 0.4 * tier, 0.62 * (1 - tier / 4) + 0.1
        cone = s.convex(u, v, (-half, base), (half, base), (0.0, base + 0.62)) + fringe
        c.paint(cone, green, p.tone(green, 0.4), needles, depth=0.25, bulge=0.3)


def cactus(c: Canvas) -> None:
    t, u, v = c.bend(0.01, 0.03)
    green = t.colour(p.LEAF)
    column = s.capsule(u, v, 0.0, -0.9, 0.0, 0.68, 0.22, 0.2)
    arms = np.full_like(u, 9)
    for x in (-0.52, 0.52):
        y = t.uniform(-0.35, 0.15)
        upright = s.capsule(u, v, x, y, x, y + 0.5, 0.13)
        arms = s.union(arms, s.capsule(u, v, 0.0, y, x, y, 0.12), upright)
    ribs = c.stripes(u + 0.02 * c.waves(3, 9, count=6), 44, -0.35)
    spines = c.soften(c.waves(30, 42, slope=0) - 1.3, 36)
    c.paint(s.blend(column, arms, 0.05), green, p.tone(green, 0.5), ribs, depth=0.2, bulge=0.35)
    prickly = s.union(column, arms) + 0.02 + 0.3 * (1 - spines)
    c.paint(prickly, t.colour(p.PALE_FUR), bulge=None)
    c.paint(s.lobed(u, v - 0.88, 0.1, 5, 0.04, 0.0), t.colour(p.PETAL), depth=0.06)


def daisy(c: Canvas) -> None:
    t, u, v = c.bend(0.01, 0.03)
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
