import dataclasses

import jax
import numpy as np
import pytest

from tests import small
from transfer_jax.networks import Conv, Dense, Network, Relu
from transfer_jax.visual.occlusion import (
    _watch,
    centres_inside,
    lowest_probability_inside,
    occlusion_maps,
    square_places,
)

NET = small.network(num_classes=5)
ACTIVATIONS = jax.jit(NET.activations)
RNG = np.random.default_rng(0)
IMAGE = RNG.normal(size=(8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def params():
    return NET.init(jax.random.key(0))


@pytest.mark.parametrize("grey", [0.0, np.array([0.5, -1.0, 2.0])])
def test_maps_equal_a_loop_over_single_occluded_images(params, grey):
    maps = occlusion_maps(
        NET, params, IMAGE, 3, square=3, stride=2, grey=grey, layer="conv1", batch_size=7
    )
    assert maps.rows.tolist() == maps.columns.tolist() == [0, 2, 4, 5]
    plain = {k: np.asarray(v[0]) for k, v in ACTIVATIONS(params, IMAGE[None]).items()}
    assert maps.feature_map == np.unravel_index(plain["conv1"].argmax(), (4, 4, 4))[2]
    for i, top in enumerate(maps.rows):
        for j, left in enumerate(maps.columns):
            copy = IMAGE.copy()
            copy[top : top + 3, left : left + 3] = grey
            seen = {k: np.asarray(v[0]) for k, v in ACTIVATIONS(params, copy[None]).items()}
            odds = np.exp(seen["fc4"] - seen["fc4"].max())
            expected = seen["conv1"][..., maps.feature_map].sum()
            assert maps.activation[i, j] == pytest.approx(expected, rel=1e-4, abs=1e-6)
            assert maps.probability[i, j] == pytest.approx(odds[3] / odds.sum(), rel=1e-4)
            assert maps.predicted[i, j] == seen["fc4"].argmax()
    odds = np.exp(plain["fc4"])
    assert maps.unoccluded_probability == pytest.approx(odds[3] / odds.sum(), rel=1e-4)
    assert maps.unoccluded_predicted == plain["fc4"].argmax()
    assert maps.unoccluded_activation == pytest.approx(
        plain["conv1"][..., maps.feature_map].sum(), rel=1e-4
    )


def test_one_program_serves_every_square_stride_grey_and_class(params):
    _watch.cache_clear()
    one = occlusion_maps(NET, params, IMAGE, 0, square=2, stride=2, feature_map=1)
    for square, stride, true_class in ((8, 1, 1), (3, 1, 4)):
        occlusion_maps(NET, params, IMAGE, true_class, square=square, stride=stride, grey=1.0)
    assert _watch(NET, "conv2")._cache_size() == 1
    assert one.layer == "conv2" and one.feature_map == 1 and one.activation.shape == (4, 4)
    assert one.probability.dtype == np.float32 and one.predicted.dtype == np.int32


def one_pixel_network(row, column):
    """Class 1 wins where one pixel of an otherwise empty image shines, class 0 without it."""
    layers = (Conv("conv1", 2, 1, then=(Relu(),)), Dense("fc2", 2))
    kernel = np.zeros((1, 1, 3, 2), np.float32)
    kernel[0, 0, :, 0] = 1
    dense = np.zeros((8, 8, 2, 2), np.float32)
    dense[row, column, 0, 1] = 1
    params = {
        "conv1": {"kernel": kernel, "bias": np.zeros(2, np.float32)},
        "fc2": {"kernel": dense.reshape(-1, 2), "bias": np.array([3.0, 0.0], np.float32)},
    }
    return Network("one pixel", 8, layers), params


def test_a_network_that_looks_at_one_pixel_fails_where_that_pixel_is_hidden():
    net, params = one_pixel_network(5, 2)
    image = np.full((8, 8, 3), 2.0, np.float32)
    maps = occlusion_maps(net, params, image, 1, square=2, stride=1)
    hidden = np.zeros((7, 7), bool)
    hidden[4:6, 1:3] = True
    assert np.array_equal(maps.predicted == 0, hidden)
    assert np.allclose(maps.probability[hidden], 1 / (1 + np.exp(3)))
    assert np.allclose(maps.probability[~hidden], 1 / (1 + np.exp(-3)))
    assert np.all(maps.activation == 6 * 60) and maps.unoccluded_activation == 6 * 64

    # The first of the four lowest places has its centre at pixel (5, 2) of 8.
    assert lowest_probability_inside(maps, (0.5, 0.2, 0.7, 0.3))
    assert lowest_probability_inside(maps, (5 / 8, 2 / 8, 1.0, 1.0))
    assert not lowest_probability_inside(maps, (0.7, 0.0, 1.0, 1.0))
    assert not lowest_probability_inside(maps, (0.0, 0.3, 1.0, 1.0))


def test_the_share_of_centres_inside_a_box_is_its_area_of_places():
    net, params = one_pixel_network(0, 0)
    maps = occlusion_maps(net, params, IMAGE, 0, square=2, stride=2)
    inside = centres_inside(maps, (0.0, 0.5, 0.5, 1.0))
    assert maps.rows.tolist() == [0, 2, 4, 6]
    assert np.array_equal(inside, np.outer([1, 1, 0, 0], [0, 0, 1, 1]).astype(bool))
    assert centres_inside(maps, (0, 0, 1, 1)).all()
    for box in ((0.5, 0, 0.5, 1), (0, 0.2, 1.1, 0.9), (-0.1, 0, 1, 1)):
        with pytest.raises(ValueError, match=r"expected .ymin, xmin, ymax, xmax"):
            centres_inside(maps, box)


@pytest.mark.parametrize("side", [1, 5, 8, 13])
def test_every_pixel_is_hidden_by_some_square_and_none_hangs_over(side):
    for square in range(1, side + 1):
        for stride in range(1, square + 1):
            starts = square_places(side, square, stride)
            assert np.all(np.diff(starts) > 0) and starts[0] == 0
            assert starts[-1] + square == side
            assert set((starts[:, None] + np.arange(square)).ravel()) == set(range(side))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": IMAGE[:7]}, "image of shape"),
        ({"image": np.zeros((8, 8, 3), np.uint8)}, "uint8"),
        ({"true_class": 5}, r"true_class=5: expected a whole number 0..4"),
        ({"square": 9}, "square=9"),
        ({"square": 0}, "square=0"),
        ({"stride": 4}, "stride=4: expected a whole number 1..3"),
        ({"grey": np.zeros(2)}, "grey of shape"),
        ({"layer": "conv7"}, "conv7"),
        ({"feature_map": 4}, "feature_map=4"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_input_is_named(params, change, message):
    arguments = {"image": IMAGE, "true_class": 0, "square": 3, "stride": 1} | change
    with pytest.raises(ValueError, match=message):
        occlusion_maps(NET, params, **arguments)


def test_a_network_without_convolutions_must_name_its_layer():
    net = Network("dense", 8, (Dense("fc1", 3, then=(Relu(),)), Dense("fc2", 2)))
    params = net.init(jax.random.key(0))
    with pytest.raises(ValueError, match="name the layer to watch"):
        occlusion_maps(net, params, IMAGE, 0, square=4, stride=4)
    maps = occlusion_maps(net, params, IMAGE, 0, square=4, stride=4, layer="fc1")
    assert maps.activation.shape == (2, 2)
    assert dataclasses.asdict(maps)["layer"] == "fc1"
