"""Caffe's files, written here byte by byte, against a forward pass in Caffe's own conventions."""

import functools
import struct

import jax
import numpy as np
import pytest

from tests.networks import naive
from transfer_jax.networks import alexnet, caffenet, weights

WIDTHS = {"conv1": 4, "conv2": 6, "conv3": 4, "conv4": 6, "conv5": 4, "fc6": 8, "fc7": 7}
SIDE = 99  # leaves a map of 2 x 2 to fc6
GROUPS = {"conv2": 2, "conv4": 2, "conv5": 2}
NETWORKS = {
    name: build(3, widths=WIDTHS, input_size=SIDE)
    for name, build in (("CaffeNet", caffenet), ("AlexNet", alexnet))
}


def varint(number):
    digits = []
    while number > 127:
        digits.append(number % 128 + 128)
        number //= 128
    return bytes([*digits, number])


def field(number, value):
    """A field of a message: an integer by its varint, else bytes with their length."""
    if isinstance(value, int):
        return varint(number * 8) + varint(value)
    return varint(number * 8 + 2) + varint(len(value)) + value


def blob(array, kind):
    """BlobProto: with num, channels, height, width; with a shape; or in double precision."""
    data = field(5, array.astype("<f4").tobytes()) + field(6, b"\0" * 8)
    if kind == "V1":
        shape = (1,) * (4 - array.ndim) + array.shape
        return b"".join(field(i + 1, size) for i, size in enumerate(shape)) + data
    if kind == "double":
        data = field(8, array.astype("<f8").tobytes())
    return data + field(7, field(1, b"".join(map(varint, array.shape))))


def caffemodel(arrays, kind, name=b"CaffeNet"):
    """NetParameter: data, ReLU and the given layers, V1 (with enum types) or current."""
    net, number = field(1, name), 2 if kind == "V1" else 100
    for layer, blobs in {"data": (), "relu1": (), **arrays}.items():
        packed = [blob(array, kind) for array in blobs]
        if kind == "V1":
            message = field(2, b"data") + field(3, layer.encode()) + field(4, layer.encode())
            message += field(5, 4) + b"".join(field(6, one) for one in packed)
            message += field(7, struct.pack("<f", 1.0))
        else:
            message = field(1, layer.encode()) + field(2, b"Convolution") + field(10, 1)
            message += b"".join(field(7, one) for one in packed)
        net += field(number, message)
    return net


@functools.cache
def arrays():
    """Layer -> (weight, bias) as Caffe shapes them: (out, in / groups, h, w) or (out, in)."""
    rng = np.random.default_rng(0)
    kernels = {"conv1": 11, "conv2": 5, "conv3": 3, "conv4": 3, "conv5": 3}
    made, inputs = {}, 3
    for name, outputs in {**WIDTHS, "fc8": 3}.items():
        shape = (outputs, inputs // GROUPS.get(name, 1)) + (kernels.get(name, 0),) * 2
        shape = shape if name in kernels else shape[:2]
        weight = rng.normal(size=shape) * np.sqrt(2 / np.prod(shape[1:]))
        made[name] = weight.astype(np.float32), rng.normal(size=outputs).astype(np.float32) / 5
        inputs = outputs * 4 if name == "conv5" else outputs
    return made


def caffe_logits(pixels, network):
    """Caffe's pass of one RGB image: blue before red, maps flattened channels first."""
    x = pixels[:, :, ::-1] - np.array([104.0, 117.0, 123.0])
    for layer in network.layers:
        weight, bias = arrays()[layer.name]
        if weight.ndim == 4:
            geometry = layer.stride, layer.padding, layer.groups
            x = naive.conv(x, weight.transpose(2, 3, 1, 0).astype(np.float64), bias, *geometry)
        else:
            x = weight.astype(np.float64) @ np.moveaxis(x, -1, 0).reshape(-1) + bias
        for operation in layer.then:
            x = naive.after(operation, x)
    return x


@pytest.mark.parametrize("net", ["CaffeNet", "AlexNet"])
def test_logits_are_caffes(tmp_path, net):
    network, path, found = NETWORKS[net], tmp_path / "net.caffemodel", []
    for kind in ("V1", "current", "double"):
        path.write_bytes(caffemodel(arrays(), kind, net.encode()))
        loaded = weights.load_weights(path, network)
        assert loaded.mean is None
        assert weights.widths_in(path, network)[network.layer_names[-1]] == 3
        found.append(loaded.params)
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)
    coarse = np.random.default_rng(1).integers(0, 256, (2, 11, 11, 3))
    images = coarse.repeat(9, axis=1).repeat(9, axis=2).astype(np.float32)  # squares matter
    ours = np.asarray(jax.jit(network.apply)(found[0], images - np.float32([123, 117, 104])))
    expected = np.array([caffe_logits(image, network) for image in images])
    error = np.abs(ours - expected).max() / np.abs(expected).max()
    assert error < 1e-5 and np.ptp(expected, axis=0).min() > 0.01


def test_a_network_of_another_name_is_warned_of(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel(arrays(), "V1", b"AlexNet"))
    with pytest.warns(UserWarning, match=r"'AlexNet'.*'caffenet'"):
        weights.load_weights(path, NETWORKS["CaffeNet"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"conv3": ()}, r"conv3.*found only.*'conv2', 'conv4'"),
        ({"conv2": (np.zeros((6, 4, 5, 5)),)}, r"conv2.*\(5, 5, 2, 6\).*\(5, 5, 4, 6\)"),
        ({"fc8": (np.zeros((5, 7)), np.zeros(5))}, "fc8.*3 classes"),
        ({"fc9": arrays()["fc8"]}, "fc9.*no such layer"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel({**arrays(), **change}, "V1"))
    with pytest.raises(ValueError, match=rf"net\.caffemodel: .*{message}"):
        weights.load_weights(path, NETWORKS["CaffeNet"])


def test_damaged_files(tmp_path):
    path = tmp_path / "net.caffemodel"
    short = field(7, field(1, bytes((4, 3, 11, 11)))) + field(5, bytes(4 * 1451))
    files = [field(100, field(1, b"conv1") + field(7, short)), b"<!DOCTYPE html>", b"\x80\x04\x95"]
    files.append(field(1, b"CaffeNet") + field(2, field(1, field(1, b"conv1"))))  # of V0
    for data in files:
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"net\.caffemodel: "):
            weights.load_weights(path, NETWORKS["CaffeNet"])


def test_means(tmp_path):
    bgr = np.random.default_rng(0).random((3, 5, 6)).astype(np.float32)
    (tmp_path / "mean.binaryproto").write_bytes(blob(bgr, "V1"))
    np.save(tmp_path / "caffe.npy", bgr.astype(np.float64))
    for name in ("mean.binaryproto", "caffe.npy"):
        mean = weights.load_mean(tmp_path / name)
        assert mean.dtype == np.float32
        np.testing.assert_array_equal(mean, np.stack([bgr[2], bgr[1], bgr[0]], -1))
    for rgb in (np.arange(90.0).reshape(5, 6, 3), np.array([1.0, 2.0, 3.0])):
        np.save(tmp_path / "ours.npy", rgb)
        np.testing.assert_array_equal(weights.load_mean(tmp_path / "ours.npy"), rgb)
    np.save(tmp_path / "no.npy", np.array([{}]))  # would be unpickled
    with pytest.raises(ValueError, match="pickle"):
        weights.load_mean(tmp_path / "no.npy")
