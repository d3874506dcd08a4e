"""Files that torch wrote: the same logits as torch's, and nothing in them is run."""

import collections
import io
import pickle
import struct
import zipfile

import jax
import numpy as np
import pytest

from tests.networks.weights import torch_alexnet
from tests.networks.weights.torch_alexnet import CLASSES, FILES, WIDTHS
from transfer_jax.networks import torchvision_alexnet, weights
from transfer_jax.networks.weights.torch_files import read_torch

NETWORK = torchvision_alexnet(CLASSES, widths=WIDTHS)
STATE_DICT, CHECKPOINT = FILES / "state_dict.pth", FILES / "checkpoint.pth.tar"
apply = jax.jit(NETWORK.apply)


def close(ours, theirs):
    return np.abs(ours - theirs).max() < 1e-5 * np.abs(theirs).max()


@pytest.mark.parametrize("path", [STATE_DICT, CHECKPOINT], ids=["zip", "legacy checkpoint"])
def test_logits_are_torchs(path):
    loaded = weights.load_weights(path, NETWORK)
    assert loaded.format == "torch" and weights.num_classes_in(path, NETWORK) == CLASSES
    x = torch_alexnet.images().astype(np.float32) - loaded.mean
    expected = np.load(FILES / "logits.npy")
    assert np.ptp(expected, axis=0).min() > 0.01 * np.abs(expected).max()
    assert close(apply(loaded.params, x), expected)
    np.testing.assert_allclose(loaded.mean, [123.675, 116.28, 103.53], rtol=1e-6)


def test_both_files_hold_the_same_bits():
    one, other = (weights.load_weights(p, NETWORK).params for p in (STATE_DICT, CHECKPOINT))
    jax.tree.map(np.testing.assert_array_equal, one, other)


class Global:
    """Pickles as a name; called, it pickles as the call of that name."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *arguments):
        return Call(self, arguments)


class Call:
    def __init__(self, function, arguments, state=None):
        self.parts = (function, arguments, *([state] if state is not None else []))

    def __reduce__(self):
        return self.parts


class StorageReference:
    def __init__(self, *pid):
        self.pid = pid


class Pickler(pickle._Pickler):
    """Writes names without importing what they name, as only a forger or torch would."""

    def persistent_id(self, value):
        return value.pid if isinstance(value, StorageReference) else None

    def save_global(self, value, name=None):
        self.write(f"c{value.module}\n{value.name}\n".encode())

    dispatch = pickle._Pickler.dispatch | {Global: save_global}

    def save_reduce(self, func, args, state=None, *rest, obj=None):
        self.save(func)
        self.save(args)
        self.write(pickle.NEWOBJ if func.name == "Parameter" else pickle.REDUCE)
        if state is not None:
            self.save(state)
            self.write(pickle.BUILD)


def pickled(value):
    file = io.BytesIO()
    Pickler(file, 2).dump(value)
    return file.getvalue()


def torch_zip(path, value, storages=()):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(value))
        for key, array in storages:
            archive.writestr(f"archive/data/{key}", array.tobytes())
    return path


def torch_legacy(path, value, storages=()):
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = [0x1950A86A20F9469CFC6C, 1001, system]
    data = b"".join(map(pickled, [*head, value, [key for key, _ in storages]]))
    for _, array in storages:
        data += struct.pack("<q", array.size) + array.tobytes()
    path.write_bytes(data)
    return path


WRITERS = [torch_zip, torch_legacy]


def reference(kind, key, length, module="torch", view=()):
    return StorageReference("storage", Global(module, kind), key, "cuda:0", length, *view)


def tensor_without_arguments():
    return Global("torch._utils", "_rebuild_tensor_v2")()


def tensor(storage, *geometry, rebuild="_rebuild_tensor_v2"):
    rest = () if rebuild == "_rebuild_tensor" else (False, {})
    return Global("torch._utils", rebuild)(storage, *geometry, *rest)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("os", "system", ("touch {}",)),
        ("posix", "system", ("touch {}",)),
        ("builtins", "eval", ("__import__('os').system('touch {}')",)),
        ("builtins", "getattr", (1, "real")),
        ("torch", "load", ("{}",)),
        ("torch._utils", "os.system", ("touch {}",)),
        ("torchvision.models.alexnet", "AlexNet", ()),
        ("argparse", "Namespace", ()),
    ],
)
def test_whatever_is_no_tensor_is_refused_by_name(tmp_path, write, module, name, arguments):
    trace = tmp_path / "trace"
    arguments = tuple(a.format(trace) if isinstance(a, str) else a for a in arguments)
    path = write(tmp_path / "evil.pth", {"state_dict": Global(module, name)(*arguments)})
    with pytest.raises(ValueError, match=rf"evil\.pth: refused.*{module}\.{name}"):
        weights.load_weights(path, NETWORK)
    assert not trace.exists()


def test_the_forged_file_would_have_done_harm(tmp_path):
    """The test above would not notice a file that does nothing anywhere."""
    trace = tmp_path / "trace"
    pickle.loads(pickled(Global("os", "system")(f"touch {trace}")))
    assert trace.exists()


def test_state_set_on_what_is_admitted_stays_in_its_file(tmp_path):
    # BUILD gives the function (not its result) another default for every argument.
    altered = b"}X\x0c\x00\x00\x00__defaults__(K\x01K\x02K\x03K\x04ts"
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N" + altered + b"tb)R."
    with zipfile.ZipFile(tmp_path / "odd.pth", "w") as archive:
        archive.writestr("archive/data.pkl", data)
    with pytest.raises(ValueError, match="no state dict but an object of type _Tensor"):
        read_torch(tmp_path / "odd.pth")
    with pytest.raises(ValueError, match="damaged"):
        read_torch(torch_zip(tmp_path / "no_arguments.pth", tensor_without_arguments()))
    assert read_torch(STATE_DICT)["features.0.weight"].shape == (4, 3, 11, 11)


@pytest.mark.parametrize("write", WRITERS)
def test_strides_offsets_types_and_old_constructors(tmp_path, write):
    numbers = np.arange(24, dtype=np.float64)
    half, brain = np.arange(6).astype(np.float16), np.float32([1.5, -2]).view(np.uint16)[1::2]
    path = write(
        tmp_path / "any.pth",
        {
            "a": tensor(reference("DoubleStorage", "7", 24), 2, (3, 2), (1, 4)),
            "b": Call(
                Global("torch.nn.parameter", "Parameter"),
                (tensor(reference("HalfStorage", "8", 6), 0, (6,), (1,)),),
                (True, False, None),
            ),
            "c": tensor(
                reference("BFloat16Storage", "9", 2, "torch.cuda"),
                0, (2,), (1,), rebuild="_rebuild_tensor",
            ),
            "epoch": 3,
        },
        [("7", numbers), ("8", half), ("9", brain)],
    )  # fmt: skip
    found = {key: stored.read() for key, stored in read_torch(path).items()}
    assert {key: array.dtype for key, array in found.items()} == dict.fromkeys("abc", np.float32)
    np.testing.assert_array_equal(found["a"], [[2, 6], [3, 7], [4, 8]])
    np.testing.assert_array_equal(found["b"], range(6))
    np.testing.assert_array_equal(found["c"], [1.5, -2])


def test_old_views_of_a_storage(tmp_path):
    storage = reference("FloatStorage", "1", 3, view=(("v", 2, 3),))
    value = {"a": tensor(storage, 0, (3,), (1,))}
    # The file gives the length of the whole storage, its reference that of the view.
    path = torch_legacy(tmp_path / "view.pth", value, [("1", np.arange(9, dtype=np.float32))])
    np.testing.assert_array_equal(read_torch(path)["a"].read(), [2, 3, 4])


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        ((0, (5,), (1,)), "size"),
        ((3, (2,), (1,)), "size"),
        ((-1, (2,), (1,)), "size"),
        ((0, (2, 2), (1,)), "size"),
        ((0, (2,), (-1,)), "size"),
        ((0, "ab", (1, 1)), "size"),
    ],
)
def test_tensors_that_reach_beyond_their_numbers_are_damaged(tmp_path, geometry, message):
    value = {"a": tensor(reference("FloatStorage", "0", 4), *geometry)}
    path = torch_zip(tmp_path / "bad.pth", value, [("0", np.zeros(4, np.float32))])
    with pytest.raises(ValueError, match=rf"bad\.pth: a: .*{message}"):
        read_torch(path)


def test_numbers_that_are_no_weights(tmp_path):
    value = {"a": tensor(reference("LongStorage", "0", 4), 0, (4,), (1,))}
    path = torch_zip(tmp_path / "int.pth", value, [("0", np.zeros(4, np.int64))])
    with pytest.raises(ValueError, match="a: numbers of type int64, expected floating point"):
        read_torch(path)["a"].read()
    value = {"a": tensor(reference("FloatStorage", "0", 4), 0, (4,), (1,))}
    path = torch_zip(tmp_path / "short.pth", value, [("0", np.zeros(3, np.float32))])
    with pytest.raises(ValueError, match="12 bytes for 4 numbers"):
        read_torch(path)["a"].read()


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, collections.OrderedDict])
def test_a_file_without_a_state_dict(tmp_path, value):
    value = value() if callable(value) else value
    if isinstance(value, collections.OrderedDict):
        value = Call(Global("collections", "OrderedDict"), ())
    with pytest.raises(ValueError, match=r"no state dict|no tensors"):
        read_torch(torch_zip(tmp_path / "none.pth", value))


@pytest.mark.parametrize("path", [STATE_DICT, CHECKPOINT])
def test_a_file_that_is_cut_short_anywhere(tmp_path, path):
    data = path.read_bytes()
    cut = tmp_path / "cut.pth"
    for size in np.linspace(20, len(data) - 1, 25).astype(int):
        cut.write_bytes(data[:size])
        with pytest.raises(ValueError, match=r"cut\.pth"):
            weights.load_weights(cut, NETWORK)


@pytest.mark.parametrize("size", [224, 227, 256, 150])
def test_any_input_size_equals_torch(tmp_path, size):
    torch = pytest.importorskip("torch")
    widths = dict(WIDTHS, conv1=8, conv5=4)
    network = torchvision_alexnet(5, widths=widths, input_size=size)
    made = torch_alexnet.model(widths, 5)
    torch.save({"state_dict": torch.nn.DataParallel(made).state_dict()}, tmp_path / "a.pth")
    loaded = weights.load_weights(tmp_path / "a.pth", network)
    pixels = torch_alexnet.images(size=size)
    ours = network.apply(loaded.params, pixels.astype(np.float32) - loaded.mean)
    assert close(ours, torch_alexnet.logits(made, pixels))


def test_the_real_geometry_there_and_back(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    widths = {"conv1": 64, "conv2": 192, "conv3": 384, "conv4": 256, "conv5": 256}
    widths |= {"fc6": 4096, "fc7": 4096}
    network = torchvision_alexnet()
    made = torch_alexnet.model(widths, 1000)
    assert sum(p.numel() for p in made.parameters()) == network.num_params == 61_100_840
    torch.save(made.state_dict(), tmp_path / "a.pth")
    loaded = weights.load_weights(tmp_path / "a.pth", network)
    pixels = torch_alexnet.images(1)
    ours = network.apply(loaded.params, pixels.astype(np.float32) - loaded.mean)
    assert close(ours, torch_alexnet.logits(made, pixels))
    out = tmp_path / "out.safetensors"
    weights.save_weights(out, network, loaded.params, mean=loaded.mean, format="torch_safetensors")
    state = safetensors_torch.load_file(out)
    mean = state.pop("mean")
    made.load_state_dict(state)
    with torch.no_grad():
        theirs = made(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() - mean).numpy()
    assert close(ours, theirs)


def test_the_legacy_order_of_bytes(tmp_path):
    data = CHECKPOINT.read_bytes()
    swapped = data.replace(b"little_endianq\x02\x88", b"little_endianq\x02\x89")
    assert swapped != data
    (tmp_path / "big.pth").write_bytes(swapped)
    with pytest.raises(ValueError, match="big-endian"):
        weights.load_weights(tmp_path / "big.pth", NETWORK)
