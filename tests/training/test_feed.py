"""Batches on their way to the devices: one ahead, and the place in the data."""

import dataclasses
import json
import threading

import jax
import numpy as np
import pytest

from tests import small
from tests.training.groups import CutOffError, cut_off, train
from transfer_jax.data.pipeline import BatchOrder, select, stream
from transfer_jax.training import devices, feed
from transfer_jax.training.feed import training_batches


def test_the_next_item_is_made_while_one_is_in_use():
    made = [threading.Event() for _ in range(4)]

    def items():
        for i, event in enumerate(made):
            event.set()
            yield i

    ahead = feed._one_ahead(items())
    for i, item in enumerate(ahead):
        assert item == i
        assert i == 3 or made[i + 1].wait(10)
        assert i > 1 or not made[i + 2].wait(0.05), "two ahead"


def test_items_are_closed_when_their_user_stops_in_the_middle():
    closed = threading.Event()

    def items():
        try:
            yield from range(10**9)
        finally:
            closed.set()

    ahead = feed._one_ahead(items())
    assert [next(ahead), next(ahead)] == [0, 1]
    ahead.close()
    assert closed.is_set()
    assert not [t for t in threading.enumerate() if t.name.startswith("feed")]


def test_an_error_while_an_item_is_made_comes_out_in_its_place():
    def items():
        yield 0
        raise OSError("record 7 is torn")

    ahead = feed._one_ahead(items())
    assert next(ahead) == 0
    with pytest.raises(OSError, match="record 7 is torn"):
        next(ahead)


def test_streamed_batches_are_on_the_devices_in_use(data):
    data = dataclasses.replace(data, resident=False)
    order = BatchOrder(data.num_records("train"), 8, seed=1)
    resident = training_batches(dataclasses.replace(data, resident=True), order, 3, 6, 1)
    with devices.only(jax.local_devices()):
        for (mine, places), (theirs, indices) in zip(
            training_batches(data, order, 3, 6, 1), resident, strict=True
        ):
            assert all(isinstance(leaf, jax.Array) for leaf in (*mine, places))
            expected = jax.tree.map(np.asarray, theirs)
            np.testing.assert_array_equal(
                np.asarray(mine.images)[0][places[0]], expected.images[0][indices[0]]
            )
            np.testing.assert_array_equal(mine.labels[0], expected.labels[0][indices[0]])
            np.testing.assert_array_equal(mine.mean, expected.mean)


def test_the_position_is_that_of_the_loader(data):
    records, labels = select(data.dataset, "train", data.task)
    order = BatchOrder(len(records), 8, seed=5)
    reader = data.dataset.record_source("train")
    with stream(reader, records, labels, order, start_step=3) as batches:
        next(batches)
        assert order.position(4) == batches.get_state()
        batches.set_state(json.loads(json.dumps(order.position(2))))
        expected = np.sort(labels[order.indices(2)])
        np.testing.assert_array_equal(np.sort(next(batches)["label"]), expected)


def test_a_checkpoint_tells_its_place_in_the_data(params, data, tmp_path, monkeypatch):
    with cut_off(monkeypatch, 8), pytest.raises(CutOffError):
        train(tmp_path, params, data)
    path = tmp_path / "checkpoints" / "6" / "position" / "metadata"
    saved = json.loads(path.read_text())
    order = BatchOrder(data.num_records("train"), 8, seed=3)
    assert {**order.position(6), "seconds": saved["seconds"]} == saved


def test_a_resume_on_other_data_is_refused(params, data, tmp_path, monkeypatch):
    with cut_off(monkeypatch, 8), pytest.raises(CutOffError):
        train(tmp_path, params, data)
    fewer = dataclasses.replace(data.task, images_per_class=9)
    with pytest.raises(ValueError) as raised:
        train(tmp_path, params, dataclasses.replace(data, task=fewer))
    assert "BatchOrder(num_records=24, batch_size=8, seed=3)" in str(raised.value)
    assert "BatchOrder(num_records=18, batch_size=8, seed=3)" in str(raised.value)
    # Put back, it goes on.
    outcomes = train(tmp_path, params, data)
    assert small.same_bits(outcomes[0].learned, train(tmp_path / "new", params, data)[0].learned)


def test_a_checkpoint_without_its_place_is_refused(params, data, tmp_path, monkeypatch):
    with cut_off(monkeypatch, 8), pytest.raises(CutOffError):
        train(tmp_path, params, data)
    (path,) = (tmp_path / "checkpoints").glob("6/position/metadata")
    saved = json.loads(path.read_text())
    path.write_text(json.dumps({"step": saved["step"], "seconds": saved["seconds"]}))
    with pytest.raises(ValueError, match=r"checkpoints cannot be .* lacks num_records, batch_size"):
        train(tmp_path, params, data)
