"""What a plan's cost is reckoned from: measured speed of training and of decoding."""

from __future__ import annotations

import dataclasses
import io
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from transfer_jax.data.images import decode_rgb, to_square
from transfer_jax.data.pipeline import select
from transfer_jax.data.tasks import Task
from transfer_jax.grid.cost import Decoding, Speed, TaskImages
from transfer_jax.grid.plan import Group
from transfer_jax.grid.supply import DataSupply
from transfer_jax.training import devices
from transfer_jax.training.recipe import DTYPES
from transfer_jax.training.step import Source, initial_state
from transfer_jax.training.trainer import compiled_train_step

LONGEST_CPU_STEP = 1.5e11
"""Floating-point operations of one step of the warm-up on a CPU: about a second or two."""


def measure(group: Group, image_shape: tuple[int, int, int], steps: int = 10) -> Speed:
    """Trains a group's first cell for a few steps on random pixels, and times them.

    No image is read: what a step costs does not depend on what is to be seen. On a CPU the batch is
    halved until a step takes a second or two.

    Args:
      group: its first cell's network is trained whole, from random weights.
      image_shape: (h, w, 3) of the stored images that views are cut from.
      steps: to be timed at most, after the first; three of them where they take long.

    Returns:
      the fastest step's speed, of one of this process's devices.
    """
    cell = group.cells[0]
    recipe, network = cell.recipe, cell.network
    batch = _warm_up_batch(recipe.batch_size, network.train_flops())
    program = dataclasses.replace(group.program, frozen=(0,))
    state, shared = devices.replicate(initial_state(program, (network.init(jax.random.key(0)),)))
    source, indices = _random_batch(batch, image_shape, network.num_classes, recipe.mean)
    step = compiled_train_step(program, False)
    key = jax.random.key_data(jax.random.key(0))
    times: list[float] = []
    while len(times) < 4 or (len(times) <= steps and sum(times[1:]) < 3):
        start = time.perf_counter()
        state, losses = step(state, shared, source, indices, key)
        jax.block_until_ready(losses)
        times.append(time.perf_counter() - start)
    rate = network.train_flops() * batch / min(times[1:])
    count, kind = devices.num_devices(), jax.devices()[0].device_kind
    several = f" over {count} devices" if count > 1 else ""
    smaller = f" (the recipe has {recipe.batch_size})" if batch != recipe.batch_size else ""
    return Speed(
        flops_per_second=rate / count,
        worker=f"1 x {kind}",
        origin="measured here",
        how=f"{network.name}, base cell {cell.name}, {recipe.dtype}, batch {batch}{smaller}"
        f"{several}, fastest of {len(times) - 1} steps",
        compile_seconds=times[0] - min(times[1:]),
        utilisation=rate / _matrix_product_rate(recipe.dtype),
    )


def assumed(tflops: float) -> Speed:
    """The speed of an accelerator that is not at hand.

    Args:
      tflops: 10**12 floating-point operations a second that it sustains in training.

    Raises:
      ValueError: when that is not a positive number.
    """
    if not 0 < tflops < float("inf"):
        raise ValueError(f"assumed_tflops={tflops}: expected a positive number of TFLOP/s")
    return Speed(tflops * 1e12, f"1 accelerator of {tflops:g} TFLOP/s", "assumed", "by the user")


def measure_decoding(image_size: int, count: int = 128) -> Decoding:
    """Decodes images as they are stored when prepared, on one core, and times it.

    They are made of scikit-learn's two sample photographs: random pieces, of random brightness, at
    the size of a usual photograph of ILSVRC2012, made square as preparation does.

    Args:
      image_size: side length in pixels of the stored images.
      count: how many.
    """
    stored = [to_square(photo, image_size) for photo in _photographs(count)]
    decode_rgb(stored[0])
    fastest = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for image in stored:
            decode_rgb(image)
        fastest = min(fastest, time.perf_counter() - start)
    return Decoding(
        images_per_second=count / fastest,
        bytes_per_image=sum(map(len, stored)) / count,
        how=f"{count} images of {image_size} x {image_size} pixels in one thread, pieces of two "
        "sample photographs",
    )


def task_images(plan: Sequence[Group], supply: DataSupply) -> dict[str, TaskImages]:
    """The images of each group of a plan, by the group's hash. None is read.

    Raises:
      ValueError: when the supply cannot serve a cell, see `DataSupply.check`.
    """
    known: dict[Task, TaskImages] = {}
    found = {}
    for group in plan:
        cell = group.cells[0]
        supply.check(cell)
        if cell.task not in known:
            dataset = supply.dataset(cell)
            origin = dataset
            while hasattr(origin, "base"):
                origin = origin.base
            known[cell.task] = TaskImages(
                num_val=len(select(dataset, "val", cell.task)[0]),
                shape=tuple(dataset.image_shape),
                streamed=not supply.is_resident(cell),
                dataset=origin.name,
                records=sum(origin.num_records.values()),
            )
        found[group.hash] = known[cell.task]
    return found


def _warm_up_batch(batch_size: int, flops_per_image: int) -> int:
    if jax.default_backend() != "cpu":
        return batch_size
    batch = batch_size
    while batch * flops_per_image > LONGEST_CPU_STEP and batch % (2 * devices.num_devices()) == 0:
        batch //= 2
    return batch


def _random_batch(batch: int, image_shape, num_classes: int, mean: str):
    """What a step takes, on the devices already."""
    rng = np.random.default_rng(0)
    count = devices.num_devices()
    zeros = np.zeros(image_shape if mean == "image" else 3, np.float32)
    source = Source(
        devices.split_batch(rng.integers(0, 256, (batch, *image_shape), np.uint8)),
        devices.split_batch(rng.integers(0, num_classes, batch, np.int32)),
        np.broadcast_to(zeros, (count, *zeros.shape)),
    )
    places = np.arange(batch // count, dtype=np.int32)
    arrays = (source, np.broadcast_to(places, (count, *places.shape)))
    return devices.map_over_devices(lambda source, indices: (source, indices))(*arrays)


def _matrix_product_rate(dtype: str) -> float:
    """Floating-point operations a second of a large matrix product, over all devices."""
    on_cpu = jax.default_backend() == "cpu"
    size = 2048 if on_cpu else 8192
    matrix = jnp.ones((size, size), DTYPES[dtype])
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    fastest = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        product(matrix, matrix).block_until_ready()
        fastest = min(fastest, time.perf_counter() - start)
    # A CPU's devices share its cores.
    return 2 * size**3 / fastest * (1 if on_cpu else devices.num_devices())


def _photographs(count: int) -> list[bytes]:
    """JPEGs of about 500 x 375 pixels."""
    from sklearn.datasets import load_sample_images  # Slow to import, and wanted here only.

    rng = np.random.default_rng(0)
    photos, found = load_sample_images().images, []
    for number in range(count):
        photo = photos[number % len(photos)]
        height, width = rng.integers(320, 428), rng.integers(360, 641)
        top = rng.integers(0, photo.shape[0] - height + 1)
        left = rng.integers(0, photo.shape[1] - width + 1)
        piece = photo[top : top + height, left : left + width, :: rng.choice((1, -1))]
        bright = np.clip(piece * rng.uniform(0.7, 1.2), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(bright).save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found
