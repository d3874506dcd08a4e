"""Files that torch wrote give torch's logits; files that a forger wrote run nothing."""

import io
import pickle
import struct
import zipfile

import jax
import numpy as np
import pytest

from tests.networks.torch_alexnet import CLASSES, FILES, WIDTHS, images
from transfer_jax.networks import torchvision_alexnet, weights
from transfer_jax.networks.torch_file import read_torch

NETWORK = torchvision_alexnet(CLASSES, widths=WIDTHS)
STATE_DICT, CHECKPOINT = FILES / "state_dict.pth", FILES / "checkpoint.pth.tar"


def test_logits_are_torchs():
    loaded = [weights.load_weights(path, NETWORK) for path in (STATE_DICT, CHECKPOINT)]
    jax.tree.map(np.testing.assert_array_equal, loaded[0].params, loaded[1].params)
    assert weights.widths_in(CHECKPOINT, NETWORK) == {**WIDTHS, "fc8": CLASSES}
    np.testing.assert_allclose(loaded[0].mean, [123.675, 116.28, 103.53], rtol=1e-6)
    x = images().astype(np.float32) - loaded[0].mean
    ours, torchs = jax.jit(NETWORK.apply)(loaded[0].params, x), np.load(FILES / "logits.npy")
    assert np.ptp(torchs, axis=0).min() > 0.01 * np.abs(torchs).max()
    assert np.abs(ours - torchs).max() < 1e-5 * np.abs(torchs).max()


class Global:
    """Pickles as a name; called, it pickles as the call of that name."""

    def __init__(self, module, name):
        self.module, self.name = module, name

    def __call__(self, *arguments):
        return Call(self, arguments)


class Call:
    def __init__(self, *parts):
        self.parts = parts

    def __reduce__(self):
        return self.parts


class StorageReference(Call):
    """Of a storage, by the tuple that torch has pickles refer to it with."""


class Pickler(pickle._Pickler):
    """Writes names without importing what they name, as only a forger or torch would."""

    def persistent_id(self, value):
        return value.parts if isinstance(value, StorageReference) else None

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


def tensor(storage, *geometry, rebuild="_rebuild_tensor_v2"):
    rest = () if rebuild == "_rebuild_tensor" else (False, {})
    return Global("torch._utils", rebuild)(storage, *geometry, *rest)


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("os", "system", ("touch {}",)),
        ("builtins", "eval", ("__import__('os').system('touch {}')",)),
        ("torch", "load", ("{}",)),
        ("torch._utils", "os.system", ("touch {}",)),
        ("torchvision.models.alexnet", "AlexNet", ()),
    ],
)
def test_whatever_is_no_tensor_is_refused_by_name(tmp_path, write, module, name, arguments):
    trace = tmp_path / "trace"
    pickle.loads(pickled(Global("os", "system")(f"touch {trace}")))  # a forger's pickle works
    trace.unlink()
    arguments = tuple(a.format(trace) if isinstance(a, str) else a for a in arguments)
    path = write(tmp_path / "evil.pth", {"state_dict": Global(module, name)(*arguments)})
    with pytest.raises(ValueError, match=rf"evil\.pth: .*refused.*{module}\.{name}"):
        weights.load_weights(path, NETWORK)
    assert not trace.exists()


def test_state_set_on_what_is_admitted_stays_in_its_file(tmp_path):
    # BUILD gives the function (not its result) another default for every argument.
    altered = b"}X\x0c\x00\x00\x00__defaults__(K\x01K\x02K\x03K\x04ts"
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(N" + altered + b"tb)R."
    with zipfile.ZipFile(tmp_path / "odd.pth", "w") as archive:
        archive.writestr("archive/data.pkl", data)
    with pytest.raises(ValueError, match=r"odd\.pth"):
        read_torch(tmp_path / "odd.pth")
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
    found = read_torch(path)
    assert list(found) == ["a", "b", "c"]
    np.testing.assert_array_equal(found["a"], [[2, 6], [3, 7], [4, 8]])
    np.testing.assert_array_equal(found["b"], range(6))
    np.testing.assert_array_equal(found["c"], [1.5, -2])


def test_old_views_of_a_storage(tmp_path):
    storage = reference("FloatStorage", "1", 3, view=(("v", 2, 3),))
    value = {"a": tensor(storage, 0, (3,), (1,))}
    # The file gives the length of the whole storage, its reference that of the view.
    path = torch_legacy(tmp_path / "view.pth", value, [("1", np.arange(9, dtype=np.float32))])
    np.testing.assert_array_equal(read_torch(path)["a"], [2, 3, 4])


@pytest.mark.parametrize(
    ("geometry", "held"),
    [((0, (5,), (1,)), 4), ((3, (2,), (1,)), 4), ((-1, (2,), (1,)), 4), ((0, (2, 2), (1,)), 4),
     ((0, (2,), (-1,)), 4), ((0, "ab", (1, 1)), 4), ((0, (4,), (1,)), 3)],
)  # fmt: skip
def test_tensors_that_reach_beyond_their_numbers_are_damaged(tmp_path, geometry, held):
    value = {"a": tensor(reference("FloatStorage", "0", 4), *geometry)}
    for write in WRITERS:
        path = write(tmp_path / "bad.pth", value, [("0", np.zeros(held, np.float32))])
        with pytest.raises(ValueError, match=r"bad\.pth"):
            read_torch(path)
