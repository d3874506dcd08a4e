"""Draws four pictures of every class, family by family: python -m transfer_jax.world sheet.jpg"""

import sys

import matplotlib.pyplot as plt
import numpy as np

from transfer_jax.world import CLASSES, class_id, render_images

if __name__ == "__main__":
    classes = sorted(CLASSES, key=lambda one: (one.kingdom == "man_made", one.family, one.name))
    ids = np.repeat([class_id(one.name) for one in classes], 4)
    images, _ = render_images(ids, np.tile(np.arange(4), 40), split="train", size=64)
    figure, axes = plt.subplots(2, 20, figsize=(15, 6.2), layout="constrained")
    for place, one, column in zip(axes.flat, classes, images.reshape(40, -1, 64, 3), strict=True):
        place.imshow(column)
        place.set_title(f"{one.family}\n{one.name}".replace("_", " "), fontsize=7)
        place.axis("off")
    figure.savefig(sys.argv[1])
