"""What drawings paint on: a batch of object frames over a batch of pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transfer_jax.world.randomness import Field, Tape
from transfer_jax.world.shapes import Number, rotate

PATTERNS = ("plain", "striped", "spotted", "chequered")


class Canvas:
    """The object frame of n pictures, and the painting in it.

    Attributes:
      u, v: coordinates in the object frame, (n, size, size); the object fills [-1, 1].
      pixel: what one pixel spans in the object frame, (n, 1, 1).
      alpha: how much of each pixel the object covers, in 0..1.
      tape: random numbers that belong to the instance.
    """

    def __init__(self, picture: Field, affine: Field, tape: Tape, tilt: Field | None = None):
        """`picture` (n, 3, size, size) float32 is painted over in place; row 0 is the top. `affine`
        (n, 2, 3) takes (x right, y down, 1) of the unit square to (u, v); `tilt` (n, 2) is the
        strength of perspective along u and v.
        """
        size = picture.shape[-1]
        self.picture = picture
        self.tape = tape
        self._affine = affine
        self._grid = (np.arange(size, dtype=np.float32) + 0.5) / size
        self._step = max(1, round(size / 64))
        x, y = self._grid[None, None, :], self._grid[None, :, None]
        a = affine[:, :, :, None, None]
        u = a[:, 0, 0] * x + (a[:, 0, 1] * y + a[:, 0, 2])
        v = a[:, 1, 0] * x + (a[:, 1, 1] * y + a[:, 1, 2])
        if tilt is not None:
            depth = 1 + tilt[:, 0, None, None] * u + tilt[:, 1, None, None] * v
            depth = 1 / np.clip(depth, 0.5, None)
            u *= depth
            v *= depth
        self.u, self.v = u, v
        area = np.abs(affine[:, 0, 0] * affine[:, 1, 1] - affine[:, 0, 1] * affine[:, 1, 0])
        self.pixel = (np.sqrt(area) / size)[:, None, None].astype(np.float32)
        self.alpha = np.zeros_like(u)
        self._height = np.zeros_like(u)

    def waves(self, low: float, high: float, *, slope=1.0, stretch=(1.0, 1.0), count=12) -> Field:
        """Smooth noise fixed to the object: plane waves of random direction and phase.

        Frequencies lie in low .. high rad per unit of the object frame, amplitudes fall as
        frequency ** -slope (1 is the 1/f of natural textures), and a stretch of (1, 0.2) along u
        and v gives upright strands. Returns (n, size, size) of mean 0 and variance 1.
        """
        draw = self.tape.numbers(2 * count).reshape(-1, 2, count)
        spread = (np.arange(count, dtype=np.float32) + 0.5) / count
        frequency = low * (high / low) ** spread
        amplitude = frequency**-slope
        amplitude *= np.sqrt(2 / np.sum(amplitude**2))
        # Directions are spread evenly and jittered, so that few waves already look isotropic.
        angle = np.float32(np.pi) * (spread * count * np.float32(0.618034) + draw[:, 0])
        ku = frequency * stretch[0] * np.cos(angle)
        kv = frequency * stretch[1] * np.sin(angle)
        a = self._affine
        kx = ku * a[:, 0, 0, None] + kv * a[:, 1, 0, None]
        ky = ku * a[:, 0, 1, None] + kv * a[:, 1, 1, None]
        phase = ku * a[:, 0, 2, None] + kv * a[:, 1, 2, None] + 2 * np.pi * draw[:, 1]
        # The mean over a pixel instead of the value at its middle: no aliasing at small sizes.
        reach = np.float32(0.5 / np.pi / len(self._grid))
        amplitude = amplitude * np.sinc(kx * reach) * np.sinc(ky * reach)
        amplitude = amplitude[:, None, :].astype(np.float32)
        across = kx[:, :, None] * self._grid
        down = ky[:, None, :] * self._grid[:, None] + phase[:, None, :]
        left = np.concatenate([np.cos(down) * amplitude, -np.sin(down) * amplitude], axis=2)
        right = np.concatenate([np.cos(across), np.sin(across)], axis=1)
        return left.astype(np.float32) @ right.astype(np.float32)

    def bend(self, least: float, most: float, low: float = 1.5, high: float = 5.0):
        """Warps the frame by smooth noise of an amount in [least, most).

        Outlines of everything painted later become organic. Returns the tape, u and v.
        """
        amount = self.tape.uniform(least, most)
        du = self.waves(low, high, count=6)
        dv = self.waves(low, high, count=6)
        self.u = self.u + amount * du
        self.v = self.v + amount * dv
        return self.tape, self.u, self.v

    def turned(self, angle: Number, x: Number = 0.0, y: Number = 0.0) -> tuple[Field, Field]:
        """The object coordinates in a frame at (x, y) turned by `angle`."""
        return rotate(self.u, self.v, angle, x, y)

    def soften(self, level: Field, slope: Number) -> Field:
        """0 or 1 by the sign of `level`, antialiased; `slope` is how fast level rises per unit."""
        return np.clip(0.5 + level / (slope * self.pixel * 1.5), 0, 1)

    def stripes(self, x: Field, frequency: Number, duty: Number = 0.0) -> Field:
        """Bands across the coordinate x: 1 on the share of them that `duty` in (-1, 1) sets."""
        return self.soften(np.sin(x * frequency) + duty, frequency)

    def paint(
        self, distance: Field, colour: Field, other=None, field=None, *, bulge=0.25, depth=0.25
    ):
        """Paints a shape, given by the signed distance to its outline, over what is there.

        `colour` (n, 3) gives way to `other` (n, 3) where `field` (n, size, size) in 0..1 says so.
        `bulge` is the height of the shape's middle over its outline, reached at `depth` inside;
        None paints onto the surface that is there.
        """
        cover = np.clip(0.5 - distance / self.pixel, 0, 1)
        for channel in range(3):
            plane = self.picture[:, channel]
            if field is None:
                ink = colour[:, channel, None, None] - plane
            else:
                ink = field * (other - colour)[:, channel, None, None]
                ink += colour[:, channel, None, None]
                ink -= plane
            ink *= cover
            plane += ink
        np.maximum(self.alpha, cover, out=self.alpha)
        if bulge is not None:
            rise = np.clip(distance / -depth, 0, 1)
            rise *= bulge * (2 - rise)
            rise += 0.08
            rise -= self._height
            rise *= cover
            self._height += rise

    def dress(self, colour: Field, pattern: NDArray[np.int64]) -> None:
        """Dyes all that was painted: `colour` (n, 3), as light and dark as it was, and `pattern`
        (n,), places in PATTERNS.
        """
        u, v = self.turned(self.tape.uniform(-0.3, 0.3), self.tape.uniform(), self.tape.uniform())
        stripes = self.stripes(v, 13)
        spots = self.soften(np.cos(12 * u) + np.cos(12 * v) - 0.7, 12)
        checks = np.abs(self.stripes(u, 9) - self.stripes(v, 9))
        worn = pattern[:, None, None]
        marks = np.choose(worn, [np.zeros_like(u), stripes, spots, checks]).astype(np.float32)
        shade = (0.6 + 0.5 * self.picture.mean(axis=1)) * (1 - 0.7 * marks)
        dye = colour[:, :, None, None] * shade[:, None] - self.picture
        self.picture += dye * self.alpha[:, None]

    def light(self, angle: Field, strength: Field, gloss: float) -> None:
        """Shades the relief of all that was painted, by light from `angle` in the picture; `gloss`
        is the strength of the highlights.
        """
        k = self._step
        slope = np.zeros_like(self._height)
        height = self._height / (self.pixel * (2 * k))
        slope[:, :, k:-k] = (height[:, :, 2 * k :] - height[:, :, : -2 * k]) * -np.cos(angle)
        slope[:, k:-k] += (height[:, 2 * k :] - height[:, : -2 * k]) * np.sin(angle)
        slope = slope / np.sqrt(1 + slope * slope)
        shade = (1 + strength * slope * self.alpha)[:, None]
        shine = np.clip(slope - 0.35, 0, None)
        shine *= shine * self.alpha * gloss
        self.picture *= shade
        self.picture += shine[:, None]
