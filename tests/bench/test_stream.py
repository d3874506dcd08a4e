"""A tiny contest of streamed steps, and the verdict that follows from times."""

import argparse
import re

import numpy as np
import pytest

from transfer_jax.bench import stream
from transfer_jax.bench.timing import Timing


def test_page_of_a_tiny_network(tiny_network):
    (contest,) = stream.measure(tiny_network, [4], repeats=2, steps=3, count=6)
    assert list(contest.timings) == [
        stream.REPEATED,
        stream.STREAMED,
        stream.DECODED,
        stream.READ,
        stream.READ_DECODED,
    ]
    page = stream.report(tiny_network, [contest])
    assert "## Batch 4" in page
    ratio = contest.ratio(stream.STREAMED, "minimum")
    assert f"streamed from memory / repeated: {ratio:.3f} (fastest)" in page
    assert ("wanted: met" in page) == (ratio <= 1.05)


@pytest.mark.parametrize("streamed, verdict", [(0.104, "met"), (0.106, "missed")])
def test_verdict_is_about_the_loader_without_decoding(tiny_network, streamed, verdict):
    seconds = (0.1, streamed, 0.15, 0.01, 0.06)
    names = (
        *(stream.REPEATED, stream.STREAMED, stream.DECODED),
        *(stream.READ, stream.READ_DECODED),
    )
    timings = {name: Timing((s,)) for name, s in zip(names, seconds, strict=True)}
    page = stream.report(tiny_network, [stream.Contest(8, timings)])
    assert re.search(rf"at most 1.05 wanted: {verdict}\. Decoding adds 4[46]\.0 %", page)


def test_memory_dataset_gives_the_images_it_holds():
    images = np.random.default_rng(0).integers(0, 256, (3, 4, 4, 3), np.uint8)
    source = stream.MemoryRecords(images)
    assert len(source) == 3
    np.testing.assert_array_equal(source[2]["image"], images[2])
    np.testing.assert_array_equal(source.read_image(1), images[1])


def test_options():
    parser = argparse.ArgumentParser()
    stream.add_options(parser)
    chosen = parser.parse_args(["--batch", "8", "16", "--network", "caffenet"])
    assert chosen.batch == [8, 16] and chosen.network.name == "caffenet"
