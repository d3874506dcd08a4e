"""What is saved comes back bit for bit, says what it is, and is what others expect of it."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from tests import small
from tests.networks.weights import torch_alexnet
from transfer_jax.networks import Dense, Network, Relu, torchvision_alexnet, weights
from transfer_jax.networks.weights.__main__ import main

NETWORK = small.network(5)
FORMATS = {"npz": "a.npz", "safetensors": "a.safetensors", "torch_safetensors": "b.safetensors"}
MEANS = {
    "none": None,
    "channel": np.float32([120.1, 110.2, 100.3]),
    "image": np.random.default_rng(1).random((8, 8, 3)).astype(np.float32),
}


def random_params(network=NETWORK, seed=0):
    params = jax.tree.map(np.asarray, network.init(jax.random.key(seed)))
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: a + rng.normal(size=a.shape).astype(np.float32) / 9, params)


PARAMS = random_params()
ALEXNET = torchvision_alexnet(3, widths=torch_alexnet.WIDTHS)
IMAGES_IN = Network("dense", 4, (Dense("fc1", 6, then=(Relu(),)), Dense("fc2", 3)))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("network", [NETWORK, ALEXNET, IMAGES_IN], ids=lambda n: n.name)
def test_round_trips_are_exact(tmp_path, format, mean, network):
    params, path = random_params(network), tmp_path / FORMATS[format]
    weights.save_weights(path, network, params, mean=MEANS[mean], format=format)
    loaded = weights.load_weights(path, network)
    assert loaded.format == format
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert tuple(loaded.params) == network.layer_names
    assert small.same_bits(loaded.params, params)
    if MEANS[mean] is None:
        assert loaded.mean is None
    else:
        np.testing.assert_array_equal(loaded.mean, MEANS[mean])
    assert weights.num_classes_in(path, network) == network.num_classes
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_the_suffix_is_a_default_and_the_content_tells(tmp_path):
    for name in ("a.npz", "a.safetensors"):
        weights.save_weights(tmp_path / name, NETWORK, PARAMS)
        (tmp_path / name).rename(tmp_path / "x.bin")
        assert weights.load_weights(tmp_path / "x.bin", NETWORK).format == name.split(".")[1]
    with pytest.raises(ValueError, match=r"x\.bin: format None is unknown.*npz"):
        weights.save_weights(tmp_path / "x.bin", NETWORK, PARAMS)
    with pytest.raises(ValueError, match=r"'onnx' is unknown.*caffemodel"):
        weights.load_weights(tmp_path / "x.bin", NETWORK, format="onnx")
    with pytest.raises(ValueError, match=r"x\.bin: damaged"):
        weights.load_weights(tmp_path / "x.bin", NETWORK, format="npz")


def test_what_the_files_hold(tmp_path):
    weights.save_weights(tmp_path / "a.npz", NETWORK, PARAMS, mean=MEANS["channel"])
    with np.load(tmp_path / "a.npz", allow_pickle=False) as arrays:
        assert arrays["network"] == "small"
        np.testing.assert_array_equal(arrays["conv2/kernel"], PARAMS["conv2"]["kernel"])
    path = tmp_path / "b.safetensors"
    mean = MEANS["image"]
    weights.save_weights(path, NETWORK, PARAMS, mean=mean, format="torch_safetensors")
    tensors = safetensors.numpy.load_file(path)
    np.testing.assert_array_equal(tensors["mean"][1], mean[:, :, 1])
    kernel = PARAMS["conv2"]["kernel"]
    assert tensors["conv2.weight"][3, 1, 0, 2] == kernel[0, 2, 1, 3]
    # Unit 9 of fc3 on map 2 at row 1, column 0 of the 2 x 2 maps of four.
    assert NETWORK.output_shapes["conv2"] == (2, 2, 4)
    assert tensors["fc3.weight"][9, 2 * 4 + 1 * 2 + 0] == PARAMS["fc3"]["kernel"][1 * 8 + 2, 9]
    with safetensors.safe_open(path, "numpy") as file:
        assert file.metadata()["network"] == "small"
    weights.save_weights(path, ALEXNET, random_params(ALEXNET), format="torch_safetensors")
    names = safetensors.numpy.load_file(path)
    assert len(names) == 16 and names["classifier.1.weight"].shape == (8, 108)


def test_state_dicts_of_torchvision_in_safetensors(tmp_path):
    """The same fold of mean and std as of a pickled state dict, in any floating-point type."""
    source = torch_alexnet.FILES / "state_dict.pth"
    from_pickle = weights.load_weights(source, ALEXNET)
    path = tmp_path / "hub.safetensors"
    weights.save_weights(path, ALEXNET, from_pickle.params, format="torch_safetensors")
    tensors = safetensors.numpy.load_file(path)
    std = 255 * np.array([0.229, 0.224, 0.225])[:, None, None]
    tensors["features.0.weight"] = tensors["features.0.weight"] * std  # float64
    safetensors.numpy.save_file(tensors, path, {"format": "pt"})
    from_hub = weights.load_weights(path, ALEXNET)
    np.testing.assert_array_equal(from_hub.mean, from_pickle.mean)
    for ours, theirs in zip(
        jax.tree.leaves(from_hub.params), jax.tree.leaves(from_pickle.params), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("scale", [1 / 60, 0.25, 1.0])
def test_a_scaled_input_needs_a_scaled_first_kernel(scale):
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32) * 50
    scaled = weights.scaled_input(PARAMS, NETWORK, scale)
    np.testing.assert_allclose(
        NETWORK.apply(scaled, x * np.float32(scale)), NETWORK.apply(PARAMS, x), rtol=2e-4, atol=1e-3
    )
    assert scaled["conv2"] is PARAMS["conv2"] and scaled["conv1"]["kernel"].dtype == np.float32
    if scale == 1:
        assert small.same_bits(scaled, PARAMS)
    with pytest.raises(ValueError, match="pixel_scale is 0"):
        weights.scaled_input(PARAMS, NETWORK, 0)


def test_a_file_of_another_network_or_class_count(tmp_path):
    path = tmp_path / "a.npz"
    weights.save_weights(path, NETWORK, PARAMS)
    with pytest.raises(ValueError, match="'small', 'other' was expected"):
        weights.load_weights(path, dataclasses.replace(NETWORK, name="other"))
    with pytest.raises(ValueError, match="fc4: the file holds 5 classes, the network has 7"):
        weights.load_weights(path, small.network(7))
    assert weights.num_classes_in(path, small.network(7)) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("fc3"), "layer fc3 is missing"),
        (lambda p: p.update(fc9=p["fc3"]), "fc9"),
        (lambda p: p["conv1"].pop("bias"), "conv1: the bias is missing"),
        (lambda p: p["conv1"].update(kernel=np.zeros((3, 3, 3, 5))), r"conv1.*\(3, 3, 3, 4\)"),
    ],
)
def test_params_that_do_not_fit_are_not_saved(tmp_path, change, message):
    params = {name: dict(layer) for name, layer in PARAMS.items()}
    change(params)
    with pytest.raises(ValueError, match=message):
        weights.save_weights(tmp_path / "a.npz", NETWORK, params)
    with pytest.raises(ValueError, match=r"mean of shape \(4,\)"):
        weights.save_weights(tmp_path / "a.npz", NETWORK, PARAMS, mean=np.zeros(4))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format", FORMATS)
def test_files_cut_short(tmp_path, format):
    path = tmp_path / "cut"
    weights.save_weights(path, NETWORK, PARAMS, format=format)
    data = path.read_bytes()
    for size in np.linspace(0, len(data) - 1, 20).astype(int):
        path.write_bytes(data[:size])
        with pytest.raises(ValueError, match="cut: "):
            weights.load_weights(path, NETWORK)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><html>", "HTML"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b'{"conv1": 1}', "JSON"),
        (b"\x80\x04\x95\x02", "pickle"),
        (b"\x1f\x8b\x08", "gzip"),
        (b"\x93NUMPY\x01\0", "NumPy"),
    ],
)
def test_other_files_are_called_what_they_are(tmp_path, content, message):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=f"file: .*{message}.*expected one of the formats"):
        weights.load_weights(tmp_path / "file", NETWORK)


def test_objects_in_an_npz_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", **{"conv1/kernel": np.array([{}])})
    with pytest.raises(ValueError, match=r"a\.npz: damaged or no \.npz of numbers.*pickle"):
        weights.load_weights(tmp_path / "a.npz", NETWORK)
    with pytest.raises(FileNotFoundError):
        weights.load_weights(tmp_path / "none.npz", NETWORK)


def test_another_order_of_layers_in_the_header_changes_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    weights.save_weights(path, NETWORK, PARAMS)
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    text = json.dumps(dict(reversed(header.items()))).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    assert small.same_bits(weights.load_weights(path, NETWORK).params, PARAMS)


def test_export_loads_in_torch(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    nn = torch.nn
    path = tmp_path / "a.safetensors"
    weights.save_weights(path, NETWORK, PARAMS, mean=MEANS["channel"], format="torch_safetensors")
    state = safetensors_torch.load_file(path)
    mean = state.pop("mean")
    layers = {
        "conv1": nn.Conv2d(3, 4, 3, padding=1),
        "relu1": nn.ReLU(),
        "pool1": nn.MaxPool2d(3, 2, ceil_mode=True),
        "norm1": nn.LocalResponseNorm(5, 1e-4, 0.75, 1.0),
        "conv2": nn.Conv2d(4, 4, 3, padding=1, groups=2),
        "relu2": nn.ReLU(),
        "pool2": nn.MaxPool2d(3, 2, ceil_mode=True),
        "flat": nn.Flatten(),
        "fc3": nn.Linear(16, 16),
        "relu3": nn.ReLU(),
        "fc4": nn.Linear(16, 5),
    }
    model = nn.Sequential()
    for name, layer in layers.items():
        model.add_module(name, layer)
    model.load_state_dict(state)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3)).astype(np.float32)
    with torch.no_grad():
        theirs = model(torch.from_numpy(pixels).permute(0, 3, 1, 2) - mean).numpy()
    ours = NETWORK.apply(PARAMS, pixels - MEANS["channel"])
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * np.abs(theirs).max())


def test_the_program_converts_a_file(tmp_path, capsys, monkeypatch):
    from transfer_jax.networks import architectures

    build = architectures.BUILT_IN["torchvision_alexnet"]
    monkeypatch.setitem(
        architectures.BUILT_IN,
        "torchvision_alexnet",
        lambda **arguments: build(widths=torch_alexnet.WIDTHS, **arguments),
    )
    source, target = torch_alexnet.FILES / "checkpoint.pth.tar", tmp_path / "out.npz"
    main([str(source), str(target), "--network=torchvision_alexnet"])
    said = capsys.readouterr().out
    assert "3 classes" in said and hashlib.sha256(source.read_bytes()).hexdigest() in said
    before, after = (weights.load_weights(path, ALEXNET) for path in (source, target))
    assert small.same_bits(before.params, after.params)
    np.testing.assert_array_equal(before.mean, after.mean)
    with pytest.raises(SystemExit, match=r"ValueError: .*layer conv1.*96"):
        main([str(source), str(target), "--network=alexnet"])
