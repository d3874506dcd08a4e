"""What a detector's training step and its test take, and where it goes."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from transfer_jax.bench.step import our_loop, recipe_for, whole_calls
from transfer_jax.bench.timing import interleave, table
from transfer_jax.detection.boxes import not_suppressed
from transfer_jax.detection.evaluate import MOST, MOST_OVERLAP
from transfer_jax.detection.network import (
    detector,
    judge_regions,
    pool_regions,
    pooling,
    split,
)
from transfer_jax.detection.objective import Detection
from transfer_jax.networks import Network
from transfer_jax.networks.roi_pool import roi_pool
from transfer_jax.training.step import Source

CLASSES, OBJECTS, KEPT = 20, 3, 500


def run(options: argparse.Namespace) -> tuple[str, list[str]]:
    """The page's text; nothing else that its reader must know."""
    network, rows = detector(options.network, CLASSES, options.canvas), []
    for batch_size in options.batch:
        rivals = parts(network, batch_size, options.proposals)
        seconds = interleave(rivals, options.rounds, whole_calls(options.steps or 5))
        for name, found in seconds.items():
            fastest, median = (f(found) / batch_size for f in (np.min, np.median))
            milliseconds = [f"{1e3 * fastest:.2f}", f"{1e3 * median:.2f}"]
            rows.append([name, str(batch_size), *milliseconds, f"{1 / fastest:,.1f}"])
    header = ["", "images", "ms an image, fastest", "median", "images/s, fastest"]
    text = (
        f"# Detectors of {CLASSES} classes on {options.network.name}\n\n"
        f"Noise of {options.canvas} x {options.canvas} pixels with {OBJECTS} objects and "
        f"{options.proposals} proposals an image, of which a step draws {Detection.regions}. Parts "
        f"are programs of their own, forward and backward in training.\n\n{table(header, rows)}"
    )
    return text, []


def parts(network: Network, batch_size: int, proposals: int) -> dict[str, Callable]:
    """What is timed: name -> run(steps)."""
    random, objective = np.random.default_rng(0), Detection()
    recipe, params = recipe_for(network, batch_size, "float32"), network.init(jax.random.key(0))
    low = random.uniform(0, 0.6, (batch_size, proposals, 2))
    boxes = np.concatenate([low, low + random.uniform(0.1, 0.4, low.shape)], -1).astype(np.float32)
    classes = random.integers(0, CLASSES, (batch_size, OBJECTS), np.int32)
    labels = {"proposals": boxes, "objects": boxes[:, :OBJECTS], "classes": classes}
    images = random.integers(0, 256, (batch_size, *network.input_shape), np.uint8)
    keys, mean = jax.random.split(jax.random.key(1), batch_size), np.full(3, 127.5, np.float32)
    data = Source(images, labels, mean), np.arange(batch_size, dtype=np.int32)[None]

    view = jax.jit(lambda: objective.train_view(recipe, images, labels, keys, mean))
    x, drawn = jax.block_until_ready(view())
    regions = pool_regions(network, params, x, 0, drawn["boxes"])
    conv = network.layers[pooling(network)[0]]
    maps = jnp.zeros((batch_size, *conv.product_shape(network.input_shapes[conv.name])))
    size = regions.shape[2]

    def both_ways(function, *inputs):
        gradient = jax.jit(
            jax.grad(lambda *of: function(*of).sum(), argnums=tuple(range(len(inputs))))
        )
        return lambda: gradient(*inputs)

    forward = jax.jit(lambda params: pool_regions(network, params, x, 0, boxes))
    pooled = forward(params)
    above = jax.jit(lambda params: split(judge_regions(network, params, pooled)))
    shown = np.asarray(jax.nn.softmax(above(params)[0]))[..., 1:]

    candidates = []
    for of, scores in zip(boxes, shown, strict=True):
        place, label = np.nonzero(scores >= np.quantile(scores, max(0, 1 - KEPT / scores.size)))
        candidates.append((of[place], scores[place, label], label))

    def suppressed():
        return [not_suppressed(*of, MOST_OVERLAP, MOST) for of in candidates]

    timed = {
        "- regions drawn": view,
        "- maps, and their pooling": both_ways(
            lambda params: pool_regions(network, params, x, 0, drawn["boxes"]), params
        ),
        "- - pooling alone": both_ways(lambda maps: roi_pool(maps, drawn["boxes"], size), maps),
        "- layers above": both_ways(
            lambda params, regions: judge_regions(network, params, regions), params, regions
        ),
        "test: maps, and their pooling": lambda: forward(params),
        "test: layers above": lambda: above(params),
        f"test: suppression of {KEPT} boxes": suppressed,
    }

    def rival(part):
        return lambda steps: [jax.block_until_ready(part()) for _ in range(steps)]

    step = our_loop(network, recipe, (0,), (params,), data, objective)
    return {"training step": step, **{name: rival(part) for name, part in timed.items()}}
