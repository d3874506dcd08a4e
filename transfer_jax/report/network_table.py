"""A network's layers as a table, from what cell.json records of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transfer_jax.report.tables import Table

WORDS = {"Relu": "ReLU", "LocalResponseNorm": "normalisation", "Dropout": "dropout"}


def layer_table(network: Mapping[str, Any], caption: str) -> Table:
    """Kernel, stride, maps, what follows, output size and parameters of each layer.

    Args:
      network: `network` of cell.json: input_size and layers, in order.
      caption: what comes before the total number of parameters.

    Returns:
      The table. Sizes follow Caffe: convolutions round down, pooling rounds up (unless it says
      that it rounds down) and drops a last window that would begin beyond the padded input.
    """
    side, channels, inputs, total = network["input_size"], 3, None, 0
    rows = [("input", "", "", "3", "", f"{side} x {side}", "")]
    for layer in network["layers"]:
        if layer["type"] == "Conv":
            kernel, groups = layer["kernel"], layer["groups"]
            side = (side + 2 * layer["padding"] - kernel) // layer["stride"] + 1
            count = kernel**2 * (channels // groups) * layer["features"]
            form = f"{kernel} x {kernel}" + (f", {groups} groups" if groups > 1 else "")
            sizes, stride = [f"{side} x {side}"], str(layer["stride"])
        else:
            inputs = side**2 * channels if inputs is None else inputs
            count, form, sizes, stride = inputs * layer["features"], "dense", [], ""
            inputs = layer["features"]
        channels, words = layer["features"], []
        for after in layer["then"]:
            if after["type"] == "MaxPool":
                side = _pooled(side, after)
                sizes.append(f"{side} x {side}")
                words.append(f"max-pool {after['window']}/{after['stride']}")
            elif after["type"] == "AdaptiveAvgPool":
                side = after["size"]
                sizes.append(f"{side} x {side}")
                words.append(f"average-pool to {side} x {side}")
            else:
                rate = f" {after['rate']:g}" if "rate" in after else ""
                words.append(WORDS.get(after["type"], after["type"]) + rate)
        count += layer["features"]
        total += count
        shape = ", then ".join(sizes) or "1"
        maps = f"{layer['features']:,}"
        rows.append((layer["name"], form, stride, maps, ", ".join(words), shape, f"{count:,}"))
    rows.append(("all layers", "", "", "", "", "", f"{total:,}"))
    header = ("layer", "kernel", "stride", "maps or units", "then", "output", "parameters")
    return Table(header, tuple(rows), caption, words=frozenset({0, 1, 4, 5}))


def _pooled(side: int, pool: Mapping[str, int]) -> int:
    padding, stride = pool["padding"], pool["stride"]
    if not pool.get("round_up", True):
        return (side + 2 * padding - pool["window"]) // stride + 1
    count = -(-(side + 2 * padding - pool["window"]) // stride) + 1
    return count - 1 if (count - 1) * stride >= side + padding else count
