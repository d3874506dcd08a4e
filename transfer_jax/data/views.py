"""Views of images: random crops and mirrors for training, fixed crops for evaluation.

Pure functions, traced inside the compiled step, so that only bytes travel to the device. One rule
serves them all, `(image - mean) * scale`, then zero padding, then the crop: what is padded looks
like the mean, and a mean image is cropped with the image, as in Caffe.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How a view is cut: its side in pixels, the pixels of padding on each side of the image, and
    whether half of the training views are mirrored left to right.

      caffe = Augmentation(size=227)        # 227x227 crops of 256x256 images
      small = Augmentation(size=32, pad=4)  # 32x32 crops of 32x32 images padded to 40x40
    """

    size: int
    pad: int = 0
    mirror: bool = True


def train_view(
    images: jax.Array,
    keys: jax.Array,
    augmentation: Augmentation,
    mean: ArrayLike,
    scale: ArrayLike = 1.0,
    crops: str = "random",
) -> jax.Array:
    """One random view of each image, uint8 (N, h, w, 3) to float32 (N, size, size, 3).

    View i depends on `keys[i]` alone (typed threefry keys, (N,)): not on the rest of the batch or
    how it is split over devices. With `crops='random'` every place where the crop fits is equally
    likely; with 'ten' the view is one of the ten of `ten_crop_view` (Zeiler & Fergus 2013, section
    3.1). `mean` is (3,) or an image (h, w, 3), in pixel values; `scale` a number or (3,).
    """
    bits = jax.vmap(lambda key: jax.random.bits(key, (3,), jnp.uint32))(keys)
    bottom, right = _room(augmentation, images)
    if crops == "ten":
        places = np.array(_five_places(bottom, right), np.int32)
        rows, columns = jnp.asarray(places)[bits[:, 0] % np.uint32(5)].T
    else:
        # The remainder's bias towards low offsets is below 2**-20.
        rows = (bits[:, 0] % np.uint32(bottom + 1)).astype(jnp.int32)
        columns = (bits[:, 1] % np.uint32(right + 1)).astype(jnp.int32)
    shape = (augmentation.size, augmentation.size, images.shape[-1])

    def cut(image, row, column):
        return jax.lax.dynamic_slice(image, (row, column, 0), shape)

    # Slices of the float image are the fastest form on XLA:CPU, and a mean image follows its crop.
    views = jax.vmap(cut)(_padded(images, augmentation, mean, scale), rows, columns)
    if not augmentation.mirror:
        return views
    mirrored = (bits[:, 2] >> 31).astype(bool)
    return jnp.where(mirrored[:, None, None, None], views[:, :, ::-1], views)


def eval_view(
    images: jax.Array, augmentation: Augmentation, mean: ArrayLike, scale: ArrayLike = 1.0
) -> jax.Array:
    """The centre crop of each image, not mirrored: float32 (N, size, size, 3)."""
    place = _five_places(*_room(augmentation, images))[4]
    return _cut(_padded(images, augmentation, mean, scale), place, augmentation.size)


def ten_crop_view(
    images: jax.Array, augmentation: Augmentation, mean: ArrayLike, scale: ArrayLike = 1.0
) -> jax.Array:
    """Four corners and the centre, then the same mirrored: float32 (N, 10, size, size, 3).

    Predictions averaged over the ten are Krizhevsky et al.'s test (2012, section 4.1). The order is
    top left, top right, bottom left, bottom right, centre; the corners are those of the padded
    image, the outermost crops that training can draw.
    """
    padded = _padded(images, augmentation, mean, scale)
    places = _five_places(*_room(augmentation, images))
    crops = jnp.stack([_cut(padded, place, augmentation.size) for place in places], axis=1)
    return jnp.concatenate([crops, crops[:, :, :, ::-1]], axis=1)


def _padded(images, augmentation, mean, scale):
    mean, scale = jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32)
    pad = (augmentation.pad, augmentation.pad)
    return jnp.pad((images.astype(jnp.float32) - mean) * scale, ((0, 0), pad, pad, (0, 0)))


def _cut(padded, place, size):
    row, column = place
    return padded[:, row : row + size, column : column + size]


def _room(augmentation, images) -> tuple[int, int]:
    """The largest row and column at which a crop of the padded images may begin."""
    height, width = (side + 2 * augmentation.pad for side in images.shape[1:3])
    if augmentation.size > min(height, width):
        raise ValueError(
            f"augmentation.size is {augmentation.size}: expected at most {min(height, width)}, "
            f"images of {images.shape[1]}x{images.shape[2]} pixels padded by {augmentation.pad}"
        )
    return height - augmentation.size, width - augmentation.size


def _five_places(bottom: int, right: int) -> list[tuple[int, int]]:
    return [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
