"""Receptive fields against published arithmetic and the spread of NaNs."""

import dataclasses

import jax
import numpy as np
import pytest

from transfer_jax.networks import (
    AdaptiveAvgPool,
    Conv,
    Dense,
    MaxPool,
    Network,
    Relu,
    RoiPool,
    alexnet_mini,
    caffenet,
    receptive_field,
    torchvision_alexnet,
    zfnet,
)

CONVS = ("conv1", "conv2", "conv3", "conv4", "conv5")
NARROW = dict.fromkeys(CONVS, 2) | {"fc6": 2, "fc7": 2}


@pytest.mark.parametrize(("network", "expected"), [
    # 11 + 2 * 4; + 4 * 8 + 2 * 8; + 2 * 16; + 2 * 16; + 2 * 16 + 2 * 16
    (caffenet(), [(19, 8, 0), (67, 16, -16), (99, 16, -32), (131, 16, -48), (195, 32, -64)]),
    # As caffenet, but 2 pixels of padding before conv1.
    (torchvision_alexnet(), [(19, 8, -2), (67, 16, -18), (99, 16, -34), (131, 16, -50),
                             (195, 32, -66)]),
    (zfnet(), [(11, 4, -1), (43, 16, -1), (75, 16, -17), (107, 16, -33), (171, 32, -49)]),
    (alexnet_mini(), [(7, 2, -2), (19, 4, -6), (27, 4, -10), (35, 4, -14), (51, 8, -18)]),
], ids=lambda value: getattr(value, "name", ""))  # fmt: skip
def test_sizes_strides_and_offsets(network, expected):
    for name, (size, stride, offset) in zip(CONVS, expected, strict=True):
        field = receptive_field(network, name)
        assert (field.size, field.stride, field.offset) == (size, stride, offset)
        assert field.units == network.output_shapes[name][:2]
    whole = network.input_size
    assert receptive_field(network, "fc7").box(0, 0) == (0, 0, whole, whole)


ODD = Network("odd", (13, 11), (
    Conv("conv1", 1, 4, stride=3, padding=2, then=(Relu(), MaxPool(3, 1, padding=1))),
    Conv("conv2", 1, 2, padding=1, then=(Relu(), MaxPool(2, 2, padding=1))),
    Conv("conv3", 1, 2, stride=2),
))  # fmt: skip


@pytest.mark.parametrize("network", [
    ODD,
    caffenet(2, widths=NARROW, input_size=(226, 195)),  # leaves over three rows and columns
    torchvision_alexnet(2, widths=NARROW, input_size=256),  # averages 7 pixels to 6
], ids=lambda network: network.name)  # fmt: skip
def test_boxes_are_what_units_see(network):
    """A NaN in a pixel reaches exactly the units that see it, through maxima and ReLUs too."""
    side = min(network.input_shape[:2])
    lines = np.unique([*range(0, side, 23), 1, 2, 3, side - 3, side - 2, side - 1])
    params = network.init(jax.random.key(0))
    # An image has NaNs in one row of pixels, or in one column.
    x = np.zeros((2, len(lines), *network.input_shape), np.float32)
    x[0, np.arange(len(lines)), lines] = np.nan
    x[1, np.arange(len(lines)), :, lines] = np.nan
    reached = jax.jit(network.activations)(params, x.reshape(-1, *network.input_shape))
    for name in network.layer_names:
        field = receptive_field(network, name)
        maps = np.isnan(np.asarray(reached[name])).any(axis=-1).reshape(2, len(lines), *field.units)
        for row, column in np.ndindex(*field.units):
            top, left, bottom, right = field.box(row, column)
            seen = (top <= lines) & (lines < bottom), (left <= lines) & (lines < right)
            np.testing.assert_array_equal(maps[:, :, row, column], seen)


def test_windows_of_several_sizes_have_no_single_field():
    layers = (
        Conv("conv1", 2, 3, then=(AdaptiveAvgPool(6),)),
        Conv("conv2", 2, 3),
        Dense("fc3", 2),
    )
    network = Network("uneven", 10, layers)  # averages 8 pixels to 6
    with pytest.raises(ValueError, match=r"8, 8.*averaged to 6"):
        receptive_field(network, "conv2")
    regions = dataclasses.replace(layers[0], then=(RoiPool(6),))
    with pytest.raises(ValueError, match="conv1 pools regions"):
        receptive_field(Network("of regions", 10, (regions, layers[2])), "conv1")
    above = Network("dense above", 10, (layers[0], layers[2]))
    assert receptive_field(above, "fc3").box(0, 0) == (0, 0, 10, 10)
