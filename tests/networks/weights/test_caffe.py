"""Caffe's files, written here byte by byte, against a forward pass in Caffe's own conventions."""

import functools
import struct
import warnings

import jax
import numpy as np
import pytest
from scipy.signal import correlate

from transfer_jax.networks import alexnet, caffenet, weights
from transfer_jax.networks.weights.caffe import read_caffemodel

WIDTHS = {"conv1": 4, "conv2": 6, "conv3": 4, "conv4": 6, "conv5": 4, "fc6": 8, "fc7": 7}
SIDE = 99  # leaves a map of 2 x 2 to fc6
GROUPS = {"conv2": 2, "conv4": 2, "conv5": 2}
BUILD = {
    name: functools.partial(build, 3, widths=WIDTHS, input_size=SIDE)
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
    dims = b"".join(map(varint, array.shape))
    if kind == "unpacked shape":
        return field(7, b"".join(field(1, size) for size in array.shape)) + data
    return data + field(7, field(1, dims))


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


def pooled(x):
    size = -(-(x.shape[1] - 3) // 2) + 1
    rows = [x[:, 2 * i : 2 * i + 3].max(axis=1) for i in range(size)]
    return np.stack(
        [np.stack(rows, 1)[:, :, 2 * j : 2 * j + 3].max(axis=2) for j in range(size)], 2
    )


def normalised(x):
    squares = np.pad(x**2, ((2, 2), (0, 0), (0, 0)))
    return x / (1 + 1e-4 / 5 * sum(squares[i : i + len(x)] for i in range(5))) ** 0.75


def caffe_logits(pixels, net):
    """Caffe's forward pass of one RGB image, channels first, blue before green before red."""
    x = pixels[:, :, ::-1].transpose(2, 0, 1) - np.array([104.0, 117.0, 123.0])[:, None, None]
    strides, paddings = {"conv1": 4}, {"conv1": 0, "conv2": 2}
    for name, (weight, bias) in arrays().items():
        if weight.ndim == 4:
            pad, groups = paddings.get(name, 1), GROUPS.get(name, 1)
            parts = np.split(np.pad(x, ((0, 0), (pad, pad), (pad, pad))), groups)
            filters = np.split(weight.astype(np.float64), groups)
            x = np.concatenate([
                [correlate(part, w, mode="valid", method="direct")[0] for w in ws]
                for part, ws in zip(parts, filters, strict=True)
            ])  # fmt: skip
            step = strides.get(name, 1)
            x = np.maximum(x[:, ::step, ::step] + bias[:, None, None], 0)
            if name in ("conv1", "conv2"):
                x = normalised(pooled(x)) if net == "CaffeNet" else pooled(normalised(x))
            x = pooled(x) if name == "conv5" else x
        else:
            x = weight.astype(np.float64) @ x.reshape(-1) + bias
            x = x if name == "fc8" else np.maximum(x, 0)
    return x


@functools.cache
def images():
    """Smooth images, whose squares matter to the normalisation."""
    coarse = np.random.default_rng(1).integers(0, 256, (2, 11, 11, 3))
    return coarse.repeat(9, axis=1).repeat(9, axis=2).astype(np.float32)


@pytest.mark.parametrize("net", ["CaffeNet", "AlexNet"])
def test_logits_are_caffes(tmp_path, net):
    network = BUILD[net]()
    path = tmp_path / "net.caffemodel"
    found = []
    for kind in ("V1", "current", "double", "unpacked shape"):
        path.write_bytes(caffemodel(arrays(), kind, net.encode()))
        loaded = weights.load_weights(path, network)
        assert loaded.format == "caffemodel" and loaded.mean is None
        assert weights.num_classes_in(path, network) == 3
        found.append(loaded.params)
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)
    x = images() - np.float32([123, 117, 104])
    ours = np.asarray(jax.jit(network.apply)(found[0], x))
    expected = np.array([caffe_logits(image, net) for image in images()])
    error = np.abs(ours - expected).max() / np.abs(expected).max()
    assert error < 1e-5 and np.ptp(expected, axis=0).min() > 0.01


def test_the_two_networks_differ_and_a_wrong_name_is_warned_of(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel(arrays(), "V1", b"AlexNet"))
    with pytest.warns(UserWarning, match=r"'AlexNet'.*'caffenet'") as caught:
        weights.load_weights(path, BUILD["CaffeNet"]())
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights.load_weights(path, BUILD["AlexNet"]())


def test_a_blob_in_several_pieces_is_their_concatenation(tmp_path):
    kernel, bias = arrays()["conv1"]
    data = kernel.astype("<f4").tobytes()
    pieces = field(7, field(1, bytes(kernel.shape))) + field(5, data[:400]) + field(5, data[400:])
    layer = field(1, b"conv1") + field(7, pieces) + field(7, blob(bias, "current"))
    path = tmp_path / "net.caffemodel"
    path.write_bytes(field(100, layer))
    content = read_caffemodel(path, BUILD["CaffeNet"]())
    np.testing.assert_array_equal(content.layers["conv1"]["kernel"].read(), kernel)


def written(tmp_path, changed=None, kind="V1", removed=()):
    kept = {name: blobs for name, blobs in arrays().items() if name not in removed}
    path = tmp_path / "net.caffemodel"
    path.write_bytes(caffemodel({**kept, **(changed or {})}, kind))
    return path


BIAS = np.zeros(6, np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(removed=["conv3"]), r"layer conv3 is missing.*'conv2', 'conv4'"),
        (
            dict(changed={"conv2": (np.zeros((6, 4, 5, 5)), BIAS)}),
            r"conv2: a kernel of shape \(5, 5, 2, 6\) expected .*found \(5, 5, 4, 6\)",
        ),
        (dict(changed={"conv2": (arrays()["conv2"][0],)}), "conv2: the bias is missing"),
        (
            dict(changed={"conv2": (arrays()["conv2"][0], np.zeros(5))}),
            r"conv2: a bias of shape \(6,\) expected, found \(5,\)",
        ),
        (
            dict(changed={"fc6": (np.zeros((8, 17)), np.zeros(8))}),
            r"fc6: a kernel of shape \(16, 8\) expected \(inputs, outputs\), found \(17, 8\)",
        ),
        (
            dict(changed={"fc8": (np.zeros((5, 7)), np.zeros(5))}),
            "fc8: the file holds 5 classes, the network has 3",
        ),
        (dict(changed={"fc9": arrays()["fc8"]}), r"no layers \['fc9'\]"),
        (dict(changed={"conv2": (*arrays()["conv2"], BIAS)}), "conv2: 3 blobs"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    for kind in ("V1", "current"):
        path = written(tmp_path, kind=kind, **change)
        with pytest.raises(ValueError, match=rf"net\.caffemodel: .*{message}"):
            weights.load_weights(path, BUILD["CaffeNet"]())


def test_blobs_with_fewer_numbers_than_their_shape(tmp_path):
    bad = field(7, field(1, bytes((4, 3, 11, 11)))) + field(5, bytes(4 * 1451))
    path = tmp_path / "net.caffemodel"
    path.write_bytes(field(100, field(1, b"conv1") + field(7, bad)))
    with pytest.raises(ValueError, match=r"conv1: its kernel.*\(4, 3, 11, 11\).*1451 numbers"):
        weights.load_weights(path, BUILD["CaffeNet"]())


def test_networks_of_v0_are_refused(tmp_path):
    path = tmp_path / "old.caffemodel"
    path.write_bytes(field(1, b"CaffeNet") + field(2, field(1, field(1, b"conv1"))))
    with pytest.raises(ValueError, match=r"V0.*upgrade_net_proto_binary"):
        weights.load_weights(path, BUILD["CaffeNet"]())


@pytest.mark.parametrize("kind", ["V1", "current"])
def test_files_cut_short(tmp_path, kind):
    data = caffemodel(arrays(), kind)
    path = tmp_path / "cut.caffemodel"
    for size in np.linspace(0, len(data) - 1, 30).astype(int):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.caffemodel: .*(damaged|missing|no layer)"):
            weights.load_weights(path, BUILD["CaffeNet"]())


def test_means(tmp_path):
    bgr = np.random.default_rng(0).random((3, 5, 6)).astype(np.float32)
    (tmp_path / "mean.binaryproto").write_bytes(blob(bgr, "V1"))
    np.save(tmp_path / "caffe.npy", bgr.astype(np.float64))
    for name in ("mean.binaryproto", "caffe.npy"):
        mean = weights.load_mean(tmp_path / name)
        assert mean.shape == (5, 6, 3) and mean.dtype == np.float32
        for channel in range(3):
            np.testing.assert_array_equal(mean[..., channel], bgr[2 - channel])
    for rgb in (np.arange(90.0).reshape(5, 6, 3), np.array([1.0, 2.0, 3.0])):
        np.save(tmp_path / "ours.npy", rgb)
        np.testing.assert_array_equal(weights.load_mean(tmp_path / "ours.npy"), rgb)


@pytest.mark.parametrize("array", [np.zeros((4, 5)), np.zeros((4, 5, 4)), np.array([{}])])
def test_no_means(tmp_path, array):
    np.save(tmp_path / "mean.npy", array)
    with pytest.raises(ValueError, match=r"mean\.npy: "):
        weights.load_mean(tmp_path / "mean.npy")
    (tmp_path / "mean.binaryproto").write_bytes(b"<html>")
    with pytest.raises(ValueError, match=r"mean\.binaryproto: damaged"):
        weights.load_mean(tmp_path / "mean.binaryproto")
