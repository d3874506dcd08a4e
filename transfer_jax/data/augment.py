"""Views of images: random crops and mirrors for training, fixed crops for evaluation.

Every view takes uint8 NHWC images and returns float32 ones, mean subtracted and scaled, and is
meant to be traced inside the compiled train or evaluation step, so that only bytes travel to the
device. All five papers train on random crops and mirrors of mean-subtracted images and evaluate
on a centre crop; Krizhevsky et al. (2012, section 4.1) describe both and the ten-crop average.

Two habits are served by one rule, `(image - mean) * scale`, then zero padding, then the crop:
- Caffe's: crop 227 from a 256x256 image, `pad=0`; a mean image is cropped with the image.
- small images: `pad=4` and a crop of the original size. Padded pixels are 0 after the mean is
  subtracted, that is, they look like the mean.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

CROPS = ("random", "ten")
"""Where training views are cut: anywhere, or at one of the ten places of `ten_crop_view`."""


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How a view is cut from an image.

    Attributes:
      size: height and width of the (square) view, in pixels.
      pad: pixels added on each side of the image before cropping; they are 0 after the mean is
        subtracted.
      mirror: whether training views are flipped left to right with probability 1/2.

    Raises:
      ValueError: a size below 1 or a negative padding.

    Example:
      >>> caffe = Augmentation(size=227)        # 227x227 crops of 256x256 images
      >>> small = Augmentation(size=32, pad=4)  # 32x32 crops of 32x32 images padded to 40x40
    """

    size: int
    pad: int = 0
    mirror: bool = True

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"Augmentation.size is {self.size}; expected at least 1 pixel.")
        if self.pad < 0:
            raise ValueError(f"Augmentation.pad is {self.pad}; expected 0 or more pixels.")


def crop_offsets(
    keys: jax.Array, augmentation: Augmentation, image_shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws where each training view is cut and whether it is mirrored.

    Example i's draw depends on `keys[i]` alone: not on the size of the batch, on the example's
    place in it, or on how the batch is split over devices.

    Args:
      keys: (N,) typed PRNG keys (`jax.random.key`, `split`, or a vmapped `fold_in`).
      augmentation: crop size, padding, mirroring.
      image_shape: (height, width, ...) of one image, before padding.

    Returns:
      `rows` and `columns`, int32 (N,): the view's top left pixel in the padded image, uniform
      over all places where it fits; and `mirrored`, bool (N,).

    Raises:
      TypeError: keys that are not typed, or of an implementation other than threefry, whose
        draws under `vmap` would depend on the rest of the batch.
      ValueError: keys that are not one-dimensional, or a view larger than the padded image.

    Example:
      >>> rows, columns, mirrored = crop_offsets(
      ...     jax.random.split(jax.random.key(0), 64), Augmentation(32, pad=4), (32, 32, 3))
    """
    _check_keys(keys)
    room_rows, room_columns = _room(augmentation, image_shape)
    # One call for three draws: the remainder's bias towards low offsets is below 2**-20.
    bits = jax.vmap(lambda key: jax.random.bits(key, (3,), jnp.uint32))(keys)
    rows = (bits[:, 0] % np.uint32(room_rows + 1)).astype(jnp.int32)
    columns = (bits[:, 1] % np.uint32(room_columns + 1)).astype(jnp.int32)
    mirrored = (bits[:, 2] >> 31).astype(bool) & augmentation.mirror
    return rows, columns, mirrored


def ten_crop_offsets(
    keys: jax.Array, augmentation: Augmentation, image_shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws which of the ten views of `ten_crop_view` each training view is.

    Krizhevsky et al.'s ten test views are Zeiler & Fergus's training set (2013, section 3.1).
    Example i's draw depends on `keys[i]` alone, as that of `crop_offsets` does.

    Args:
      keys: (N,) typed PRNG keys.
      augmentation: crop size, padding, mirroring; with `mirror=False` five views are left.
      image_shape: (height, width, ...) of one image, before padding.

    Returns:
      `rows` and `columns`, int32 (N,): the view's top left pixel in the padded image, each of the
      five places equally likely; and `mirrored`, bool (N,).

    Raises:
      TypeError, ValueError: as `crop_offsets` does.
    """
    _check_keys(keys)
    places = jnp.asarray(_five_places(augmentation, image_shape), jnp.int32)
    bits = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
    rows, columns = places[bits[:, 0] % np.uint32(len(places))].T
    mirrored = (bits[:, 1] >> 31).astype(bool) & augmentation.mirror
    return rows, columns, mirrored


def crop_view(
    images: jax.Array,
    rows: jax.Array,
    columns: jax.Array,
    mirrored: jax.Array,
    augmentation: Augmentation,
    mean: ArrayLike,
    scale: ArrayLike = 1.0,
) -> jax.Array:
    """Cuts each image at a given place and mirrors the marked ones.

    Args:
      images: uint8 (N, height, width, channels).
      rows, columns: int32 (N,), the top left pixel of each view in the padded image.
      mirrored: bool (N,), which views are flipped left to right.
      augmentation: crop size and padding.
      mean: (channels,), or a mean image (height, width, channels); in units of pixel values.
      scale: a number, or one per channel (channels,); multiplies what is left after the mean.

    Returns:
      float32 (N, size, size, channels). A mean image is taken away pixel by pixel at the place
      where the crop was cut, before the flip, as Caffe does.

    Raises:
      TypeError: images that are not uint8.
      ValueError: shapes that do not fit each other, or a view larger than the padded image.
    """
    _room(augmentation, _check_images(images)[1:])
    size = augmentation.size
    padded = _padded(_normalised(images, mean, scale), augmentation.pad)

    # A slice per image, of the float image. Measured on two cores with XLA:CPU, offsets drawn
    # in the same call, in ms for (64, 32, 32, 3) pad 4 / (32, 256, 256, 3) to 227:
    #   this 0.14 / 1.0;  the same on uint8, converted after 0.19 / 2.2;  take_along_axis on rows,
    #   then columns 0.13 / 2.7;  one gather by pixel 0.15 / 9.6;  products with one-hot matrices
    #   0.50 / 53;  a chain of selects over the possible shifts 2.7 / not tried.
    # Slicing the normalised image also makes a mean image follow its crop by construction.
    def cut(image, row, column):
        return lax.dynamic_slice(image, (row, column, 0), (size, size, image.shape[-1]))

    views = jax.vmap(cut)(padded, rows, columns)
    return jnp.where(mirrored[:, None, None, None], views[:, :, ::-1], views)


def train_view(
    images: jax.Array,
    keys: jax.Array,
    augmentation: Augmentation,
    mean: ArrayLike,
    scale: ArrayLike = 1.0,
    crops: str = "random",
) -> jax.Array:
    """One random crop of each image, mirrored with probability 1/2.

    Args:
      images: uint8 (N, height, width, channels).
      keys: (N,) typed PRNG keys, one per example.
      augmentation: crop size, padding, mirroring.
      mean: (channels,), or a mean image (height, width, channels); in units of pixel values.
      scale: a number, or one per channel (channels,).
      crops: 'random' cuts anywhere, see `crop_offsets`; 'ten' at the corners and the centre, see
        `ten_crop_offsets`.

    Returns:
      float32 (N, size, size, channels): `(crop - mean) * scale`, 0 where the crop hangs over
      the image's border into the padding.

    Raises:
      TypeError, ValueError: as `crop_offsets` and `crop_view` do, for a number of keys that is
        not the number of images, and for other `crops`.

    Example:
      >>> keys = jax.vmap(lambda i: jax.random.fold_in(step_key, i))(example_numbers)
      >>> x = train_view(batch["image"], keys, Augmentation(227), mean_image, 1.0)
    """
    count, *image_shape = _check_images(images)
    if keys.shape != (count,):
        raise ValueError(
            f"keys has shape {keys.shape} and images {images.shape}; expected one key per image."
        )
    if crops not in CROPS:
        raise ValueError(f"crops is {crops!r}; expected one of {CROPS}.")
    draw = crop_offsets if crops == "random" else ten_crop_offsets
    offsets = draw(keys, augmentation, tuple(image_shape))
    return crop_view(images, *offsets, augmentation, mean, scale)


def eval_view(
    images: jax.Array, augmentation: Augmentation, mean: ArrayLike, scale: ArrayLike = 1.0
) -> jax.Array:
    """The centre crop of each image, not mirrored; where it cannot be centred, up and left.

    Args:
      images: uint8 (N, height, width, channels).
      augmentation: crop size and padding (which matters only to a view larger than the image).
      mean: (channels,), or a mean image (height, width, channels); in units of pixel values.
      scale: a number, or one per channel (channels,).

    Returns:
      float32 (N, size, size, channels).

    Raises:
      TypeError: images that are not uint8.
      ValueError: shapes that do not fit each other, or a view larger than the padded image.
    """
    room_rows, room_columns = _room(augmentation, _check_images(images)[1:])
    padded = _padded(_normalised(images, mean, scale), augmentation.pad)
    row, column, size = room_rows // 2, room_columns // 2, augmentation.size
    return padded[:, row : row + size, column : column + size]


def ten_crop_view(
    images: jax.Array, augmentation: Augmentation, mean: ArrayLike, scale: ArrayLike = 1.0
) -> jax.Array:
    """Four corners and the centre of each image, each also mirrored.

    Predictions averaged over the ten are Krizhevsky et al.'s test-time protocol (2012, section
    4.1). The corners are those of the padded image: the outermost crops that training can draw.

    Args:
      images: uint8 (N, height, width, channels).
      augmentation: crop size and padding.
      mean: (channels,), or a mean image (height, width, channels); in units of pixel values.
      scale: a number, or one per channel (channels,).

    Returns:
      float32 (N, 10, size, size, channels): top left, top right, bottom left, bottom right,
      centre (as `eval_view`), then the same five mirrored.

    Raises:
      TypeError: images that are not uint8.
      ValueError: shapes that do not fit each other, or a view larger than the padded image.
    """
    places = _five_places(augmentation, _check_images(images)[1:])
    padded = _padded(_normalised(images, mean, scale), augmentation.pad)
    size = augmentation.size
    crops = jnp.stack([padded[:, r : r + size, c : c + size] for r, c in places], axis=1)
    return jnp.concatenate([crops, crops[:, :, :, ::-1]], axis=1)


def _normalised(images: jax.Array, mean: ArrayLike, scale: ArrayLike) -> jax.Array:
    mean, scale = jnp.asarray(mean, jnp.float32), jnp.asarray(scale, jnp.float32)
    image_shape = tuple(images.shape[1:])
    if mean.shape not in (image_shape[-1:], image_shape):
        raise ValueError(
            f"mean has shape {mean.shape}; expected {image_shape[-1:]}, one value per channel, or "
            f"{image_shape}, an image of the size of the images before they are cropped."
        )
    if scale.shape not in ((), image_shape[-1:]):
        raise ValueError(
            f"scale has shape {scale.shape}; expected a number or shape {image_shape[-1:]}."
        )
    return (images.astype(jnp.float32) - mean) * scale


def _padded(images: jax.Array, pad: int) -> jax.Array:
    return jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)))


def _room(augmentation: Augmentation, image_shape: tuple[int, ...]) -> tuple[int, int]:
    height, width = image_shape[:2]
    size, pad = augmentation.size, augmentation.pad
    if size > min(height, width) + 2 * pad:
        raise ValueError(
            f"Augmentation.size is {size}, larger than the image of {height}x{width} pixels "
            f"padded by {pad} on each side; expected at most {min(height, width) + 2 * pad}."
        )
    return height + 2 * pad - size, width + 2 * pad - size


def _five_places(augmentation: Augmentation, image_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """Top left pixels, in the padded image, of the four corner crops and the centre one."""
    bottom, right = _room(augmentation, image_shape)
    return [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]


def _check_images(images) -> tuple[int, ...]:
    if images.dtype != np.uint8:
        raise TypeError(f"images has dtype {images.dtype}; expected uint8 pixel values.")
    if images.ndim != 4:
        raise ValueError(
            f"images has shape {images.shape}; expected (count, height, width, channels)."
        )
    return tuple(images.shape)


def _check_keys(keys: jax.Array) -> None:
    if not jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
        raise TypeError(
            f"keys has dtype {keys.dtype}; expected typed keys such as jax.random.key(0) makes "
            "(wrap raw ones with jax.random.wrap_key_data)."
        )
    if "threefry" not in str(jax.random.key_impl(keys)):
        raise TypeError(
            f"keys are of the implementation {jax.random.key_impl(keys)!s}; expected "
            "'threefry2x32', whose draws do not depend on how the batch is split."
        )
    if keys.ndim != 1:
        raise ValueError(f"keys has shape {keys.shape}; expected one dimension, a key per image.")
