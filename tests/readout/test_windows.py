"""Windows of whole images against the network on crops of images that Pillow resizes."""

import jax
import numpy as np
from hypothesis import given, strategies as st
from PIL import Image

from transfer_jax.networks import Conv, Dense, MaxPool, Network, Relu, alexnet_mini, caffenet
from transfer_jax.readout import windows
from transfer_jax.readout.windows import Pyramid, image_score, scan, score_map

MEAN, SCALE = np.array([100, 120, 140], np.float32), 1 / 60
SMALL = Pyramid(scales=(1, 2.3))
HOW = {"mean": MEAN, "pixel_scale": SCALE, "pyramid": SMALL}
# Layers with strides and without padding, whose windows see nothing but themselves.
VALID = Network("valid", 16, (
    Conv("conv1", 4, 4, stride=2, then=(Relu(), MaxPool(3, 2, round_up=False))),
    Dense("fc2", 8, then=(Relu(),)),
    Dense("fc3", 5),
))  # fmt: skip
PARAMS = jax.tree.map(np.asarray, VALID.init(jax.random.key(0)))
# Across, upright, smaller than the input, a pixel, a strip; some shorter than their canvases.
SHAPES = [(40, 60), (59, 43), (11, 14), (1, 1), (4, 23)]


def pictures(shapes=SHAPES):
    rng = np.random.default_rng(0)
    smooth = [
        Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize(shape[::-1])
        for shape in shapes
    ]
    return [np.asarray(image) for image in smooth]


def recorded(monkeypatch):
    """Shapes of all batches that the network runs on."""
    shapes, run = [], windows._outputs

    def spy(network, params, images, *others):
        shapes.append(images.shape)
        return run(network, params, images, *others)

    monkeypatch.setattr(windows, "_outputs", spy)
    return shapes


def test_windows_of_a_worked_image():
    network = alexnet_mini(5)  # 32 pixels, moved by 8
    pyramid = Pyramid(scales=(1, 2))
    assert pyramid.sides(network, (100, 150)) == [(32, 48), (64, 96)]
    boxes = pyramid.boxes(network, (100, 150))
    assert boxes.shape == (1 * 3 + 5 * 9, 4)
    np.testing.assert_allclose(
        boxes[:3], [[0, 0, 1, 4 / 6], [0, 1 / 6, 1, 5 / 6], [0, 2 / 6, 1, 1]], rtol=1e-6
    )
    np.testing.assert_allclose(boxes[3 + 9 + 2], [1 / 8, 2 / 12, 5 / 8, 6 / 12], rtol=1e-6)
    coarse = Pyramid(scales=(1, 2), stride=2).boxes(network, (100, 150))
    assert coarse.shape == (1 * 2 + 3 * 5, 4)
    # The paper's pyramid: 22 rows of 32 at the finest scale of a photograph of 4:3.
    assert Pyramid().sides(caffenet(), (375, 500))[-1] == (899, 1219)
    assert len(Pyramid(scales=(4,)).boxes(caffenet(), (375, 500))) == 22 * 32


@given(st.integers(1, 700), st.integers(1, 700), st.sampled_from([1, 2, 3]))
def test_windows_cover_the_image_from_border_to_border(height, width, stride):
    network, short = alexnet_mini(5), min(height, width)
    if max(height, width) > 20 * short:
        return
    fine, all_boxes = Pyramid(), Pyramid().boxes(network, (height, width))
    assert (all_boxes >= 0).all() and (all_boxes <= 1).all()
    coarse = Pyramid(stride=stride).boxes(network, (height, width))
    assert set(map(tuple, coarse)) <= set(map(tuple, all_boxes))
    for scale in fine.scales:
        boxes = Pyramid(scales=(scale,)).boxes(network, (height, width))
        np.testing.assert_array_equal(boxes[0, :2], 0)
        np.testing.assert_allclose(boxes[-1, 2:], 1)
        # Rounding moves a resized side by at most half a stride, and 2 % where a canvas ends.
        sides = (boxes[:, 2:] - boxes[:, :2]) * (height, width)
        least, most = 32 * scale / (32 * scale + 4), 32 * scale / max(32 * scale - 4, 1)
        assert (sides >= short / scale * least * 0.999).all()
        assert (sides <= short / scale * most * 1.0201 * 1.001).all()


def test_scanned_windows_are_the_network_on_crops_of_the_resized_image():
    images, found, crops = pictures(), [], []
    for i, boxes, logits in scan(VALID, PARAMS, images.__getitem__, range(5), **HOW):
        first = len(crops)
        for height, width in SMALL.sides(VALID, images[i].shape):
            resized = Image.fromarray(images[i]).resize((width, height), Image.Resampling.BILINEAR)
            for top in range(0, height - 15, 4):
                for left in range(0, width - 15, 4):
                    box = np.array([top, left, top + 16, left + 16]) / ((height, width) * 2)
                    np.testing.assert_allclose(boxes[len(crops) - first], box, atol=1e-6)
                    crops.append(np.asarray(resized)[top : top + 16, left : left + 16])
        assert len(boxes) == len(logits) == len(crops) - first
        found.append(logits)
        images[i] = None
    assert images == [None] * 5
    wanted = VALID.apply(PARAMS, (np.array(crops) - MEAN) * SCALE)
    np.testing.assert_allclose(np.concatenate(found), wanted, atol=1e-5 * np.abs(wanted).max())


def test_a_coarser_stride_gives_some_of_the_same_windows():
    images = pictures()
    fine, coarse = (
        next(scan(VALID, PARAMS, images.__getitem__, [0], **{**HOW, "pyramid": pyramid}))
        for pyramid in (SMALL, Pyramid(SMALL.scales, stride=2))
    )
    logits = dict(zip(map(tuple, fine[1]), fine[2], strict=True))
    assert len(fine[1]) > 3 * len(coarse[1])
    wanted = [logits[tuple(box)] for box in coarse[1]]
    np.testing.assert_allclose(coarse[2], wanted, atol=1e-5)


def test_images_of_many_sizes_share_a_few_programs(monkeypatch):
    rng, shapes = np.random.default_rng(0), recorded(monkeypatch)
    sizes = [(30, 40), *((int(rng.integers(30, 40)), int(rng.integers(50, 54))) for _ in range(19))]
    images = pictures(sizes)
    found = {
        i: logits for i, _, logits in scan(VALID, PARAMS, images.__getitem__, range(20), **HOW)
    }
    assert sorted(found) == list(range(20))
    assert len(set(sizes)) > 15 and len(set(shapes)) <= 3 * 2  # canvases of 4:3, 3:2 and 2:1
    # An image's windows do not depend on those that are scanned with it.
    _, _, alone = next(scan(VALID, PARAMS, images.__getitem__, [13], **HOW))
    np.testing.assert_allclose(alone, found[13], atol=1e-5)


def test_a_mean_image_is_averaged():
    images, picture = pictures(SHAPES[:1]), np.random.default_rng(0).uniform(0, 255, (8, 8, 3))
    one, other = (
        next(scan(VALID, PARAMS, images.__getitem__, [0], mean=mean, pyramid=SMALL))[2]
        for mean in (picture, picture.mean(axis=(0, 1)))
    )
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-3)


def test_scores_of_an_image():
    p = np.random.default_rng(0).uniform(size=(30, 4)).astype(np.float32)
    for k in (1, 5):
        wanted = [sum(float(row[c]) ** k for row in p) / 30 for c in range(4)]
        np.testing.assert_allclose(image_score(p, k), wanted, rtol=1e-5)
    np.testing.assert_array_equal(image_score(p, np.inf), p.max(axis=0))


@given(st.integers(0, 100), st.integers(1, 12), st.integers(1, 12))
def test_a_map_is_the_mean_of_the_windows_over_a_pixel(seed, height, width):
    rng = np.random.default_rng(seed)
    tops, lefts = rng.integers(0, height, 6), rng.integers(0, width, 6)
    bottoms, rights = rng.integers(tops + 1, height + 1), rng.integers(lefts + 1, width + 1)
    boxes = np.stack([tops, lefts, bottoms, rights], axis=1) / (height, width, height, width)
    scores, wanted = rng.normal(size=6), np.empty((height, width))
    for y, x in np.ndindex(height, width):
        over = scores[(tops <= y) & (y < bottoms) & (lefts <= x) & (x < rights)]
        wanted[y, x] = np.mean(over) if len(over) else min(scores)
    found = score_map(boxes.astype(np.float32), scores, (height, width))
    np.testing.assert_allclose(found, wanted, atol=1e-9)
