"""Signed distances to flat shapes, over whole batches of images.

`u` and `v` are float32 (n, height, width) coordinates, u to the right and v up; sizes and places
are numbers or (n, 1, 1) arrays in the same units. A shape is the distance to its outline: negative
inside, positive outside (exact or close to it near the outline, which is all that painting needs).
"""

from __future__ import annotations

import functools

import numpy as np

from transfer_jax.world.randomness import Field

Number = float | Field


def rotate(u: Field, v: Field, angle: Number, x: Number = 0.0, y: Number = 0.0):
    """Coordinates in a frame whose origin is (x, y) and whose axes are turned by `angle` rad."""
    cos, sin = np.cos(angle), np.sin(angle)
    if not isinstance(angle, np.ndarray):
        cos, sin = float(cos), float(sin)  # NumPy's own scalars would make the fields float64
    du, dv = u - x, v - y
    return cos * du + sin * dv, cos * dv - sin * du


def circle(u: Field, v: Field, x: Number, y: Number, radius: Number) -> Field:
    """Disc around (x, y)."""
    du, dv = u - x, v - y
    return np.sqrt(du * du + dv * dv) - radius


def ellipse(u: Field, v: Field, x, y, rx, ry, angle: Number | None = None) -> Field:
    """Ellipse around (x, y) with half-axes rx and ry, turned by `angle`."""
    du, dv = (u - x, v - y) if angle is None else rotate(u, v, angle, x, y)
    du, dv = du / rx, dv / ry
    level = np.sqrt(du * du + dv * dv)
    du, dv = du / rx, dv / ry
    # The small terms keep the middle inside, where both quotients are 0.
    return (level - 1) * (level + 1e-4) / (np.sqrt(du * du + dv * dv) + 1e-4)


def box(u: Field, v: Field, x, y, hx, hy, radius: float = 0.0) -> Field:
    """Rectangle around (x, y) with half-sides hx and hy and corners of the given radius."""
    du, dv = np.abs(u - x) - (hx - radius), np.abs(v - y) - (hy - radius)
    if radius == 0:
        return np.maximum(du, dv)
    outside = np.sqrt(np.clip(du, 0, None) ** 2 + np.clip(dv, 0, None) ** 2)
    return outside + np.clip(np.maximum(du, dv), None, 0) - radius


def capsule(u: Field, v: Field, x0, y0, x1, y1, r0, r1: Number | None = None) -> Field:
    """Thick line from (x0, y0) to (x1, y1) whose radius goes from r0 to r1."""
    dx, dy = x1 - x0, y1 - y0
    du, dv = u - x0, v - y0
    along = np.clip((du * dx + dv * dy) / (dx * dx + dy * dy + 1e-9), 0, 1)
    du, dv = du - along * dx, dv - along * dy
    return np.sqrt(du * du + dv * dv) - (r0 if r1 is None else r0 + along * (r1 - r0))


def convex(u: Field, v: Field, *points: tuple[Number, Number]) -> Field:
    """Convex polygon through `points`, given counter-clockwise (v up)."""
    distance = None
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        dx, dy = x1 - x0, y1 - y0
        norm = (dx * dx + dy * dy + 1e-12) ** 0.5
        edge = (u - x0) * (dy / norm) - (v - y0) * (dx / norm)
        distance = edge if distance is None else np.maximum(distance, edge)
    return distance


def lobed(u: Field, v: Field, radius: Number, lobes: int, depth: Number, phase: Number) -> Field:
    """A round outline with `lobes` bumps of the given depth (petals)."""
    angle = np.arctan2(v, u)
    return (np.sqrt(u * u + v * v) - radius - depth * np.cos(lobes * angle + phase)) * 0.8


def ring(distance: Field, width: Number) -> Field:
    """The band of the given width around an outline."""
    return np.abs(distance) - width / 2


def union(*distances: Field) -> Field:
    """Any of the shapes."""
    return functools.reduce(np.minimum, distances)


def blend(a: Field, b: Field, softness: float) -> Field:
    """The union of two shapes with a fillet of the given radius where they meet."""
    h = np.clip(softness - np.abs(a - b), 0, None)
    return np.minimum(a, b) - h * h * (0.25 / softness)


def both(a: Field, b: Field) -> Field:
    """What the two shapes share."""
    return np.maximum(a, b)


def without(a: Field, b: Field) -> Field:
    """The first shape less the second."""
    return np.maximum(a, -b)


def repeat(x: Field, pitch: Number, offset: Number = 0.0) -> Field:
    """A coordinate folded so that a shape around 0 recurs with the given pitch."""
    cells = (x - offset) / pitch
    return (cells - np.rint(cells)) * pitch


def ramp(x: Field, low: Number, high: Number) -> Field:
    """0 below `low`, 1 above `high`, a smooth curve between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)
