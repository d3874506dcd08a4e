import dataclasses

import pytest
from PIL import Image

from transfer_jax.bench import growth
from transfer_jax.bench.timing import Timing


@pytest.fixture(scope="module")
def planned():
    axes = {"cells": (1, 2, 8), "sizes": (32, 64), "widths": (0.5, 1.0), "classes": (10, 1000)}
    return growth.plan(8, **axes)


@pytest.fixture(scope="module")
def timed(planned):
    """Ten nanoseconds for each thousand operations."""
    return [dataclasses.replace(p, timing=Timing((p.flops * 1e-11,))) for p in planned]


def test_one_thing_varies_at_a_time(planned):
    cells = growth.series(planned, growth.CELLS)
    assert [p.program.frozen for p in cells[growth.LEARNING]] == [(0,), (0, 0), (0,) * 8]
    # Eight layers freeze at seven depths.
    assert [p.program.frozen for p in cells[growth.FROZEN]] == [(1,), (1, 2)]
    sizes = growth.series(planned, growth.SIZE)[growth.NETWORK]
    assert [p.program.network.input_size for p in sizes] == [32, 64]
    narrow, usual = growth.series(planned, growth.WIDTH)[growth.NETWORK]
    assert narrow.program.network.kernel_shapes["conv2"] == (5, 5, 6, 32)
    assert usual.program.network == sizes[0].program.network
    classes = growth.series(planned, growth.CLASSES)[growth.NETWORK]
    assert [p.program.network.num_classes for p in classes] == [10, 1000]


def test_exponents_are_slopes(timed):
    cells = growth.series(timed, growth.CELLS)[growth.LEARNING]
    assert growth.exponent(*cells[:2]) == pytest.approx(1.0)
    page = growth.report(timed, 8)
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| image side")]
    assert float(rows[0][3]) == pytest.approx(8 * 8.97e7 * 1e-8, rel=0.05)
    assert 1.5 < float(rows[1][6]) < 2.1


def test_measures_every_program_once(planned, monkeypatch):
    made = []

    def loop(program, params, data):
        made.append((program, len(params)))
        return type("Loop", (), {"run": staticmethod(lambda steps: None)})

    monkeypatch.setattr(growth, "train_loop", loop)
    points = growth.measure(planned, repeats=2, steps=1)
    assert all(len(p.timing.seconds) == 2 for p in points) and len(points) == len(planned)
    assert sorted(hash(p) for p, _ in made) == sorted(hash(p) for p in {x.program for x in points})
    assert all(len(program.frozen) == count for program, count in made)


def test_plot(timed, tmp_path):
    path = growth.draw(timed, 8, tmp_path / "growth.png")
    with Image.open(path) as picture:
        assert min(picture.size) > 1000
    assert f"]({path.name})" in growth.report(timed, 8, path)
