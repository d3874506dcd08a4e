"""One device against eight virtual ones."""

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.training.devices_program import arrangement, train_and_evaluate
from transfer_jax.training import devices

COUNT = 8


@pytest.fixture(scope="module")
def eight(tmp_path_factory):
    """What the program says on eight virtual devices."""
    path = tmp_path_factory.mktemp("devices") / "eight.npz"
    flags = f"--xla_force_host_platform_device_count={COUNT}"
    subprocess.run(
        [sys.executable, "-m", "tests.training.devices_program", str(path)],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        check=True,
        timeout=300,
    )
    return dict(np.load(path))


def test_eight_devices_train_and_evaluate_as_one_does(eight):
    """Dropout and augmentation on; to a relative 1e-5, for sums are taken in another order."""
    assert int(eight["devices"]) == COUNT and devices.num_devices() == 1
    one = train_and_evaluate()
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=1e-5)
    np.testing.assert_allclose(eight["sums"], one["sums"], rtol=1e-5)
    cells = [name for name in one if name.startswith("cell")]
    assert len(cells) == 2 * (3 + 2)
    for name in cells:
        np.testing.assert_allclose(eight[name], one[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_batches_are_split_in_order(eight):
    np.testing.assert_array_equal(eight["rows"], np.arange(48).reshape(COUNT, 3, 2))
    columns = np.arange(48).reshape(2, COUNT, 3).transpose(1, 0, 2)
    np.testing.assert_array_equal(eight["columns"], columns)
    one = arrangement()
    np.testing.assert_array_equal(one["rows"], np.arange(48).reshape(1, 24, 2))
    np.testing.assert_array_equal(one["columns"], np.arange(48).reshape(1, 2, 24))


def test_a_batch_that_cannot_be_split_is_refused(eight):
    assert str(eight["refusal"]) == "a batch of 9 cannot be split over 8 devices evenly"


def test_replicated_trees_come_back(eight):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    for found, count in ((eight, COUNT), (arrangement(), 1)):
        np.testing.assert_array_equal(found["copies"], np.stack([values] * count))
        np.testing.assert_array_equal(found["round trip a"], values)
        assert found["round trip b"] == 7 and found["round trip b"].dtype == np.int32
