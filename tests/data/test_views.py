"""Views against NumPy loops, and the distribution of random crops."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from transfer_jax.data.views import Augmentation, eval_view, ten_crop_view, train_view

CHANNEL_MEAN = np.array([104.0, 116.7, 122.3], np.float32)


def random_images(count=6, height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def keys_for(count, seed=0):
    return jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(count))


def naive_view(image, row, column, mirrored, augmentation, mean, scale):
    """One view, pixel by pixel, written from the definition: subtract, pad, cut, flip."""
    height, width, channels = image.shape
    mean = np.broadcast_to(np.float32(mean), image.shape)
    view = np.zeros((augmentation.size, augmentation.size, channels), np.float32)
    for i in range(augmentation.size):
        for j in range(augmentation.size):
            y = row + i - augmentation.pad
            across = augmentation.size - 1 - j if mirrored else j
            x = column + across - augmentation.pad
            if 0 <= y < height and 0 <= x < width:
                view[i, j] = (np.float32(image[y, x]) - mean[y, x]) * np.float32(scale)
    return view


def drawn_places(count, augmentation, height, width, crops="random", seed=0):
    """(row, column, mirrored) of views, read from images that hold their own coordinates."""
    assert augmentation.size + augmentation.pad <= min(height, width)
    rows, columns = np.mgrid[1 : height + 1, 1 : width + 1]
    image = np.stack([rows, columns, 0 * rows], axis=-1).astype(np.uint8)
    images = jnp.broadcast_to(jnp.asarray(image), (count, *image.shape))
    view = jax.jit(lambda x, k: train_view(x, k, augmentation, np.zeros(3, np.float32), 1.0, crops))
    views = np.asarray(view(images, keys_for(count, seed))).astype(int)
    inside = augmentation.size // 2  # neither this pixel nor the one before is padding
    row = views[:, inside, inside, 0] - 1 - inside + augmentation.pad
    mirrored = views[:, inside, inside - 1, 1] > views[:, inside, inside, 1]
    left = np.where(mirrored, augmentation.size - 1 - inside, inside)
    column = views[:, inside, inside, 1] - 1 - left + augmentation.pad
    return row, column, mirrored


@pytest.mark.parametrize("crops, kind", [("random", "image"), ("ten", "channel")])
@pytest.mark.parametrize("size, pad, height, width", [(8, 0, 12, 14), (6, 2, 8, 9)])
def test_train_view_is_the_loop_at_the_drawn_places(size, pad, height, width, crops, kind):
    augmentation, mean = Augmentation(size, pad), random_images(1, height, width, 9)[0] / 2
    mean = CHANNEL_MEAN if kind == "channel" else mean.astype(np.float32)
    images = random_images(24, height, width)
    view = jax.jit(lambda x, k: train_view(x, k, augmentation, mean, 1 / 58.0, crops))
    got = np.asarray(view(images, keys_for(24)))
    rows, columns, mirrored = drawn_places(24, augmentation, height, width, crops)
    assert mirrored.any() and not mirrored.all()
    want = [
        naive_view(*example, augmentation, mean, 1 / 58.0)
        for example in zip(images, rows, columns, mirrored, strict=True)
    ]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.stack(want))


def test_crops_reach_every_place_equally_often():
    rows, columns, mirrored = drawn_places(20_000, Augmentation(5, pad=1), 6, 8, seed=3)
    counts = np.zeros((4, 6, 2))
    np.add.at(counts, (rows, columns, mirrored.astype(int)), 1)
    assert counts.min() > 0
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_each_of_the_ten_crops_is_equally_likely():
    places = drawn_places(10_000, Augmentation(5), 9, 12, "ten", seed=5)
    counts = collections.Counter(zip(*(part.tolist() for part in places), strict=True))
    assert {place[:2] for place in counts} == {(0, 0), (0, 7), (4, 0), (4, 7), (2, 3)}
    assert len(counts) == 10 and scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3


@pytest.mark.parametrize("crops", ["random", "ten"])
def test_a_view_depends_on_its_own_key_alone(crops):
    images, keys = random_images(8), keys_for(8)

    def view(x, k):
        return train_view(x, k, Augmentation(6, pad=1), CHANNEL_MEAN, 0.01, crops)

    whole = np.asarray(jax.jit(view)(images, keys))
    order = np.array([5, 2, 7])
    np.testing.assert_array_equal(
        np.asarray(jax.jit(view)(images[order], keys[order])), whole[order]
    )
    np.testing.assert_array_equal(np.asarray(jax.pmap(view)(images[None], keys[None]))[0], whole)


@pytest.mark.parametrize("height, width, size, pad", [(9, 12, 5, 0), (8, 8, 8, 4), (6, 6, 7, 2)])
def test_eval_view_is_the_centre(height, width, size, pad):
    images, mean = random_images(3, height, width), CHANNEL_MEAN
    got = eval_view(images, Augmentation(size, pad), mean, 0.5)
    row, column = (height + 2 * pad - size) // 2, (width + 2 * pad - size) // 2
    want = [naive_view(x, row, column, False, Augmentation(size, pad), mean, 0.5) for x in images]
    np.testing.assert_array_equal(np.asarray(got), np.stack(want))


def test_ten_crop_view_is_corners_centre_and_mirrors():
    images, scale = random_images(3, 7, 9), np.float32([0.5, 0.25, 2])
    mean = random_images(1, 7, 9, 9)[0].astype(np.float32)
    got = np.asarray(ten_crop_view(images, Augmentation(5, pad=1), mean, scale))
    places = [(0, 0), (0, 6), (4, 0), (4, 6), (2, 3)]
    want = [
        [naive_view(image, *place, mirrored, Augmentation(5, pad=1), mean, scale)
         for mirrored in (False, True) for place in places]
        for image in images
    ]  # fmt: skip
    assert got.shape == (3, 10, 5, 5, 3)
    np.testing.assert_array_equal(got, want)


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(ValueError, match="expected at most 8"):
        eval_view(random_images(), Augmentation(9), CHANNEL_MEAN)
