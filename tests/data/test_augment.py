"""Views against NumPy loops, and the distribution of random crops."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from transfer_jax.data import augment
from transfer_jax.data.augment import Augmentation

CHANNEL_MEAN = np.array([104.0, 116.7, 122.3], np.float32)
SMALL = Augmentation(size=8, pad=2)


def random_images(count=6, height=8, width=8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


def random_mean_image(height, width):
    return np.random.default_rng(9).uniform(80, 150, (height, width, 3)).astype(np.float32)


def keys_for(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def reference_view(image, row, column, mirrored, augmentation, mean, scale):
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


@pytest.mark.parametrize("mean_kind", ["channel", "image"])
@pytest.mark.parametrize(
    "augmentation, height, width",
    [
        (Augmentation(8, pad=2), 8, 8),
        (Augmentation(5), 8, 8),
        (Augmentation(9, pad=3), 6, 11),
        (Augmentation(8, pad=0), 8, 8),
    ],
)
def test_train_view_is_the_loop_at_the_drawn_offsets(augmentation, height, width, mean_kind):
    images, keys = random_images(24, height, width), keys_for(24)
    mean = CHANNEL_MEAN if mean_kind == "channel" else random_mean_image(height, width)
    view = jax.jit(lambda x, k: augment.train_view(x, k, augmentation, mean, 1 / 58.0))
    got = np.asarray(view(images, keys))
    offsets = augment.crop_offsets(keys, augmentation, images.shape[1:])
    rows, columns, mirrored = map(np.asarray, offsets)
    assert mirrored.any() and not mirrored.all()
    want = [
        reference_view(*example, augmentation, mean, 1 / 58.0)
        for example in zip(images, rows, columns, mirrored, strict=True)
    ]
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, np.stack(want))


def test_a_mean_image_follows_its_crop_bit_for_bit():
    images, keys, mean = random_images(16, 12, 14), keys_for(16), random_mean_image(12, 14)
    augmentation = Augmentation(7)
    got = np.asarray(
        jax.jit(functools.partial(augment.train_view, augmentation=augmentation))(
            images, keys, mean=mean, scale=np.float32(0.017)
        )
    )
    rows, columns, mirrored = map(
        np.asarray, augment.crop_offsets(keys, augmentation, images.shape[1:])
    )
    for image, row, column, flip, view in zip(images, rows, columns, mirrored, got, strict=True):
        here = np.s_[row : row + 7, column : column + 7]
        cropped_first = (image[here].astype(np.float32) - mean[here]) * np.float32(0.017)
        np.testing.assert_array_equal(view, cropped_first[:, ::-1] if flip else cropped_first)


def test_padding_is_the_mean_after_subtraction():
    images = np.full((1, 4, 4, 3), 200, np.uint8)
    corner = augment.crop_view(
        images,
        np.array([0]),
        np.array([0]),
        np.array([False]),
        Augmentation(4, pad=2),
        CHANNEL_MEAN,
    )
    assert (np.asarray(corner)[0, :2] == 0).all() and (np.asarray(corner)[0, :, :2] == 0).all()
    np.testing.assert_array_equal(
        np.asarray(corner)[0, 2:, 2:], np.broadcast_to(np.float32(200) - CHANNEL_MEAN, (2, 2, 3))
    )


def test_offsets_reach_every_place_uniformly_and_independently():
    count = 40_000
    rows, columns, mirrored = map(
        np.asarray, augment.crop_offsets(keys_for(count, seed=3), SMALL, (8, 10, 3))
    )
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 4, 0, 6)
    counts = np.zeros((5, 7, 2))
    np.add.at(counts, (rows, columns, mirrored.astype(int)), 1)
    assert counts.min() > 0
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-3
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / np.sqrt(count)


def test_offsets_of_successive_fold_ins_are_uniform():
    fold = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(11), i))
    rows, columns, _ = augment.crop_offsets(fold(jnp.arange(20_000)), SMALL, (8, 8, 3))
    counts = np.bincount(np.asarray(rows) * 5 + np.asarray(columns), minlength=25)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_mirror_off_never_mirrors():
    mirrored = augment.crop_offsets(keys_for(500), Augmentation(8, mirror=False), (9, 9, 3))[2]
    assert not np.asarray(mirrored).any()


def test_views_do_not_depend_on_the_split_of_the_batch():
    images, keys = random_images(8), keys_for(8)
    view = jax.jit(lambda x, k: augment.train_view(x, k, SMALL, CHANNEL_MEAN, 0.01))
    whole = np.asarray(view(images, keys))
    for part in (np.s_[:4], np.s_[4:], np.s_[3:4]):
        np.testing.assert_array_equal(np.asarray(view(images[part], keys[part])), whole[part])
    mapped = jax.pmap(lambda x, k: augment.train_view(x, k, SMALL, CHANNEL_MEAN, 0.01))
    np.testing.assert_array_equal(np.asarray(mapped(images[None], keys[None]))[0], whole)


@pytest.mark.parametrize("height, width, size, pad", [(9, 12, 5, 0), (8, 8, 8, 4), (6, 6, 7, 2)])
def test_eval_view_is_the_centre(height, width, size, pad):
    images, mean = random_images(3, height, width), random_mean_image(height, width)
    got = augment.eval_view(images, Augmentation(size, pad), mean, 0.5)
    row, column = (height + 2 * pad - size) // 2, (width + 2 * pad - size) // 2
    want = [
        reference_view(image, row, column, False, Augmentation(size, pad), mean, 0.5)
        for image in images
    ]
    np.testing.assert_array_equal(np.asarray(got), np.stack(want))


def test_eval_view_of_a_padded_recipe_is_the_image_itself():
    images = random_images(2)
    got = augment.eval_view(images, Augmentation(8, pad=4), np.zeros(3))
    np.testing.assert_array_equal(np.asarray(got), images.astype(np.float32))


@pytest.mark.parametrize("mean_kind", ["channel", "image"])
def test_ten_crop_view_is_corners_centre_and_mirrors(mean_kind):
    images = random_images(3, 7, 9)
    mean = CHANNEL_MEAN if mean_kind == "channel" else random_mean_image(7, 9)
    got = np.asarray(augment.ten_crop_view(images, Augmentation(5), mean, 0.25))
    full = (images.astype(np.float32) - mean) * np.float32(0.25)
    five = [full[:, :5, :5], full[:, :5, 4:], full[:, 2:, :5], full[:, 2:, 4:], full[:, 1:6, 2:7]]
    want = np.stack(five + [crop[:, :, ::-1] for crop in five], axis=1)
    assert got.shape == (3, 10, 5, 5, 3)
    np.testing.assert_array_equal(got, want)


def test_ten_crop_view_contains_the_eval_view_and_the_padded_corner():
    images = random_images(2)
    ten = np.asarray(augment.ten_crop_view(images, SMALL, CHANNEL_MEAN))
    np.testing.assert_array_equal(
        ten[:, 4], np.asarray(augment.eval_view(images, SMALL, CHANNEL_MEAN))
    )
    np.testing.assert_array_equal(
        ten[0, 3], reference_view(images[0], 4, 4, False, SMALL, CHANNEL_MEAN, 1)
    )


@pytest.mark.parametrize("mean_kind", ["channel", "image"])
@pytest.mark.parametrize("height, width, size, pad", [(7, 9, 5, 0), (8, 8, 8, 2), (6, 11, 7, 1)])
def test_ten_training_crops_are_the_ten_evaluation_crops(height, width, size, pad, mean_kind):
    """Each view is, bit for bit, the one of the ten that the drawn place names."""
    images, keys = random_images(40, height, width), keys_for(40)
    mean = CHANNEL_MEAN if mean_kind == "channel" else random_mean_image(height, width)
    augmentation = Augmentation(size, pad)
    view = jax.jit(lambda x, k: augment.train_view(x, k, augmentation, mean, 0.25, "ten"))
    got = np.asarray(view(images, keys))
    ten = np.asarray(augment.ten_crop_view(images, augmentation, mean, 0.25))
    bottom, right = height + 2 * pad - size, width + 2 * pad - size
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), (bottom // 2, right // 2)]
    offsets = augment.ten_crop_offsets(keys, augmentation, images.shape[1:])
    drawn = [corners.index((r, c)) + 5 * bool(m) for r, c, m in zip(*offsets, strict=True)]
    assert set(drawn) == set(range(10))
    np.testing.assert_array_equal(got, ten[np.arange(40), drawn])


def test_each_of_the_ten_crops_is_equally_likely():
    fold = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(5), i))(jnp.arange(20_000))
    rows, columns, mirrored = augment.ten_crop_offsets(fold, Augmentation(5), (9, 12, 3))
    places = zip(map(int, rows), map(int, columns), map(bool, mirrored), strict=True)
    counts = collections.Counter(places)
    assert len(counts) == 10 and scipy.stats.chisquare(list(counts.values())).pvalue > 1e-3
    without = Augmentation(5, mirror=False)
    assert not np.asarray(augment.ten_crop_offsets(fold[:100], without, (9, 12, 3))[2]).any()


def test_ten_crops_do_not_depend_on_the_split_of_the_batch():
    images, keys = random_images(8), keys_for(8)
    view = jax.jit(lambda x, k: augment.train_view(x, k, Augmentation(5), CHANNEL_MEAN, 1, "ten"))
    whole = np.asarray(view(images, keys))
    for part in (np.s_[:4], np.s_[4:], np.s_[3:4]):
        np.testing.assert_array_equal(np.asarray(view(images[part], keys[part])), whole[part])


@pytest.mark.parametrize(
    "error, message, call",
    [
        (ValueError, "size is 0", lambda: Augmentation(0)),
        (ValueError, "pad is -1", lambda: Augmentation(8, pad=-1)),
        (
            ValueError,
            r"size is 9, larger than the image of 8x8 .* at most 8",
            lambda: augment.eval_view(random_images(), Augmentation(9), CHANNEL_MEAN),
        ),
        (
            ValueError,
            "at most 6",
            lambda: augment.ten_crop_view(random_images(2, 4, 9), Augmentation(7, 1), CHANNEL_MEAN),
        ),
        (
            ValueError,
            "larger than the image",
            lambda: augment.train_view(
                random_images(), keys_for(6), Augmentation(13, 2), [0, 0, 0]
            ),
        ),
        (
            ValueError,
            r"mean has shape \(8, 7, 3\)",
            lambda: augment.eval_view(random_images(), SMALL, np.zeros((8, 7, 3))),
        ),
        (
            ValueError,
            r"mean has shape \(\)",
            lambda: augment.eval_view(random_images(), SMALL, 117.0),
        ),
        (
            ValueError,
            r"scale has shape \(2,\)",
            lambda: augment.eval_view(random_images(), SMALL, CHANNEL_MEAN, [1.0, 2.0]),
        ),
        (
            TypeError,
            "float32; expected uint8",
            lambda: augment.eval_view(np.zeros((2, 8, 8, 3), np.float32), SMALL, CHANNEL_MEAN),
        ),
        (
            ValueError,
            r"images has shape \(8, 8, 3\)",
            lambda: augment.eval_view(random_images()[0], SMALL, CHANNEL_MEAN),
        ),
        (
            ValueError,
            "one key per image",
            lambda: augment.train_view(random_images(), keys_for(5), SMALL, CHANNEL_MEAN),
        ),
        (
            ValueError,
            r"crops is 'twelve'; expected one of \('random', 'ten'\)",
            lambda: augment.train_view(
                random_images(), keys_for(6), SMALL, CHANNEL_MEAN, crops="twelve"
            ),
        ),
        (
            TypeError,
            "typed keys",
            lambda: augment.ten_crop_offsets(jax.random.key_data(keys_for(6)), SMALL, (8, 8, 3)),
        ),
        (
            ValueError,
            "a key per image",
            lambda: augment.crop_offsets(jax.random.key(0), SMALL, (8, 8, 3)),
        ),
        (
            TypeError,
            "typed keys",
            lambda: augment.crop_offsets(jax.random.key_data(keys_for(6)), SMALL, (8, 8, 3)),
        ),
        (
            TypeError,
            "rbg.*threefry",
            lambda: augment.crop_offsets(
                jax.random.split(jax.random.key(0, impl="rbg"), 6), SMALL, (8, 8, 3)
            ),
        ),
    ],
)
def test_bad_arguments_are_refused_by_name(error, message, call):
    with pytest.raises(error, match=message):
        call()
