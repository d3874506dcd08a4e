"""Draws the contact sheet of the embedded world: python -m transfer_jax.world sheet.jpg"""

import sys

from transfer_jax.world.sheet import contact_sheet

if __name__ == "__main__":
    print(contact_sheet(sys.argv[1]))
