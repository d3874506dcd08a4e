"""Receptive fields against published arithmetic, the spread of NaNs, and the gradient's support."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from transfer_jax.networks import (
    AdaptiveAvgPool,
    Conv,
    Dense,
    LocalResponseNorm,
    MaxPool,
    Network,
    Relu,
    alexnet_mini,
    caffenet,
    torchvision_alexnet,
    zfnet,
)
from transfer_jax.visual.deconvnet import project
from transfer_jax.visual.receptive_field import receptive_field

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
        assert field.units == network.output_shapes[name][0]
    whole = network.input_size
    assert receptive_field(network, "fc7").box(0, 0) == (0, 0, whole, whole)


def assert_boxes_are_what_units_see(network, rows):
    """A NaN in a pixel reaches exactly the units that see it, through maxima and ReLUs too."""
    params = network.init(jax.random.key(0))
    side = network.input_size
    # Image k has NaNs in pixel row rows[k]; rows and columns follow the same arithmetic, which the
    # second half, the same images on their side, checks.
    x = np.zeros((len(rows), side, side, 3), np.float32)
    x[np.arange(len(rows)), rows] = np.nan
    reached = jax.jit(network.activations)(params, np.concatenate([x, x.transpose(0, 2, 1, 3)]))
    for name in network.layer_names:
        field = receptive_field(network, name)
        maps = np.isnan(np.asarray(reached[name])).any(axis=-1)
        maps = maps.reshape(2, len(rows), field.units, field.units)
        for row, column in np.ndindex(field.units, field.units):
            top, left, bottom, right = field.box(row, column)
            np.testing.assert_array_equal(maps[0, :, row, column], (top <= rows) & (rows < bottom))
            np.testing.assert_array_equal(maps[1, :, row, column], (left <= rows) & (rows < right))


@pytest.mark.parametrize("network", [
    zfnet(2, widths=NARROW),
    caffenet(2, widths=NARROW, input_size=226),  # leaves over three rows and columns
    alexnet_mini(2, widths=NARROW),
    torchvision_alexnet(2, widths=NARROW, input_size=256),  # averages 7 pixels to 6
    alexnet_mini(2, widths={"conv1": 2}, remove=("conv3", "conv4", "fc6"), input_size=29),
], ids=lambda network: f"{network.name} {network.input_size}")  # fmt: skip
def test_boxes_are_what_units_see(network):
    side = network.input_size
    rows = np.unique([*range(0, side, 13), *range(6), *range(side - 6, side), side // 2])
    assert_boxes_are_what_units_see(network, rows)


pools = st.none() | st.builds(MaxPool, st.integers(1, 3), st.integers(1, 3), st.integers(0, 1))
convs = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(0, 2), pools)


@settings(max_examples=6)
@given(size=st.integers(6, 14), described=st.lists(convs, min_size=2, max_size=3))
def test_boxes_of_any_geometry_are_what_units_see(size, described):
    layers = []
    for number, (kernel, stride, padding, pool) in enumerate(described):
        assume(padding < kernel and stride <= kernel)
        assume(pool is None or (pool.padding < pool.window and pool.stride <= pool.window))
        then = (Relu(),) if pool is None else (Relu(), pool)
        layers.append(Conv(f"conv{number}", 1, kernel, stride, padding, then=then))
    try:
        network = Network("any", size, tuple(layers))
    except ValueError:
        assume(False)
    assert_boxes_are_what_units_see(network, np.arange(size))


def test_the_field_is_the_support_of_the_gradient():
    network = Network("positive", 21, (
        Conv("conv1", 4, 3, stride=2, padding=1, then=(Relu(), MaxPool(3, 2), LocalResponseNorm())),
        Conv("conv2", 4, 3, padding=1, then=(Relu(),)),
        Dense("fc3", 3, then=(Relu(),)),
    ))  # fmt: skip
    # Positive weights cancel nothing, and among many images each place is a maximum once.
    params = jax.tree.map(lambda p: jnp.abs(p) + 0.01, network.init(jax.random.key(0)))
    x = np.random.RandomState(0).uniform(-1, 1, (128, 21, 21, 3)).astype(np.float32)
    for name in network.layer_names:
        shape = network.output_shapes[name]
        field = receptive_field(network, name)
        last = field.units - 1
        for row, column in {(0, 0), (last // 2, last), (last, last // 2)}:
            signal = np.zeros((128, field.units, field.units, shape[-1]), np.float32)
            signal[:, row, column] = 1
            gradient = project(network, params, x, name, signal.reshape(128, *shape), "gradient")
            support = np.any(np.asarray(gradient) != 0, axis=(0, 3))
            expected = np.zeros((21, 21), bool)
            top, left, bottom, right = field.box(row, column)
            expected[top:bottom, left:right] = True
            np.testing.assert_array_equal(support, expected, err_msg=f"{name} {row} {column}")


def test_windows_of_several_sizes_have_no_single_field():
    layers = (
        Conv("conv1", 2, 3, then=(AdaptiveAvgPool(6),)),
        Conv("conv2", 2, 3),
        Dense("fc3", 2),
    )
    network = Network("uneven", 10, layers)  # averages 8 pixels to 6
    for name in ("conv1", "conv2", "fc3"):
        with pytest.raises(ValueError, match="conv1: 8 pixels averaged to 6"):
            receptive_field(network, name)
    above = Network("dense above", 10, (layers[0], layers[2]))
    assert receptive_field(above, "fc3").box(0, 0) == (0, 0, 10, 10)


def test_bad_input_is_named():
    network = alexnet_mini()
    with pytest.raises(ValueError, match="'pool1' is not a layer of alexnet_mini"):
        receptive_field(network, "pool1")
    with pytest.raises(ValueError, match=r"row 16: expected 0\.\.15"):
        receptive_field(network, "conv1").box(16, 0)
    with pytest.raises(ValueError, match=r"column -1: expected 0\.\.15"):
        receptive_field(network, "conv1").box(0, -1)
