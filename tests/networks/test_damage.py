"""An adversary who damages weights: none are other weights without a word, and none take memory.

Where a file has checksums, damage is refused or without effect. Where it has none (Caffe's, torch's
before 1.6, other people's safetensors), the digest tells that it is another file.
"""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from tests import small
from tests.networks.test_caffe import NETWORKS, arrays, blob, caffemodel, field
from tests.networks.test_torch_file import (
    CHECKPOINT,
    NETWORK,
    STATE_DICT,
    pickled,
    reference,
    tensor,
    torch_zip,
)
from tests.networks.test_weights import ALEXNET, random_params
from transfer_jax.networks import files, weights

CAFFE = NETWORKS["CaffeNet"]


def write(kind, path):
    """A file of weights of a kind."""
    if kind in ("npz", "safetensors", "torch_safetensors"):
        params = random_params(ALEXNET)
        weights.save_weights(path, ALEXNET, params, mean=np.float32([9, 8, 7]), format=kind)
    elif kind == "caffemodel":
        path.write_bytes(caffemodel(arrays(), "V1"))
    elif kind == "foreign safetensors":
        write("torch_safetensors", path)
        tensors = safetensors.numpy.load_file(path)
        safetensors.numpy.save_file(tensors, path, {"format": "pt"})
    else:
        path.write_bytes((STATE_DICT if kind == "torch zip" else CHECKPOINT).read_bytes())
    return CAFFE if kind == "caffemodel" else NETWORK if kind.startswith("torch ") else ALEXNET


SEALED = ("npz", "safetensors", "torch_safetensors", "torch zip")
KINDS = (*SEALED, "caffemodel", "foreign safetensors", "torch legacy")


def flipped(content, place):
    place = int(place * (len(content) - 1))
    return content[:place] + bytes([content[place] ^ 16]) + content[place + 1 :]


DAMAGES = {
    **{f"bit flipped at {p:.2f}": lambda c, p=p: flipped(c, p) for p in np.linspace(0, 1, 9)},
    **{f"cut at {p:.2f}": lambda c, p=p: c[: int(p * (len(c) - 1))] for p in np.linspace(0, 1, 20)},
    "deleted": lambda c: None,
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files(tmp_path, kind):
    path = tmp_path / "net"
    network = write(kind, path)
    whole, before = path.read_bytes(), weights.load_weights(path, network)
    for what, damage in DAMAGES.items():
        path.unlink()
        content = damage(whole)
        if content is not None:
            path.write_bytes(content)
        try:
            after = weights.load_weights(path, network)
        except (ValueError, OSError) as error:
            assert str(path) in str(error) and "\n" not in str(error), (what, error)
            continue
        assert "flipped" in what and after.digest != before.digest, what
        if kind in SEALED:
            assert small.same_bits(before.params, after.params), what
            np.testing.assert_array_equal(before.mean, after.mean, what)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "torch_safetensors"])
def test_numbers_in_another_order(tmp_path, kind):
    """The container is whole, and the shapes are right."""
    path = tmp_path / "net"
    write(kind, path)
    if kind == "npz":
        with np.load(path) as file:
            named = {key: array[::-1] if array.ndim else array for key, array in file.items()}
        with path.open("wb") as file:
            np.savez(file, **named)
    else:
        with safetensors.safe_open(path, "numpy") as file:
            about, named = file.metadata(), {key: file.get_tensor(key)[::-1] for key in file.keys()}
        named = {key: np.ascontiguousarray(array) for key, array in named.items()}
        safetensors.numpy.save_file(named, path, about)
    with pytest.raises(ValueError, match=r"net: .*numbers are not those that were written"):
        weights.load_weights(path, ALEXNET)


ODD = {
    "nan": np.float32(np.nan),
    "inf": np.float32(np.inf),
    "too large": np.float64(1e300),
    "int8": np.int8(3),
    "complex": np.complex64(1j),
    "text": np.array("1.5"),
}


@pytest.mark.parametrize("odd", ODD)
def test_what_is_no_number(tmp_path, odd):
    params = random_params(ALEXNET)
    named = {f"{name}/{k}": a for name, layer in params.items() for k, a in layer.items()}
    named["conv2/kernel"] = np.full(ALEXNET.kernel_shapes["conv2"], ODD[odd])
    np.savez(tmp_path / "net.npz", **named)
    with pytest.raises(ValueError, match=r"net.npz: layer conv2: kernel holds .*, finite floating"):
        weights.load_weights(tmp_path / "net.npz", ALEXNET)


@pytest.mark.parametrize(
    "mean", [[np.nan, 1, 1], [-1, 1, 1], [300, 1, 1], [1, 1], np.array(["a", "b", "c"]), []]
)
def test_means_that_are_none(tmp_path, mean):
    np.save(tmp_path / "mean.npy", np.array(mean))
    with pytest.raises(ValueError, match=r"mean.npy: a mean of"):
        weights.load_mean(tmp_path / "mean.npy")


def test_means_that_are_damaged(tmp_path):
    path = tmp_path / "mean"
    image = np.random.default_rng(0).random((3, 5, 6)).astype(np.float32)
    np.save(path.with_suffix(".npy"), image)
    for whole in (blob(image, "V1"), path.with_suffix(".npy").read_bytes()):
        for damaged in (b"", whole[:9], whole[:100], whole[:-3]):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=f"{path}: "):
                weights.load_mean(path)


def npy(shape):
    """The head of an .npy file whose numbers are missing."""
    file = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, about)
    return file.getvalue() + bytes(400)


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def torch_of(path, length, size, stride):
    value = {"classifier.1.weight": tensor(reference("FloatStorage", "0", length), 0, size, stride)}
    torch_zip(path, value, [("0", np.zeros(ROWS[1], np.float32))])


def caffe_layer(blob):
    return field(100, field(1, b"conv1") + field(7, blob))


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


BIG = 40 * 10**6
ROWS = (10**6, ALEXNET.kernel_shapes["fc6"][0])  # of a tensor that repeats one row
MEMO = b"\x80\x02}r\x00\x00\x00\x04."  # an empty dictionary at place 2**26 of the memo
LONG = b"\x80\x04\x8e" + (2**40).to_bytes(8, "little") + b"x."  # bytes of 1 TB
BOMBS = {
    "npz that unpacks": lambda p: zipped(p, {"a.npy": bytes(BIG)}),
    "npz that declares": lambda p: zipped(p, {"conv1/kernel.npy": npy((10**12,))}),
    "npz that declares none": lambda p: zipped(p, {"conv1/kernel.npy": npy((0, 10**30))}),
    "pickle that unpacks": lambda p: zipped(p, {"a/data.pkl": bytes(BIG)}),
    "pickle with a high place": lambda p: zipped(p, {"a/data.pkl": MEMO}),
    "pickle with long bytes": lambda p: zipped(p, {"a/data.pkl": LONG}),
    "storage that unpacks": lambda p: zipped(
        p, {"a/data.pkl": pickled({}), "a/data/0": bytes(BIG)}
    ),
    "tensor that declares": lambda p: torch_of(p, 10**12, (10**12,), (1,)),
    "tensor of one row": lambda p: torch_of(p, ROWS[1], ROWS, (0, 1)),
    "safetensors' head": lambda p: p.write_bytes((10**12).to_bytes(8, "little") + b"{"),
    "safetensors that declares": lambda p: p.write_bytes(
        (75).to_bytes(8, "little")
        + b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'.ljust(75)
    ),
    "caffemodel that declares": lambda p: p.write_bytes(
        caffe_layer(field(7, field(1, b"\xff" * 8 + b"\x7f")))
    ),
    "caffemodel of less than none": lambda p: p.write_bytes(
        caffe_layer(field(7, field(1, b"\xff" * 9 + b"\x01")) + field(5, bytes(8)))
    ),
    "caffemodel that is large": lambda p: p.write_bytes(bytes(BIG)),
    "safetensors that is large": lambda p: p.write_bytes(b"\x02" + bytes(7) + b"{}" + bytes(BIG)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_what_unpacks_to_or_declares_too_much(tmp_path, monkeypatch, traced, name):
    monkeypatch.setattr(files, "MOST_BYTES", 10**6)
    BOMBS[name](tmp_path / "net")
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    with pytest.raises(ValueError, match=f"{tmp_path / 'net'}: ") as error:
        weights.load_weights(tmp_path / "net", ALEXNET)
    assert tracemalloc.get_traced_memory()[1] - before < 10**7
    assert "\n" not in str(error.value)
