"""Draws the contact sheet of the embedded world.

Usage: python -m transfer_jax.data.world sheet.jpg
"""

from __future__ import annotations

import argparse

from transfer_jax.data.world.sheet import contact_sheet


def main() -> None:
    """Command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", help="file to write, .png or .jpg")
    parser.add_argument("--size", type=int, default=64, help="pixels a side of each image")
    parser.add_argument("--examples", type=int, default=4, help="images per class")
    parser.add_argument("--zoom", type=int, default=1, help="screen pixels per pixel")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    path = contact_sheet(
        options.path,
        size=options.size,
        examples=options.examples,
        zoom=options.zoom,
        seed=options.seed,
    )
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
