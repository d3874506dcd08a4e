"""Records on disk through the stream: the same batches by every way of reading them."""

import json

import image_trees
import numpy as np
import pytest

from transfer_jax.data import pipeline, records
from transfer_jax.data.folds import Fold, fold_dataset
from transfer_jax.data.pipeline import BatchOrder, stream, stream_once
from transfer_jax.data.sources import DatasetSpec, open_dataset

SIZE = 80
ORDER = BatchOrder(num_records=15, batch_size=6, seed=3)
LABELS = np.arange(15, dtype=np.int32) % 3


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Three classes of five training images, JPEGs of 80 pixels in the records."""
    folder = tmp_path_factory.mktemp("streamed")
    root = image_trees.image_folder(folder / "images", train=5, val=2, size=90)
    spec = DatasetSpec("folder", path=str(root), image_size=SIZE)
    return open_dataset(spec, folder / "prepared", progress=False)


def expected(dataset, step, share=np.s_[:]):
    """By `__getitem__`, through all of TFDS, one record after the other."""
    source = dataset.record_source("train")
    positions = ORDER.indices(step)[share]
    return np.stack([source[int(i)]["image"] for i in positions]), LABELS[positions]


def assert_batch(batch, want):
    np.testing.assert_array_equal(batch["image"], want[0])
    np.testing.assert_array_equal(batch["label"], want[1])


@pytest.mark.parametrize("options", [{}, {"prefetch": 0}, {"num_workers": 2}], ids=str)
def test_streamed_batches_are_the_records_of_the_order(dataset, options):
    source = dataset.record_source("train")
    source[0]  # An open reader must not keep the source from being sent to workers.
    with stream(source, np.arange(15), LABELS, ORDER, start_step=2, **options) as batches:
        for step in range(2, 6):
            assert_batch(next(batches), expected(dataset, step))


def test_an_image_alone_is_that_of_its_record(dataset):
    source = dataset.record_source("train")
    for index in (0, 7, -1):
        np.testing.assert_array_equal(source.read_image(index), source[index]["image"])
    with pytest.raises(IndexError):
        source.read_image(15)


def test_an_image_of_a_fold_is_that_of_its_record(dataset):
    source = fold_dataset(dataset, Fold(0, train_per_class=3)).record_source("train")
    for index in range(len(source)):
        np.testing.assert_array_equal(records.image_at(source, index), source[index]["image"])


@pytest.mark.parametrize("before, after", [(1, 3), (3, 2), (2, 1)])
def test_a_position_holds_for_any_number_of_processes(dataset, before, after):
    source = dataset.record_source("train")

    def shares(count):
        return [
            stream(source, np.arange(15), LABELS, ORDER, process_index=i, process_count=count)
            for i in range(count)
        ]

    states = []
    for batches in shares(before):
        with batches:
            for _ in range(4):
                next(batches)
            states.append(json.loads(json.dumps(batches.get_state())))
    assert states == [ORDER.position(4)] * before
    resumed = []
    for batches in shares(after):
        with batches:
            batches.set_state(states[0])
            resumed.append([next(batches) for _ in range(2)])
    for number, step in enumerate((4, 5)):
        parts = [batches[number] for batches in resumed]
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        assert_batch(whole, expected(dataset, step))


def test_evaluation_reads_every_record_once(dataset):
    source = dataset.record_source("train")
    batches = list(stream_once(source, np.arange(15), LABELS, 4))
    images = np.concatenate([batch["image"][batch["mask"]] for batch in batches])
    np.testing.assert_array_equal(images, dataset.images("train", np.arange(15)))


def test_a_batch_is_the_same_by_threads(dataset):
    source, positions = dataset.record_source("train"), np.arange(15)[::-1]
    alone = pipeline.read_batch(source, np.arange(15), LABELS, positions)
    for batch in stream_once(source, positions, LABELS[positions], 15):
        np.testing.assert_array_equal(batch["image"], alone["image"])


@pytest.mark.parametrize(
    "position, message",
    [
        ({"step": 1, "seed": 3}, "lacks num_records, batch_size"),
        ({**ORDER.position(1), "step": -1}, "step is -1"),
        ({**ORDER.position(1), "seed": 4}, r"seed=4\); this stream follows .*seed=3"),
    ],
)
def test_what_is_no_position_of_the_order_is_refused(position, message):
    with pytest.raises(ValueError, match=message):
        ORDER.step_at(position)
