"""Costs against arithmetic by hand, from the shapes that CaffeNet's authors gave."""

import dataclasses

import pytest

from transfer_jax.data.dataset_spec import DatasetSpec
from transfer_jax.data.outline import outline
from transfer_jax.data.tasks import subset_task, whole_task
from transfer_jax.grid.cell import Cell
from transfer_jax.grid.cost import Decoding, Speed, TaskImages, cost_of
from transfer_jax.grid.plan import build_plan
from transfer_jax.networks import caffenet
from transfer_jax.training.recipe import Recipe
from transfer_jax.training.runtime import Runtime
from transfer_jax.transfer import Treatment

IMAGENET = outline(DatasetSpec("tfds", name="imagenet2012", image_size=256))
IMAGES = TaskImages(50_000, (256, 256, 3), True, IMAGENET.name, 1_331_167)
RECIPE = Recipe()
RUNTIME = Runtime(checkpoint_every=5000)
SPEED = Speed(2e14, "1 accelerator", "assumed", "by the test")
DECODING = Decoding(1000.0, 40_000.0, "by the test")

# Places x outputs x window x inputs of the group.
CONV = [
    55 * 55 * 96 * 11 * 11 * 3,
    27 * 27 * 256 * 5 * 5 * 48,
    13 * 13 * 384 * 3 * 3 * 256,
    13 * 13 * 384 * 3 * 3 * 192,
    13 * 13 * 256 * 3 * 3 * 192,
]
DENSE = [9216 * 4096, 4096 * 4096, 4096 * 1000]
FORWARD = [2 * count for count in CONV + DENSE]
# Weight gradients of all layers, input gradients of all but the first.
TRAIN = 3 * sum(FORWARD) - FORWARD[0]
SEEN = 256 * 450_000
WEIGHTS = [
    96 * 11 * 11 * 3 + 96,
    256 * 5 * 5 * 48 + 256,
    384 * 3 * 3 * 256 + 384,
    384 * 3 * 3 * 192 + 384,
    256 * 3 * 3 * 192 + 256,
    9216 * 4096 + 4096,
    4096 * 4096 + 4096,
    4096 * 1000 + 1000,
]
MEAN = 256 * 256 * 3
FIRST = 96 * 11 * 11 * 3


def cell(treatment="baseW", seed=0, recipe=RECIPE, source=None):
    task = whole_task("W", IMAGENET)
    return Cell(caffenet(1000), task, Treatment.parse(treatment), recipe, seed, source)


def costs(cells, images=IMAGES, speed=SPEED, runtime=RUNTIME, decoding=DECODING, **options):
    plan = build_plan(cells)
    found = {group.hash: images for group in plan}
    return cost_of(plan, found, speed, runtime, decoding=decoding, **options)


def alone(*seeds, **fields):
    return [cell(seed=seed, **fields) for seed in seeds]


def test_operations_of_whole_networks():
    cost = costs(alone(0, 1, 2))
    assert cost.networks == 3
    assert cost.train_flops == TRAIN * SEEN * 3
    # 450 evaluations of 50,000 images.
    assert cost.evaluation_flops == sum(FORWARD) * 450 * 50_000 * 3
    assert cost.seconds == pytest.approx((cost.train_flops + cost.evaluation_flops) / 2e14)
    assert cost.decoded_images == 3 * (SEEN + 450 * 50_000)


def test_operations_of_frozen_cells_count_their_shared_layers_once():
    cost = costs([cell("R2W"), cell("R5W")])
    suffixes = 0
    for n in (2, 5):
        suffix = FORWARD[n:]
        suffixes += 3 * sum(suffix) - suffix[0]
    assert (cost.networks, cost.groups) == (2, 1)
    assert cost.train_flops == (sum(FORWARD[:5]) + suffixes) * SEEN
    once = sum(FORWARD[:5]) + sum(FORWARD[2:]) + sum(FORWARD[5:])
    assert cost.evaluation_flops == once * 450 * 50_000
    # Both see the same images, which are decoded once.
    assert cost.decoded_images == SEEN + 450 * 50_000


def test_ten_crops_and_an_evaluation_after_the_last_step():
    recipe = dataclasses.replace(RECIPE, ten_crop=True, steps=2500)
    cost = costs(alone(0, recipe=recipe))
    assert cost.evaluation_flops == 10 * sum(FORWARD) * 3 * 50_000
    assert cost.decoded_images == 2500 * 256 + 3 * 50_000


def test_images_and_cores():
    whole = 2e14 / TRAIN
    cost = costs(alone(0))
    assert cost.images_per_second == pytest.approx(whole)
    assert cost.cores == pytest.approx(whole / 1000)
    # Less is computed with each image where layers are frozen.
    hungry = 2e14 / (sum(FORWARD) + FORWARD[7])
    mixed = costs([*alone(0), cell("R7W")])
    assert mixed.most_images_per_second == pytest.approx(hungry)
    assert mixed.most_cores == pytest.approx(hungry / 1000) and mixed.hungriest == 1
    assert mixed.images_per_second == pytest.approx(2 / (1 / whole + 1 / hungry))
    faster = costs(alone(0), decoding=dataclasses.replace(DECODING, images_per_second=4000.0))
    assert faster.cores == pytest.approx(cost.cores / 4)


def test_resident_images_take_no_cores():
    cost = costs(alone(0), dataclasses.replace(IMAGES, streamed=False), decoding=None)
    assert (cost.decoded_images, cost.images_per_second, cost.hungriest) == (0, 0.0, None)
    assert cost.cores is None and cost.most_cores is None and cost.prepared_bytes is None


def test_disk():
    base = cell()
    copy = Cell(base.network, base.task, Treatment.parse("W3W", ("W",)), RECIPE, 0, base)
    cost = costs([base, copy])
    assert cost.weight_bytes == 4 * (sum(WEIGHTS) + sum(WEIGHTS[3:]))
    lines = 450_000 // 100 + 450
    assert cost.note_bytes == 2 * (110 * lines + 4 * (MEAN + FIRST))
    # Of a dataset that several groups read, once.
    assert cost.prepared_bytes == 1_331_167 * 40_000


def test_snapshots():
    runtime = dataclasses.replace(RUNTIME, snapshot_steps=(0, 1000, 999_999_999))
    first, second = alone(0, 1)
    snapshots = {first.hash: (1000, 2000), "of another plan": (5,)}
    cost = costs([first, second], runtime=runtime, snapshots=snapshots)
    # The end; of both 0 and 1000; of the first 2000.
    assert cost.weight_bytes == 4 * sum(WEIGHTS) * (2 + 4 + 1)


def test_checkpoints_of_all_workers():
    # Two that are kept and one that is being written, each of weights and momentum.
    one = 4 * sum(WEIGHTS) * 2 * 3
    assert costs(alone(0, 1, 2)).checkpoint_bytes == one
    assert costs(alone(0, 1, 2), groups_at_a_time=2).checkpoint_bytes == 2 * one
    assert costs(alone(0, 1, 2), groups_at_a_time=8).checkpoint_bytes == 3 * one
    adamw = dataclasses.replace(RECIPE, solver="adamw")
    assert costs(alone(0, recipe=adamw)).checkpoint_bytes == one * 3 // 2


def test_host_memory():
    # Weights, a checkpoint of weights and momentum, three batches.
    batch = 256 * 256 * 256 * 3
    assert costs(alone(0)).host_bytes == 4 * sum(WEIGHTS) * 3 + 3 * batch
    workers = dataclasses.replace(RUNTIME, workers=6)
    assert costs(alone(0), runtime=workers).host_bytes == 4 * sum(WEIGHTS) * 3 + 13 * batch


def test_a_program_is_compiled_once():
    slow = dataclasses.replace(SPEED, compile_seconds=60.0)
    cells = [*alone(0, 1), cell("R7W")]
    cost = costs(cells, speed=slow)
    assert cost.programs == 2
    assert cost.compile_seconds == (60.0, 0.0, 60.0)
    assert cost.seconds == pytest.approx(costs(cells).seconds + 120)


def test_experiments():
    half = subset_task("A", IMAGENET, range(500))
    other = Cell(caffenet(500), half, Treatment("A"), RECIPE, 0)
    cells = [*alone(0, 1), other]
    names = {c.hash: f"{name} 0" for c, name in zip(cells, ("one", "one", "two"), strict=True)}
    one, two = costs(cells, names=names).experiments
    assert (one.name, one.networks, two.name, two.networks) == ("one", 2, "two", 1)
    assert one.flops == 2 * (TRAIN * SEEN + sum(FORWARD) * 450 * 50_000)
    lost = 4096 * 500 * 2  # The forward pass of the logits that the half has not.
    assert one.flops // 2 - two.flops == lost * (3 * SEEN + 450 * 50_000)
    # Without names an experiment is what its task is called.
    assert [each.name for each in costs(cells).experiments] == ["W", "A"]
