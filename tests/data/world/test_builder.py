"""The dataset builder: prepared and read back without TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest

from transfer_jax.data import world


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    builder = world.EmbeddedWorld(
        config=world.world_config(size=16, train_per_class=3, val_per_class=2, seed=4),
        data_dir=tmp_path_factory.mktemp("data"),
        file_format="array_record",
    )
    builder.download_and_prepare()
    return builder


def test_round_trip(prepared):
    assert prepared.info.splits["train"].num_examples == 120
    assert prepared.info.splits["val"].num_examples == 80
    assert tuple(prepared.info.features["label"].names) == world.class_names()
    seen = set()
    for split in ("train", "val"):
        for record in prepared.as_data_source(split):
            where, name, index = record["id"].decode().split("/")
            assert where == split and world.class_id(name) == record["label"]
            image, box = world.render_images(
                record["label"], int(index), split=split, seed=4, size=16
            )
            assert np.array_equal(record["image"], image[0])
            objects = record["objects"]
            np.testing.assert_array_equal(np.asarray(objects["bbox"]), box)
            assert list(objects["label"]) == [record["label"]]
            seen.add(record["id"])
    assert len(seen) == 200


def test_tensorflow_is_never_imported(tmp_path):
    code = (
        "import sys; from transfer_jax.data import world\n"
        f"b = world.EmbeddedWorld(config=world.world_config(8, 1, 1), data_dir={str(tmp_path)!r},"
        " file_format='array_record')\n"
        "b.download_and_prepare(); assert len(b.as_data_source('val')) == 40\n"
        "assert b.as_data_source('val')[0]['image'].shape == (8, 8, 3)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_config_names_tell_settings_apart():
    settings = [(), (64,), (32, 501), (32, 500, 101), (32, 500, 100, 1)]
    assert len({world.world_config(*values).name for values in settings}) == len(settings)
    assert world.world_config(64, 200, 50).name == "64px_200train_50val_seed0"


def test_default_config_can_be_asked_for_by_name_or_object(tmp_path):
    by_object = world.EmbeddedWorld(config=world.world_config(), data_dir=tmp_path)
    by_name = world.EmbeddedWorld(config=world.world_config().name, data_dir=tmp_path)
    assert by_object.data_path == by_name.data_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 4}, "size is 4; expected a whole number of at least 8"),
        ({"train_per_class": 0}, "train_per_class is 0"),
        ({"val_per_class": 2.5}, "val_per_class is 2.5"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_configs_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        world.world_config(**arguments)
