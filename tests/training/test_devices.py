import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from transfer_jax.training import devices


def run_on(count, path):
    environment = {
        **os.environ,
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={count}",
        "JAX_PLATFORMS": "cpu",
    }
    command = [sys.executable, "-m", "tests.training.eight_devices", str(path)]
    subprocess.run(command, env=environment, check=True, timeout=300)
    return np.load(path)


def test_eight_devices_train_as_one_does(tmp_path):
    # Augmentation and dropout are on. Only the order of sums differs: losses agree to 1e-5, params
    # after four steps to 1e-4 of their largest.
    one, eight = (run_on(count, tmp_path / f"{count}.npz") for count in (1, 8))
    assert (int(one["count"]), int(eight["count"])) == (1, 8)
    np.testing.assert_allclose(eight["losses"], one["losses"], rtol=1e-5)
    scale = np.abs(one["params"]).max()
    np.testing.assert_allclose(eight["params"], one["params"], atol=1e-4 * scale)
    np.testing.assert_allclose(eight["top1"], one["top1"], atol=1.01 / 40)


def test_replicating_and_back_gives_the_same_values():
    tree = {"a": np.arange(6.0).reshape(2, 3), "b": (np.int32(4),)}
    back = devices.unreplicate(devices.replicate(tree))
    jax.tree.map(np.testing.assert_array_equal, back, tree)


def test_split_batch_keeps_the_order():
    assert devices.num_devices() == 1
    batch = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(devices.split_batch(batch), batch[None])
    np.testing.assert_array_equal(devices.split_batch(batch, axis=-1), batch[None])


def test_a_batch_that_does_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr(devices, "num_devices", lambda: 8)
    with pytest.raises(ValueError, match="batch of 12 cannot be split over 8 devices"):
        devices.split_batch(np.arange(12))
    np.testing.assert_array_equal(devices.split_batch(np.arange(16)), np.arange(16).reshape(8, 2))
