"""One small dataset, and one run of a small group, for all tests of training."""

import jax
import numpy as np
import pytest

from tests import small
from tests.training.groups import NET, PROGRAM, train
from transfer_jax.data.tasks import Task
from transfer_jax.training.feed import TaskData
from transfer_jax.transfer import Treatment


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    return small.dataset(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def data(dataset):
    task = Task("B", dataset.name, (0, -1, -1, 1))
    return TaskData(dataset, task, np.array([120.0, 110.0, 100.0], np.float32), resident=True)


@pytest.fixture(scope="session")
def params():
    """Initial params of A1B and A2B."""
    base = NET.init(jax.random.key(0))
    treatments = (Treatment("B", "A", n) for n in PROGRAM.frozen)
    return [t.initial_params(NET, jax.random.key(t.n), base) for t in treatments]


@pytest.fixture(scope="session")
def whole(tmp_path_factory, params, data):
    """A run that nothing interrupts: its folder and outcomes."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, train(folder, params, data)
