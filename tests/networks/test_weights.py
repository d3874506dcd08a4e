"""What is saved comes back bit for bit, and is what others expect of it."""

import functools
import hashlib
import importlib
import json

import jax
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from tests import small
from tests.networks import torch_alexnet
from transfer_jax.networks import Dense, Network, Relu, torchvision_alexnet, weights

SMALL = small.network(5)
ALEXNET = torchvision_alexnet(3, widths=torch_alexnet.WIDTHS)
IMAGES_IN = Network("dense", 4, (Dense("fc1", 6, then=(Relu(),)), Dense("fc2", 3)))
FORMATS = {"npz": "a.npz", "safetensors": "a.safetensors", "torch_safetensors": "b.safetensors"}
IMAGE = np.random.default_rng(1).random((8, 8, 3)).astype(np.float32)
MEANS = {"none": None, "channel": np.float32([120.1, 110.2, 100.3]), "image": IMAGE}


def random_params(network=SMALL):
    rng = np.random.default_rng(0)
    shapes = {n: {"kernel": s, "bias": s[-1:]} for n, s in network.kernel_shapes.items()}
    is_shape = {"is_leaf": lambda value: isinstance(value, tuple)}
    return jax.tree.map(lambda s: rng.normal(size=s).astype(np.float32) / 9, shapes, **is_shape)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("network", [SMALL, ALEXNET, IMAGES_IN], ids=lambda n: n.name)
def test_round_trips_are_exact(tmp_path, format, mean, network):
    params, path = random_params(network), tmp_path / FORMATS[format]
    weights.save_weights(path, network, params, mean=MEANS[mean], format=format)
    loaded = weights.load_weights(path, network)
    assert tuple(loaded.params) == network.layer_names
    assert loaded.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert small.same_bits(loaded.params, params)
    np.testing.assert_equal(loaded.mean, MEANS[mean])
    widths = {layer.name: layer.features for layer in network.layers}
    assert weights.widths_in(path, network) == widths
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


def test_what_torch_expects(tmp_path):
    path, params, mean = tmp_path / "b.safetensors", random_params(), IMAGE
    weights.save_weights(path, SMALL, params, mean=mean, format="torch_safetensors")
    tensors = safetensors.numpy.load_file(path)
    assert tensors["conv2.weight"][3, 1, 0, 2] == params["conv2"]["kernel"][0, 2, 1, 3]
    # Unit 9 of fc3 on map 2 at row 1, column 0 of the 2 x 2 maps of four.
    assert tensors["fc3.weight"][9, 2 * 4 + 1 * 2 + 0] == params["fc3"]["kernel"][1 * 8 + 2, 9]


def test_state_dicts_of_torchvision_in_safetensors(tmp_path):
    """The same fold of mean and std as of a pickled state dict, in any floating-point type."""
    from_pickle = weights.load_weights(torch_alexnet.FILES / "state_dict.pth", ALEXNET)
    path = tmp_path / "hub.safetensors"
    weights.save_weights(path, ALEXNET, from_pickle.params, format="torch_safetensors")
    tensors = safetensors.numpy.load_file(path)
    std = 255 * torch_alexnet.STD[:, None, None]
    tensors["features.0.weight"] = tensors["features.0.weight"] * std  # float64
    safetensors.numpy.save_file(tensors, path, {"format": "pt"})
    from_hub = weights.load_weights(path, ALEXNET)
    np.testing.assert_array_equal(from_hub.mean, from_pickle.mean)
    assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(assert_close, from_hub.params, from_pickle.params)


@pytest.mark.parametrize("normalised", [False, True])
def test_torch_loads_an_exported_file_and_gives_our_logits(tmp_path, normalised):
    torch = pytest.importorskip("torch")
    path, params = tmp_path / "b.safetensors", random_params(ALEXNET)
    options = {"mean": MEANS["channel"], "format": "torch_safetensors", "normalised": normalised}
    scaled = weights.scaled_input(params, ALEXNET, 1 / 60)
    weights.save_weights(path, ALEXNET, scaled, pixel_scale=1 / 60, **options)
    model = torch_alexnet.model()
    model.load_state_dict(importlib.import_module("safetensors.torch").load_file(path))
    with safetensors.safe_open(path, "pt") as file:
        mean, std = (np.array(json.loads(file.metadata()[name])) for name in ("mean", "std"))
    if normalised:
        np.testing.assert_array_equal(std, torch_alexnet.STD)
    pixels = torch_alexnet.images()
    x = torch.from_numpy(((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32))
    torchs = model(x).detach().numpy()
    ours = jax.jit(ALEXNET.apply)(params, pixels - MEANS["channel"])
    assert np.ptp(torchs, axis=0).min() > 0.01 * np.abs(torchs).max()
    assert np.abs(ours - torchs).max() < 1e-5 * np.abs(torchs).max()
    back = weights.load_weights(path, ALEXNET)
    np.testing.assert_array_equal(back.mean, MEANS["channel"])
    assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-6)
    jax.tree.map(assert_close, back.params, params)


def test_a_scaled_input_needs_a_scaled_first_kernel():
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32) * 50
    params, apply = random_params(), jax.jit(SMALL.apply)
    scaled = weights.scaled_input(params, SMALL, 1 / 60)
    np.testing.assert_allclose(
        apply(scaled, x / np.float32(60)), apply(params, x), rtol=2e-4, atol=1e-3
    )
    assert small.same_bits(weights.scaled_input(params, SMALL, 1), params)


def test_params_that_do_not_fit_are_not_saved(tmp_path):
    params = random_params()
    for odd in ({"fc3": {}}, {"fc9": params["fc3"]}, {"conv1": params["conv2"]}):
        with pytest.raises(ValueError, match=f"layer {next(iter(odd))}"):
            weights.save_weights(tmp_path / "a.npz", SMALL, params | odd)
    assert not list(tmp_path.iterdir())


def test_objects_in_an_npz_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", **{"conv1/kernel": np.array([{}])})
    with pytest.raises(ValueError, match="pickle"):
        weights.load_weights(tmp_path / "a.npz", SMALL)


def test_the_program_converts_a_file(tmp_path):
    source, target = torch_alexnet.FILES / "checkpoint.pth.tar", tmp_path / "out.npz"
    weights.main([str(source), str(target), "--network=torchvision_alexnet"])
    before, after = (weights.load_weights(path, ALEXNET) for path in (source, target))
    assert small.same_bits(before.params, after.params)
    np.testing.assert_array_equal(before.mean, after.mean)
    with pytest.raises(SystemExit, match=r"ValueError: .*layer conv4"):
        weights.main([str(source), str(target), "--network=alexnet"])
