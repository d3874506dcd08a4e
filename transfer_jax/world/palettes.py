"""Colours, in sRGB 0..1. Families share palettes, so that colour alone names no class."""

from __future__ import annotations

import numpy as np

from transfer_jax.world.randomness import Field


def _palette(codes: str) -> Field:
    rows = [[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in codes.split()]
    return np.asarray(rows, np.float32)


def tone(colour: Field, factor: float) -> Field:
    """The colours (n, 3), darker or brighter by a factor, kept within 0..1."""
    return np.clip(colour * np.float32(factor), 0, 1)


FUR = _palette("8a6a45 a98b5f c9a878 6b5138 8d8579 b5aa9a d8c9a8 77706a")
DARK_FUR = _palette("2b2320 3a2a1e 4a3826 26262a 55402c")
PALE_FUR = _palette("efe6d3 e3d5b8 f4f0e8 d9c39a cfc8bd")
PLUMAGE = _palette("7a5c3e a07a52 e8e2d6 5a5f66 c4493a 3d7a48 2f5f94 e2a2a0 d9b23c 8f8a80")
BRIGHT_PLUMAGE = _palette("c23b2e 2e8a4a 2b63b0 e0b52e e58a8c 3aa0a8 e8e2d6")
BEAK = _palette("e09a2f d9742b 4a4038 c9b06a 2f2b28")
WING = _palette("d98a2b c9552e 3f6fb0 e6d9a0 7a4a8a d9d4c4 b03a3a 7aa08a")
SHELL = _palette("b8322a d0602a d9a02f 4a3a2c 6a3a2a 8a7a3a")
FRUIT = _palette("b5302c c94a35 d9b13a 8fae3f c98a35 e0c64a a8b84a 8a2c34")
LEAF = _palette("3f6b2c 567f38 2f5230 738a3c 8a9448 4a6a48 8f7a34")
PETAL = _palette("efe9dc e8cf4a d98fae b95fa0 d9652f 8a78c0 c23f4a")
BARK = _palette("5a4632 6e5a44 453528 7d6f5e")
EARTH = _palette("7a6446 8d7a58 5c5238 a3946f 6b6a50 b8a67e")
SKY = _palette("8fb4d9 b8cfe0 d5dde0 a5b5c0 e3d3bd 6f93b8")

PAINT = _palette("c8202a 1f5fb8 f0c020 1c8a4c f4f4f2 26282c e86a1c 7d8790 5a2f8a 18a0b4")
WOOD = _palette("9c6b3c b98850 6e4526 d0a874 4c3020 e9e4da")
METAL = _palette("a9b0b8 8b9299 c6cbd0 6d747c")
STONE = _palette("b9b2a4 a04a36 8f8880 c9a886 d8d4cc 8a4a3c e6dcc0")
ROOF = _palette("8a3a2c 4a4c54 6e5040 a85838 3c5060")
GLAZE = _palette("f2f0ea 2f6fb0 b03a2c 2c8a6a e0b43a 3a3a42 8a5a3a a9c6c0")
GLASS = _palette("3c566c 7fa3bb a8c0cc 26333f dcc98a")
RUBBER = _palette("1c1c1e 2c2c30 3a3634")
INTERIOR = _palette("d8d2c4 b9c4c8 c9b8a0 e6e2da 98a08c c48f7a 7f8fa6")
STREET = _palette("8c8c8e a7a39c 6c6e74 b8b4ac 7a6a60")
GRIP = np.concatenate([WOOD[:4], PAINT[:6]])
