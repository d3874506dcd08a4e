"""The order's properties, and streams against it: any start, workers, and share of processes."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transfer_jax.data import pipeline
from transfer_jax.data.pipeline import BatchOrder, stream, stream_once

orders = st.builds(BatchOrder, st.integers(1, 60), st.integers(1, 40), st.integers(0, 2**70))


class Records:
    """Random access to images whose pixels are a function of the record's number."""

    def __init__(self, count, shape=(5, 4, 3)):
        self.count, self.shape = count, shape

    def image(self, index):
        return np.random.default_rng(index).integers(0, 256, self.shape, np.uint8)

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        return {"image": self.image(index), "label": -1, "id": f"{index:06}"}


class BrokenRecords(Records):
    """One record fails the first time it is read in a process, and then no more."""

    broken = 17

    def __getitem__(self, index):
        if index == self.broken:
            self.broken = None
            raise OSError("truncated file")
        return super().__getitem__(index)


@dataclasses.dataclass(frozen=True)
class FakeTask:
    name: str
    class_map: tuple[int, ...]
    images_per_class: int | None = None

    def select(self, labels, *, limit=True):
        mapped = np.asarray(self.class_map, np.int32)[labels]
        keep = mapped >= 0
        if limit and self.images_per_class is not None:
            rank = np.array([np.sum(labels[:i] == c) for i, c in enumerate(labels)])
            keep &= rank < self.images_per_class
        indices = np.flatnonzero(keep)
        return indices, mapped[indices]


class FakeDataset:
    name = "fake/1.0.0"

    def __init__(self, dtype=np.uint8):
        self.dtype = dtype
        self.records = Records(40)

    def labels(self, split):
        return np.arange(40 if split == "train" else 20, dtype=np.int32) % 4

    def images(self, split, indices):
        return np.stack([self.records.image(i) for i in indices]).astype(self.dtype)


SOURCE = Records(90)
RECORDS = np.arange(2, 90, 2)[:37]
LABELS = (np.arange(37) * 5 % 11).astype(np.int32)
ORDER = BatchOrder(num_records=37, batch_size=12, seed=5)


def expected_batch(step, share=np.s_[:], order=ORDER):
    positions = order.indices(step)[share]
    return {
        "image": np.stack([SOURCE.image(RECORDS[p]) for p in positions]),
        "label": LABELS[positions],
    }


def assert_batch(got, want):
    assert got.keys() == want.keys()
    assert got["image"].dtype == np.uint8 and got["label"].dtype == np.int32
    for name in want:
        assert type(got[name]) is np.ndarray
        np.testing.assert_array_equal(got[name], want[name])


def open_stream(**options):
    return stream(SOURCE, RECORDS, LABELS, ORDER, **options)


# The order


@given(orders)
def test_concatenated_batches_are_permutations_epoch_after_epoch(order):
    steps = -(-3 * order.num_records // order.batch_size)
    examples = np.concatenate([order.indices(step) for step in range(steps)])
    for epoch in range(3):
        one = examples[epoch * order.num_records : (epoch + 1) * order.num_records]
        np.testing.assert_array_equal(np.sort(one), np.arange(order.num_records))


@given(orders, st.integers(0, 10**15))
def test_a_step_depends_on_nothing_but_the_step(order, step):
    first = order.indices(step)
    assert first.dtype == np.int64 and first.shape == (order.batch_size,)
    order.indices(step + 999)
    again = dataclasses.replace(order).indices(np.int64(step))
    np.testing.assert_array_equal(first, again)
    assert np.all((first >= 0) & (first < order.num_records))


@given(orders, st.integers(0, 50), st.data())
def test_a_slice_is_a_part_of_the_step(order, step, data):
    start = data.draw(st.integers(0, order.batch_size))
    stop = data.draw(st.integers(start, order.batch_size))
    np.testing.assert_array_equal(order.slice(step, start, stop), order.indices(step)[start:stop])


def test_epochs_and_seeds_shuffle_differently():
    epochs = [BatchOrder(200, 200, seed).indices(e) for seed in (0, 1, 2**32) for e in range(3)]
    for i, one in enumerate(epochs):
        assert all(not np.array_equal(one, other) for other in epochs[:i])
    # Places are uniform over examples: mean rank of one example over many epochs.
    order = BatchOrder(50, 50, seed=7)
    ranks = np.array([np.argmax(order.indices(e) == 3) for e in range(2000)])
    assert abs(ranks.mean() - 24.5) < 4 * np.sqrt((50**2 - 1) / 12 / 2000)


def test_changing_what_indices_returns_changes_nothing_else():
    order = BatchOrder(10, 10, 0)
    before = order.indices(0).copy()
    order.indices(0)[:] = 0
    np.testing.assert_array_equal(order.indices(0), before)


def test_epoch_counts_examples():
    assert BatchOrder(100, 25, 0).epoch(6) == 1.5


# Streams


@pytest.mark.parametrize("prefetch", [0, 3])
def test_stream_follows_the_order(prefetch):
    with open_stream(prefetch=prefetch) as batches:
        for step in range(8):
            assert_batch(next(batches), expected_batch(step))


def test_stream_started_at_a_step_skips_the_ones_before():
    with open_stream(start_step=5) as batches:
        for step in (5, 6, 7):
            assert_batch(next(batches), expected_batch(step))


def test_stream_starts_as_easily_at_a_late_step():
    with open_stream(start_step=10**12) as batches:
        assert_batch(next(batches), expected_batch(10**12))


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
@settings(max_examples=15, deadline=None)
def test_a_saved_position_resumes_bit_for_bit(before, after, elsewhere):
    with open_stream() as one, open_stream(start_step=elsewhere) as other:
        for _ in range(before):
            next(one)
        state = json.loads(json.dumps(one.get_state()))
        ahead = [next(one) for _ in range(after)]
        next(other)
        other.set_state(state)
        assert other.get_state() == state
        for batch in ahead:
            assert_batch(next(other), batch)
        one.set_state(state)
        assert_batch(next(one), expected_batch(before))


def test_workers_deliver_the_same_batches_and_resume_each_other(monkeypatch):
    # What grain finds beside jaxlib 0.11 and later, in a program that parses no absl flags.
    import grain  # noqa: F401

    monkeypatch.setattr("grain._src.core.profiler._subprocess_hooks_loaded", True, raising=False)
    with open_stream(num_workers=2, start_step=3) as batches:
        for step in range(3, 8):
            assert_batch(next(batches), expected_batch(step))
        state = batches.get_state()
    with open_stream(num_workers=0) as batches:
        batches.set_state(state)
        assert_batch(next(batches), expected_batch(8))


@pytest.mark.parametrize("count", [2, 3, 12])
def test_shares_of_processes_recombine_to_the_whole(count):
    streams = [open_stream(process_index=i, process_count=count) for i in range(count)]
    for step in range(5):
        parts = [next(batches) for batches in streams]
        assert all(len(part["label"]) == 12 // count for part in parts)
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        assert_batch(whole, expected_batch(step))
    for batches in streams:
        batches.close()


def test_a_closed_stream_goes_on_where_it_was():
    batches = open_stream()
    next(batches)
    batches.close()
    assert_batch(next(batches), expected_batch(1))
    batches.close()


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_failed_read_names_the_record_and_keeps_the_position(prefetch):
    order = BatchOrder(num_records=40, batch_size=8, seed=0)
    batches = stream(BrokenRecords(40), np.arange(40), np.zeros(40), order, prefetch=prefetch)
    failing = next(step for step in range(5) if 17 in order.indices(step))
    for _ in range(failing):
        next(batches)
    with pytest.raises(OSError, match="truncated file") as caught:
        next(batches)
    assert "record 17" in "".join(caught.value.__notes__)
    assert batches.get_state()["step"] == failing
    np.testing.assert_array_equal(
        next(batches)["image"], [Records(40).image(i) for i in order.indices(failing)]
    )
    batches.close()


def test_a_position_of_another_order_is_refused():
    state = open_stream().get_state()
    other = stream(SOURCE, RECORDS, LABELS, BatchOrder(37, 6, 5))
    with pytest.raises(ValueError, match=r"batch_size=12.*follows .*batch_size=6"):
        other.set_state(state)


class _Shapes(Records):
    def image(self, index):
        return np.zeros((5, 4 + index % 2, 3), np.uint8)


class _Floats(Records):
    def image(self, index):
        return np.zeros((5, 4, 3), np.float32)


class _Grey(Records):
    def image(self, index):
        return np.zeros((5, 4), np.uint8)


@pytest.mark.parametrize(
    "source, message",
    [
        (_Shapes(4), r"record 1 .*shape \(5, 5, 3\); expected uint8 \(5, 4, 3\)"),
        (_Floats(4), r"record 0 .*float32"),
        (_Grey(4), r"record 0 .*\(5, 4\); expected uint8 \(h, w, channels\)"),
    ],
)
def test_images_that_do_not_stack_are_refused(source, message):
    with pytest.raises(ValueError, match=message):
        pipeline.read_batch(source, np.arange(4), np.zeros(4), np.array([0, 1, 2]))


@pytest.mark.parametrize(
    "message, call",
    [
        ("num_records is 0", lambda: BatchOrder(0, 4, 0)),
        ("batch_size is -1", lambda: BatchOrder(4, -1, 0)),
        ("seed is -3", lambda: BatchOrder(4, 4, -3)),
        ("step is -1", lambda: ORDER.indices(-1)),
        ("step is -2", lambda: open_stream(start_step=-2)),
        ("num_workers is -1", lambda: open_stream(num_workers=-1)),
        ("prefetch is -1", lambda: open_stream(prefetch=-1)),
        (
            "process_index is 2 with process_count 2",
            lambda: open_stream(process_index=2, process_count=2),
        ),
        ("batch_size is 12, which 5 processes", lambda: open_stream(process_count=5)),
        (
            "37 records; expected order.num_records, 36",
            lambda: stream(SOURCE, RECORDS, LABELS, BatchOrder(36, 4, 0)),
        ),
        (
            r"record_indices has shape \(37,\) and task_labels \(36,\)",
            lambda: stream(SOURCE, RECORDS, LABELS[1:], ORDER),
        ),
        ("positions is empty", lambda: pipeline.read_batch(SOURCE, RECORDS, LABELS, RECORDS[:0])),
        ("n is -1", lambda: pipeline.padded_batches(-1, 3)),
        ("batch_size is 0", lambda: pipeline.padded_batches(3, 0)),
        ("batch_size is 0", lambda: stream_once(SOURCE, RECORDS, LABELS, 0)),
        ("mode is 'ram'", lambda: pipeline.choose_mode("ram", 10, (2, 2, 3))),
        ("image_shape is None", lambda: pipeline.choose_mode("resident", 10, None)),
    ],
)
def test_bad_arguments_are_refused_by_name(message, call):
    with pytest.raises(ValueError, match=message):
        call()


# Evaluation


@given(st.integers(0, 70), st.integers(1, 30))
def test_padded_batches_cover_everything_once_in_order(n, batch_size):
    batches = list(pipeline.padded_batches(n, batch_size))
    assert len(batches) == -(-n // batch_size)
    for indices, mask in batches:
        assert indices.shape == mask.shape == (batch_size,)
        assert indices.dtype == np.int64 and mask.dtype == bool
        assert np.all((indices >= 0) & (indices < n)) and mask.any()
    seen = [i for indices, mask in batches for i in indices[mask]]
    assert seen == list(range(n))


@pytest.mark.parametrize("count", [1, 2])
def test_stream_once_is_every_example_once(count):
    parts = [
        list(stream_once(SOURCE, RECORDS, LABELS, 10, process_index=i, process_count=count))
        for i in range(count)
    ]
    assert all(len(part) == 4 for part in parts)
    images, labels = [], []
    for step in range(4):
        for part in parts:
            batch = part[step]
            assert batch["image"].shape == (10 // count, 5, 4, 3)
            images.extend(batch["image"][batch["mask"]])
            labels.extend(batch["label"][batch["mask"]])
    np.testing.assert_array_equal(images, [SOURCE.image(i) for i in RECORDS])
    np.testing.assert_array_equal(labels, LABELS)


def test_stream_once_of_nothing_is_empty():
    assert list(stream_once(SOURCE, RECORDS[:0], LABELS[:0], 4)) == []


# Resident data, and the choice


def test_load_resident_holds_what_the_task_selects():
    dataset, task = FakeDataset(), FakeTask("odd", (-1, 1, -1, 0), images_per_class=3)
    train = pipeline.load_resident(dataset, "train", task)
    np.testing.assert_array_equal(train.labels, [1, 0, 1, 0, 1, 0])
    np.testing.assert_array_equal(
        train.images, [dataset.records.image(i) for i in (1, 3, 5, 7, 9, 11)]
    )
    assert train.images.dtype == np.uint8 and train.labels.dtype == np.int32 and len(train) == 6
    # The limit on images per class is a training budget: evaluation uses every image.
    assert len(pipeline.load_resident(dataset, "val", task)) == 10


def test_stream_and_resident_data_agree():
    dataset, task = FakeDataset(), FakeTask("odd", (-1, 1, -1, 0))
    resident = pipeline.load_resident(dataset, "train", task)
    records, labels = pipeline.select(dataset, "train", task)
    order = BatchOrder(len(resident), 7, seed=1)
    with stream(dataset.records, records, labels, order) as batches:
        for step in range(6):
            rows, batch = order.indices(step), next(batches)
            np.testing.assert_array_equal(batch["image"], resident.images[rows])
            np.testing.assert_array_equal(batch["label"], resident.labels[rows])


def test_an_empty_task_and_wrong_images_are_refused():
    with pytest.raises(ValueError, match=r"'none' selects no image from split 'val'.*fake/1.0.0"):
        pipeline.load_resident(FakeDataset(), "val", FakeTask("none", (-1,) * 4))
    with pytest.raises(ValueError, match=r"float32 .*expected uint8 \(40, h, w, channels\)"):
        pipeline.load_resident(FakeDataset(np.float32), "train", FakeTask("all", (0, 1, 2, 3)))


def test_the_choice_goes_by_size_and_can_be_overridden():
    exactly = 1000 * (32 * 32 * 3 + 4)
    assert pipeline.fits_on_device(1000, (32, 32, 3), exactly)
    assert not pipeline.fits_on_device(1000, (32, 32, 3), exactly - 1)
    assert pipeline.choose_mode("auto", 1000, (32, 32, 3), exactly) == "resident"
    assert pipeline.choose_mode("auto", 1000, (32, 32, 3), exactly - 1) == "stream"
    assert pipeline.choose_mode("auto", 10, None) == "stream"
    assert pipeline.choose_mode("resident", 10**7, (224, 224, 3)) == "resident"
    assert pipeline.choose_mode("stream", 1, (2, 2, 3)) == "stream"
    assert pipeline.choose_mode("auto", 100_000, (32, 32, 3)) == "resident"
    assert pipeline.choose_mode("auto", 1_281_167, (256, 256, 3)) == "stream"
