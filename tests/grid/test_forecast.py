import dataclasses

import pytest

from tests import small
from tests.grid import small_grid
from tests.grid.small_grid import RUNTIME
from transfer_jax.data.dataset_spec import DatasetSpec
from transfer_jax.data.images import decode_rgb
from transfer_jax.data.outline import Outline, outline
from transfer_jax.grid import estimate
from transfer_jax.grid.cost import Speed
from transfer_jax.grid.estimate import assumed, measure, measure_decoding
from transfer_jax.grid.forecast import duration, forecast, rows, text_of
from transfer_jax.grid.forecast_page import page_of
from transfer_jax.grid.plan import build_plan
from transfer_jax.grid.supply import DataSupply

SHAPE = (small.IMAGE_SIZE, small.IMAGE_SIZE, 3)
NAMES = ["A1B", "A2B", "R2B", "A2B+"]
PICTURES = Outline("pictures", tuple("abcd"), SHAPE, {"train": 48, "val": 20})


def cells(names):
    return [small_grid.cell(name, network=small.network()) for name in names]


def planned(names=NAMES, runtime=RUNTIME, **options):
    supply = DataSupply([PICTURES], runtime)
    return forecast(build_plan(cells(names)), supply, runtime, **options)


@pytest.fixture
def without_training(monkeypatch):
    def refuse(*args):
        raise AssertionError("a speed was measured")

    monkeypatch.setattr(estimate, "compiled_train_step", refuse)


def test_a_plan_is_described_with_what_it_costs():
    """With the speed of this machine, and no image."""
    text = text_of(planned())
    lines = {line.split()[0]: line for line in text.splitlines() if line}
    assert "baseA" in lines["A1B..A2B"] and "forward of conv1..conv2" in lines["A1B..A2B"]
    assert "baseA" in lines["A2B+"] and "forward" not in lines["A2B+"]
    assert "cells to train      5 in 4 groups, 3 programs to compile" in text
    flops = sum(group.train_flops for group in build_plan(cells(NAMES)))
    assert f"training            {flops / 1e12:,.1f} TFLOP" in text
    for words in ("measured speed", "FLOP/s", "MiB of results", "estimated time", "decoded once"):
        assert words in text
    assert "small, base cell baseA, float32, batch 8, fastest of" in text


def test_a_warm_up_takes_a_smaller_batch_where_a_step_would_take_long(monkeypatch):
    (group,) = build_plan(cells(["baseB"]))
    flops = small.network().train_flops()
    monkeypatch.setattr(estimate, "LONGEST_CPU_STEP", 2.5 * flops)
    rates, clock = [], iter(range(10**6))
    # Every step takes one second, by this clock.
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(estimate, "_matrix_product_rate", lambda dtype: 8.0 * flops)
    for steps in (2, 10):
        speed = measure(group, SHAPE, steps)
        rates.append(speed.flops_per_second)
        assert "batch 2 (the recipe has 8), fastest of 3 steps" in speed.how
    assert rates == [2 * flops, 2 * flops]
    assert speed.utilisation == 0.25 and speed.compile_seconds == 0
    assert speed.origin == "measured here"


def test_decoding_is_measured_on_images_as_they_are_stored(monkeypatch):
    seen = []

    def decode(encoded):
        seen.append((len(encoded), decode_rgb(encoded)))
        return seen[-1][1]

    monkeypatch.setattr(estimate, "decode_rgb", decode)
    found = measure_decoding(256, count=6)
    sizes = [size for size, _ in seen[1:7]]
    assert all(pixels.shape == (256, 256, 3) and pixels.std() > 20 for _, pixels in seen)
    assert len(set(sizes)) == 6 and found.bytes_per_image == sum(sizes) / 6
    assert 10_000 < found.bytes_per_image < 100_000
    assert 10 < found.images_per_second < 100_000 and "6 images of 256 x 256" in found.how


def test_an_assumed_speed_needs_no_training(without_training):
    found = planned(assumed_tflops=1e-6, workers=2)
    assert found.speed == Speed(1e6, "1 accelerator of 1e-06 TFLOP/s", "assumed", "by the user")
    total = found.cost.train_flops + found.cost.evaluation_flops
    assert found.cost.seconds == pytest.approx(total / 1e6)
    # baseA and R2B at once; the longer one decides when its followers end.
    names = ("baseA", "R2B", "A1B", "A2B+")
    seconds = {n: each.seconds for n, each in zip(names, found.cost.group_costs, strict=True)}
    starts = {turn.group.cells[0].name: turn.start for turn in found.turns}
    assert starts == {
        "baseA": 0.0,
        "R2B": 0.0,
        "A1B": seconds["baseA"],
        "A2B+": pytest.approx(max(seconds["baseA"], seconds["R2B"])),
    }
    text = text_of(found)
    assert f"estimated time      {duration(found.makespan)} with 2 workers" in text
    assert "assumed speed       0.0 GFLOP/s" in text and "measured speed" not in text
    assert text.count("\n  worker ") == 2
    for group in found.plan:
        assert f"{group.cells[0].name}" in text.split("schedule of 2 workers")[1]
    with pytest.raises(ValueError, match="assumed_tflops=-3"):
        assumed(-3.0)
    with pytest.raises(ValueError, match="workers=0: expected at least 1"):
        planned(assumed_tflops=1.0, workers=0)


def test_a_group_may_take_several_workers(without_training):
    alone = planned(["R1B", "baseB"], assumed_tflops=1e-6)
    together = planned(["R1B", "baseB"], assumed_tflops=1e-6, workers=4, width=lambda group: 4)
    assert together.makespan == pytest.approx(alone.makespan / 4)
    assert together.cost.seconds == alone.cost.seconds
    text = text_of(together)
    assert "schedule of 4 workers: 100% of their time" in text and "workers 0..3" in text


def test_a_long_schedule_is_cut_in_the_middle(without_training):
    names = [f"{s}{n}B+" for s in "AB" for n in (1, 2, 3)] + [f"R{n}B" for n in (1, 2, 3)]
    runs = [c for seed in (0, 1) for c in (small_grid.cell(
        name, network=small.network(), seed=seed) for name in names)]  # fmt: skip
    plan = build_plan(runs)
    found = forecast(plan, DataSupply([PICTURES], RUNTIME), RUNTIME, assumed_tflops=1e-6)
    lines = text_of(found).split("schedule of 1 worker: 100% of their time is used\n")[1]
    assert f"... {len(plan) - 12} more groups ..." in lines and lines.count("worker 0") == 1 + 12
    lines = text_of(found, whole_schedule=True).split("schedule of 1 worker")[1]
    assert "more groups" not in lines and lines.count("worker 0") == 1 + len(plan)


def test_streamed_images_need_cores(without_training):
    known = outline(DatasetSpec("tfds", name="imagenet2012", image_size=16))
    pictures = dataclasses.replace(known, name="pictures", class_names=tuple("abcd"))
    runtime = dataclasses.replace(RUNTIME, data_mode="stream")
    plan = build_plan(cells(["baseA"]))
    found = forecast(plan, DataSupply([pictures], runtime), runtime, assumed_tflops=1.0)
    values = {row.title: row for row in rows(found)}
    rate = 1e12 / small.network().train_flops()
    assert f"{rate:,.0f} a second in training on average" in values["images"].value
    assert values["decoding"].origin == "measured here"
    cores = rate / found.decoding.images_per_second
    assert values["CPU cores"].value.startswith(f"{cores:,.1f} for each worker")
    assert "1,331,167 images of pictures" in values["prepared images"].value


def test_the_page_says_where_each_number_comes_from(without_training):
    found = planned(assumed_tflops=1.0, remarks=("Planned without images.",))
    page = page_of(found, "What a small grid costs", "python -m something", ["Machine: this."])
    assert page.startswith("# What a small grid costs\n")
    for row in rows(found):
        assert f"| {row.title.strip()} | {row.value} | {row.origin} |" in page
    for words in ("python -m something", "Machine: this.", "Planned without images.", "worker 0"):
        assert words in page
    assert {row.origin for row in rows(found)} >= {"counted", "assumed", "schedule"}


def test_durations():
    assert [duration(s) for s in (90, 7199, 7200, 72 * 3600)] == [
        "1.5 minutes",
        "120.0 minutes",
        "2.0 hours",
        "3.0 days",
    ]
