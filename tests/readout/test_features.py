import itertools

import jax
import numpy as np
import pytest

from tests import small
from transfer_jax.data.augment import Augmentation, eval_view
from transfer_jax.readout.features import features, map_batches

NETWORK = small.network(dropout=0.5)
PARAMS = NETWORK.init(jax.random.key(0))
MEAN = np.array([120.0, 110.0, 100.0], np.float32)
VIEW = dict(augmentation=Augmentation(8, pad=1), mean=MEAN, scale=1 / 60)
LAYERS = ("conv1", "conv2", "fc3", "fc4")


class Pictures:
    """A dataset of random images that counts what is read from it."""

    name = "pictures/1"

    def __init__(self):
        self.pixels = small.source(23, 2, size=9).images
        self.reads = []

    def images(self, split, indices):
        self.reads.append((split, tuple(indices)))
        return self.pixels[indices]


def expected(params, pixels):
    x = eval_view(pixels, VIEW["augmentation"], MEAN, 1 / 60)
    return {k: np.asarray(v).reshape(len(x), -1) for k, v in NETWORK.activations(params, x).items()}


def read(directory, pictures=None, params=PARAMS, indices=range(23), layers=LAYERS, **changes):
    options = {**VIEW, "cache_dir": directory, "batch_size": 8, **changes}
    return features(NETWORK, params, pictures or Pictures(), "train", indices, layers, **options)


@pytest.mark.parametrize("cached", [True, False])
def test_features_are_the_flattened_activations_of_the_centre_crop(tmp_path, cached):
    pictures, order = Pictures(), np.random.default_rng(0).permutation(23)[:21]
    found = read(tmp_path if cached else None, pictures, indices=order, layers=LAYERS[::-1])
    wanted = expected(PARAMS, pictures.pixels[order])
    assert tuple(found) == LAYERS[::-1]
    for name in LAYERS:
        assert found[name].dtype == np.float32
        assert found[name].shape == (21, np.prod(NETWORK.output_shapes[name]))
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-5)
    # Two batches of eight images and one of five: every image is read once.
    assert [len(indices) for _, indices in pictures.reads] == [8, 8, 5]


def test_what_was_computed_is_read_and_only_the_missing_is_computed(tmp_path):
    pictures = Pictures()
    first = read(tmp_path, pictures, layers=("conv1", "fc3"))
    reads = len(pictures.reads)
    again = read(tmp_path, pictures, layers=("fc3", "conv1"))
    assert len(pictures.reads) == reads
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert isinstance(again["fc3"], np.memmap) and not again["fc3"].flags.writeable
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    whole = read(tmp_path, pictures)
    assert len(pictures.reads) == 2 * reads
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    np.testing.assert_allclose(
        whole["conv2"], expected(PARAMS, pictures.pixels)["conv2"], atol=1e-5
    )


def test_whatever_decides_the_features_is_in_the_key(tmp_path):
    other = NETWORK.init(jax.random.key(1))
    renamed = Pictures()
    renamed.name = "pictures/2"
    calls = [
        {},
        {"params": {**PARAMS, "conv2": other["conv2"]}},
        {"indices": range(22, -1, -1)},
        {"pictures": renamed},
        {"mean": MEAN + 1},
        {"mean": np.zeros((9, 9, 3))},
        {"scale": 1 / 50},
        {"augmentation": Augmentation(8, pad=2)},
    ]
    for count, call in enumerate(calls, start=1):
        read(tmp_path, layers=("conv2",), **call)
        assert len(list(tmp_path.iterdir())) == count, call
    changed = read(tmp_path, params={**PARAMS, "conv2": other["conv2"]}, layers=("conv2",))
    assert not np.array_equal(changed["conv2"], read(tmp_path, layers=("conv2",))["conv2"])


def test_layers_above_do_not_count_so_networks_share_what_they_share(tmp_path):
    read(tmp_path, layers=("conv1", "conv2"))
    pictures = Pictures()
    lower = {name: PARAMS[name] for name in ("conv1", "conv2")}
    others = {**NETWORK.init(jax.random.key(1)), **lower}
    for params in (lower, others, jax.tree.map(np.asarray, PARAMS)):
        read(tmp_path, pictures, params=params, layers=("conv2",))
    wider = small.network(num_classes=7, dropout=0.1)
    features(wider, lower, pictures, "train", range(23), ("conv2",), **VIEW, cache_dir=tmp_path)
    assert not pictures.reads


def test_a_cut_off_computation_leaves_nothing_behind(tmp_path):
    pictures = Pictures()
    whole = pictures.images
    pictures.images = lambda split, indices: whole(split, indices) if 0 in indices else 1 / 0
    with pytest.raises(ZeroDivisionError):
        read(tmp_path, pictures)
    assert not list(tmp_path.iterdir())
    read(tmp_path)
    assert len(list(tmp_path.iterdir())) == len(LAYERS)


def test_a_damaged_file_is_computed_again(tmp_path):
    wanted = np.array(read(tmp_path, layers=("conv1",))["conv1"])
    (file,) = tmp_path.iterdir()
    for damage in (file.read_bytes()[:200], b"", file.read_bytes()[:-4]):
        file.write_bytes(damage)
        assert np.array_equal(read(tmp_path, layers=("conv1",))["conv1"], wanted)


def test_batches_are_of_one_size_and_cut_to_the_images():
    sizes = []

    def run(images):
        sizes.append(len(images))
        return images.sum(axis=(1, 2, 3), dtype=np.int32)

    pictures = Pictures()
    for count, batch in itertools.product((1, 7, 8, 9, 23), (4, 8)):
        sizes.clear()
        sums = np.concatenate(list(map_batches(run, pictures, "train", np.arange(count), batch)))
        assert np.array_equal(sums, pictures.pixels[:count].sum(axis=(1, 2, 3)))
        assert len(set(sizes)) == 1


@pytest.mark.parametrize(
    "message, changes",
    [
        ("0 indices and 4 layers", {"indices": []}),
        ("23 indices and 0 layers", {"layers": ()}),
        ("'conv9' is not a layer", {"layers": ("conv9",)}),
        ("params hold no layer 'conv2'", {"params": {"conv1": PARAMS["conv1"]}}),
        ("augmentation.size=9", {"augmentation": Augmentation(9)}),
        ("batch_size=0", {"batch_size": 0}),
    ],
)
def test_bad_arguments_are_named_before_an_image_is_read(tmp_path, message, changes):
    pictures = Pictures()
    with pytest.raises(ValueError, match=message):
        read(tmp_path, pictures, **changes)
    assert not pictures.reads
