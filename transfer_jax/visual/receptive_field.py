"""Which pixels a unit can see, computed from the network's layer tuple."""

from __future__ import annotations

import dataclasses
import itertools
from functools import partial

from transfer_jax.networks import AdaptiveAvgPool, Conv, Dense, MaxPool, Network
from transfer_jax.networks import layers as ops
from transfer_jax.networks.adaptive_pool import adaptive_windows


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """Where the units of one layer's output look, in pixels; the same for rows and columns.

    Unit i sees the pixels from offset + i * stride on, `size` of them, as far as the image reaches.

    Attributes:
      size: height and width before clipping, which may be larger than the image.
      stride: distance between the fields of neighbouring units; 0 in dense layers.
      offset: first pixel of unit 0; negative where the layers below pad.
      units: units along one side of the layer's output; 1 in dense layers.
      limit: end (excluded) of the pixels that any unit sees. It is the image's side unless strides
        leave over pixels at the right and lower border.
    """

    size: int
    stride: int
    offset: int
    units: int
    limit: int

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of what a unit sees, clipped to the image.

        Bottom and right are excluded, so that `image[top:bottom, left:right]` is the patch.

        Raises:
          ValueError: when the layer's output has no such unit.

        Example:
          >>> receptive_field(caffenet(), 'conv2').box(0, 1)
          (0, 0, 51, 67)
        """
        for name, index in (("row", row), ("column", column)):
            if not 0 <= index < self.units:
                raise ValueError(f"{name} {index}: expected 0..{self.units - 1}")
        top, left = (self.offset + index * self.stride for index in (row, column))
        edges = (top, left, top + self.size, left + self.size)
        top, left, bottom, right = (min(max(edge, 0), self.limit) for edge in edges)
        return top, left, bottom, right


def receptive_field(network: Network, layer: str) -> ReceptiveField:
    """The pixels that a unit of a layer's output depends on.

    The output is what leaves the layer after its pooling, so pooling is counted; normalisation acts
    across channels at one place and adds nothing. Units of dense layers see all that the layers
    below see: the whole input.

    Args:
      network: any Network.
      layer: a layer's name.

    Returns:
      A ReceptiveField. Where a stride is larger than its window, units skip pixels within it. No
      unit is expected to lie in padding alone, as with a padding as wide as the window.

    Raises:
      ValueError: for an unknown layer, or where average pooling over windows of several sizes, as
        a map of 8 pixels averaged to 6, gives neighbouring units fields of different kinds.

    Example:
      >>> field = receptive_field(caffenet(), 'conv5')
      >>> field.size, field.stride, field.offset
      (195, 32, -64)
    """
    if layer not in network.layer_names:
        raise ValueError(f"{layer!r} is not a layer of {network.name}: {network.layer_names}")
    units = limit = network.input_size
    size, stride, offset = 1, 1, 0
    layers = network.layers[: network.layer_names.index(layer) + 1]
    for position, one in enumerate(layers):
        if isinstance(one, Dense):
            size, stride, offset, units = limit, 0, 0, 1
            continue
        for operation in (one, *one.then):
            match operation:
                case Conv():
                    window, step, padding = one.kernel, one.stride, one.padding
                    output_size = ops.conv_output_size
                case MaxPool(window, step, padding, round_up):
                    output_size = partial(ops.pool_output_size, round_up=round_up)
                case AdaptiveAvgPool():
                    if isinstance(layers[-1], Dense) and isinstance(layers[position + 1], Dense):
                        continue  # whatever the windows, they cover the map and dense layers see it
                    window, step = _even_windows(one.name, units, operation.size)
                    padding, output_size = 0, ops.conv_output_size
                case _:
                    continue
            units = output_size(units, window, step, padding)
            size += (window - 1) * stride
            offset -= padding * stride
            stride *= step
            # A window may hang over the map below it, but sees no further than that map did.
            limit = min(limit, offset + (units - 1) * stride + size)
    return ReceptiveField(size, stride, offset, units, limit)


def _even_windows(name: str, units: int, size: int) -> tuple[int, int]:
    windows = adaptive_windows(units, size)
    lengths = {last - first for first, last in windows}
    steps = {after[0] - before[0] for before, after in itertools.pairwise(windows)} or {1}
    if len(lengths) > 1 or len(steps) > 1 or steps == {0}:
        raise ValueError(
            f"layer {name}: {units} pixels averaged to {size} have windows of several sizes or "
            "distances, so that no single size and stride describes what its units see"
        )
    return lengths.pop(), steps.pop()
