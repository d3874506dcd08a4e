"""The command on a miniature ILSVRC2012 with the oddities of the real one."""

import io
import re
import signal
import subprocess
import sys
import time

import ilsvrc_tree
import image_trees
import numpy as np
import pytest
from ilsvrc_tree import VAL, WNIDS
from PIL import Image

from transfer_jax.data.prepare import __main__ as command
from transfer_jax.data.prepare import writer
from transfer_jax.data.sources import DatasetSpec, open_dataset

SIZE = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = ilsvrc_tree.write(tmp_path_factory.mktemp("imagenet"), truth="devkit")
    ilsvrc_tree.write_odd_files(root)
    return root


def arguments(root, data_dir, **options):
    options = {"source": root, "data_dir": data_dir, "image_size": SIZE, **options}
    return [f"--{name}={value}" for name, value in options.items()]


def by_hand(path, fit):
    """A file's pixels as they should be prepared, by Pillow alone."""
    image = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    width, height = image.size
    box = {
        "squash": (0, 0, width, height),
        "centre": {
            (60, 40): (10, 0, 50, 40),
            (40, 60): (0, 10, 40, 50),
            (63, 41): (11, 0, 52, 41),
            (33, 80): (0, 23.5, 33, 56.5),
            (37, 37): (0, 0, 37, 37),
            (62, 45): (8.5, 0, 53.5, 45),
        }[width, height],
    }[fit]
    return np.asarray(image.resize((SIZE, SIZE), Image.Resampling.LANCZOS, box))


@pytest.mark.parametrize("fit", ["squash", "centre"])
def test_records_labels_left_out_images_and_means(root, tmp_path, capsys, fit):
    assert command.main(arguments(root, tmp_path, fit=fit, workers=2)) == 0
    said = capsys.readouterr().out
    # What it says is enough to open the dataset, with another program and without the source.
    flags = dict(re.findall(r"--config\.(?:dataset\.)?(\w+)=(\S+)", said))
    assert flags.pop("data_dir") == str(tmp_path)
    size = int(flags.pop("image_size"))
    dataset = open_dataset(DatasetSpec(**flags, image_size=size), tmp_path, progress=False)
    assert flags["name"].startswith("ilsvrc2012/24px_" + ("centre_" if fit == "centre" else ""))
    assert dataset.class_names == WNIDS

    train = [f"train/{wnid}/{wnid}_{i}.JPEG" for wnid in WNIDS for i in range(5)]
    assert train.pop(10) == "train/n04074963/n04074963_0.JPEG"
    val = [f"val/ILSVRC2012_val_0000000{number}.JPEG" for number in (2, 5, 7, 1, 6, 3, 8)]
    labels = {
        "train": [0] * 5 + [1] * 5 + [2] * 4 + [3] * 5,
        "val": [VAL[number - 1] for number in (2, 5, 7, 1, 6, 3, 8)],
    }
    pixels = {}
    for split, ids in (("train", train), ("val", val)):
        source = dataset.record_source(split)
        assert [source[i]["id"] for i in range(len(source))] == ids
        assert dataset.labels(split).tolist() == labels[split]
        pixels[split] = np.array([by_hand(root / id, fit) for id in ids])
        np.testing.assert_array_equal(dataset.images(split, range(len(ids))), pixels[split])
    # One is grey, one was CMYK, one a PNG: all are RGB now and like their originals.
    grey = pixels["train"][train.index("train/n07930864/n07930864_3.JPEG")]
    assert (grey == grey[..., :1]).all()

    assert "19 training and 7 validation images" in said
    path = dataset.directory / "skipped.txt"
    assert f"2 broken images, listed in {path}" in said
    assert [line.split("\t")[0] for line in path.read_text().splitlines()] == [
        "train/n04074963/n04074963_0.JPEG",
        "val/ILSVRC2012_val_00000004.JPEG",
    ]
    mean = np.load(dataset.directory / "mean_image_24x24.npy")
    expected = pixels["train"].astype(np.float64).mean(axis=0)
    np.testing.assert_array_equal(mean, expected.astype(np.float32))
    channels = np.load(dataset.directory / "mean_channel_24x24.npy")
    np.testing.assert_allclose(channels, expected.mean(axis=(0, 1)), rtol=1e-6)


def test_large_squares_are_nearly_lossless(root, tmp_path):
    spec = DatasetSpec("ilsvrc2012", path=str(root), image_size=72, on_broken="skip")
    dataset = open_dataset(spec, tmp_path, progress=False)
    source = dataset.record_source("train")
    for index in range(len(source)):
        original = Image.open(root / source[index]["id"]).convert("RGB")
        squashed = np.asarray(original.resize((72, 72), Image.Resampling.LANCZOS), float)
        assert np.sqrt(((source[index]["image"] - squashed) ** 2).mean()) < 3


def test_a_second_call_and_other_means(root, tmp_path, capsys):
    assert command.main(arguments(root, tmp_path, mean="none")) == 0
    assert not list(tmp_path.rglob("mean_*.npy"))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*array_record*")}
    assert command.main(arguments(root, tmp_path, mean="channel")) == 0
    assert [path.name for path in tmp_path.rglob("mean_*.npy")] == ["mean_channel_24x24.npy"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*array_record*")} == before
    first, second = (
        re.findall("dataset      (.*)", text)
        for text in capsys.readouterr().out.split("open it")[:2]
    )
    assert first == second


def test_other_kinds(tmp_path, capsys):
    root = image_trees.image_folder(tmp_path / "photos")
    assert command.main(arguments(root, tmp_path / "data", kind="folder")) == 0
    said = capsys.readouterr().out
    assert "dataset      image_folder/24px_" in said and "left out     no image" in said
    tiny = image_trees.archive(image_trees.tiny_imagenet(tmp_path / "t"), tmp_path / "tiny.tar.xz")
    assert command.main(arguments(tiny, tmp_path / "data", kind="tiny_imagenet")) == 0
    assert "2 classes, 6 training and 4 validation images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "nowhere"}, "FileNotFoundError: there is no nowhere"),
        (
            {"on_broken": "raise"},
            r"BrokenImageError: broken image train/n04074963/n04074963_0\.JPEG",
        ),
        ({"image_size": 5000}, r"ValueError: image_size must lie in 1 \.\. 4096"),
        ({"source": ""}, "ValueError: a dataset of kind 'ilsvrc2012' needs the path"),
        ({"partition": 3}, "ValueError: partition lies in"),
    ],
)
def test_errors_are_one_line(root, tmp_path, capsys, options, message):
    assert command.main(arguments(root, tmp_path, **options)) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.match(message, said)


def test_help(capsys):
    with pytest.raises(SystemExit):
        command.main(["--help"])
    assert "usage: python -m transfer_jax.data.prepare" in capsys.readouterr().out


def test_no_workers(root, tmp_path, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments(root, tmp_path, workers=0))
    assert "expected a number of at least 1, got '0'" in capsys.readouterr().err


SLOWLY = """
import sys, time
from transfer_jax.data import images
from transfer_jax.data.prepare import __main__ as command, writer
writer._SHARD_LIMITS, writer._BLOCK = (2, 2), 1
fast = images.to_square
def slow(*arguments):
    time.sleep(0.1)
    return fast(*arguments)
images.to_square = slow
sys.exit(command.main(sys.argv[1:]))
"""


def test_kill_9_in_the_middle_and_again(root, tmp_path, monkeypatch):
    words = arguments(root, tmp_path / "data", workers=2)
    process = subprocess.Popen(
        [sys.executable, "-c", SLOWLY, *words], stderr=subprocess.PIPE, text=True
    )
    deadline = time.time() + 60
    while len(shards := list(tmp_path.glob("data/ilsvrc2012/*/.1.0.0.partial/ilsvrc*"))) < 4:
        assert process.poll() is None and time.time() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "preparing ilsvrc2012" in process.stderr.read()
    assert not list(tmp_path.rglob("dataset_info.json"))
    kept = {path.name: path.stat().st_mtime_ns for path in shards[0].parent.glob("ilsvrc*")}
    # 20 training images in 10 shards and 8 validation images in 4.
    assert 4 <= len(kept) < 14

    monkeypatch.setattr(writer, "_SHARD_LIMITS", (2, 2))
    assert command.main(words) == 0
    assert command.main(arguments(root, tmp_path / "whole", workers=1)) == 0
    resumed, whole = (
        next(tmp_path.glob(f"{folder}/ilsvrc2012/*/1.0.0")) for folder in ("data", "whole")
    )
    assert {name: (resumed / name).stat().st_mtime_ns for name in kept} == kept
    names = sorted(path.name for path in whole.iterdir())
    assert names == sorted(path.name for path in resumed.iterdir())
    assert {"skipped.txt", "mean_image_24x24.npy", "labels-train.npy"} < set(names)
    for name in names:
        assert (resumed / name).read_bytes() == (whole / name).read_bytes(), name


def test_it_starts_without_jax():
    code = (
        "import sys, transfer_jax.data.prepare.__main__\n"
        "assert not {'jax', 'flax', 'tensorflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
