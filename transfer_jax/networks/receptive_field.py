"""Which pixels a unit can see, computed from the network's layer tuple."""

from __future__ import annotations

import dataclasses
import itertools

from transfer_jax.networks.layers import AdaptiveAvgPool, Conv, Dense, MaxPool, RoiPool
from transfer_jax.networks.network import Network


@dataclasses.dataclass(frozen=True)
class ReceptiveField:
    """Where the units of a layer's output look, in pixels.

    Unit i sees `size` pixels from offset + i * stride on, as far as the image reaches; the size may
    be larger than the image, the offset negative where layers pad. There are `units` (rows,
    columns); dense layers have a stride of 0 and (1, 1) units. `limit` is the (bottom, right),
    excluded, of what any unit sees: the image's sides unless strides leave over pixels.
    """

    size: int
    stride: int
    offset: int
    units: tuple[int, int]
    limit: tuple[int, int]

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """(top, left, bottom, right), the last two excluded, of what a unit sees.

        Example:
          >>> receptive_field(caffenet(), 'conv2').box(0, 1)
          (0, 0, 51, 67)
        """
        starts = [self.offset + index * self.stride for index in (row, column)]
        edges = [*starts, *(start + self.size for start in starts)]
        return tuple(
            min(max(edge, 0), limit) for edge, limit in zip(edges, self.limit * 2, strict=True)
        )


def receptive_field(network: Network, layer: str) -> ReceptiveField:
    """The pixels that units of a layer's output depend on, its pooling counted.

    Dense units see all that the layers below see. Average pooling over windows of several sizes,
    as of 8 pixels to 6, has no single field for its units and is a ValueError, as are regions.

    Example:
      >>> field = receptive_field(caffenet(), 'conv5')
      >>> field.size, field.stride, field.offset
      (195, 32, -64)
    """
    units = limit = network.input_shape[:2]
    size, stride, offset = 1, 1, 0
    layers = network.layers[: network.position(layer, 0) + 1]
    for one, above in zip(layers, (*layers[1:], None), strict=True):
        if isinstance(one, Dense):
            size, stride, offset, units = max(limit), 0, 0, (1, 1)
            continue
        for operation in (one, *one.then):
            if isinstance(operation, AdaptiveAvgPool) and isinstance(above, Dense):
                continue  # its windows cover the map, and dense layers see all of it
            if isinstance(operation, RoiPool):
                raise ValueError(f"{network.name}: {one.name} pools regions of any size")
            if not isinstance(operation, Conv | MaxPool | AdaptiveAvgPool):
                continue
            window, step, padding, units = _geometry(operation, units)
            size += (window - 1) * stride
            offset -= padding * stride
            stride *= step
            # A window may hang over the map below, but sees no further than that map did.
            ends = [offset + (n - 1) * stride + size for n in units]
            limit = tuple(min(pair) for pair in zip(limit, ends, strict=True))
    return ReceptiveField(size, stride, offset, units, limit)


def _geometry(operation: Conv | MaxPool | AdaptiveAvgPool, units: tuple[int, int]):
    if isinstance(operation, Conv):
        after = operation.product_shape((*units, 0))[:2]
        return operation.kernel, operation.stride, operation.padding, after
    if isinstance(operation, MaxPool):
        after = tuple(operation.windows(n) for n in units)
        return operation.window, operation.stride, operation.padding, after
    windows, steps = set(), set()
    for spans in map(operation.spans, units):
        windows |= {end - start for start, end in spans}
        steps |= {b[0] - a[0] for a, b in itertools.pairwise(spans)}
    if len(windows) > 1 or len(steps) > 1:
        raise ValueError(f"maps of {units} averaged to {operation.size} have windows of many sizes")
    return windows.pop(), (steps or {1}).pop(), 0, (operation.size,) * 2
