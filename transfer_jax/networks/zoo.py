"""The built-in networks, by functions that all take

num_classes: logits of the last layer;
dropout: the rate of its dropout layers;
input_size: pixels, one side of a square or (height, width);
width: a factor on the maps and units of all layers but the last, to whole multiples of 16;
widths: layer name -> output maps or units, to change some, as {'fc6': 2048};
remove: names of layers to leave out with their pooling (Zeiler & Fergus 2013, Table 3).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

from transfer_jax.networks.layers import (
    AdaptiveAvgPool,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Relu,
)
from transfer_jax.networks.network import Network

RELU, POOL, NORM = Relu(), MaxPool(3, 2), LocalResponseNorm()


def caffenet(num_classes: int = 1000, *, dropout=0.5, input_size=227, **changes) -> Network:
    """Caffe's reference model, which Yosinski et al. 2014 trained: pools before it normalises."""
    layers = _alexnet_layers(num_classes, (RELU, POOL, NORM), dropout)
    return _network("caffenet", input_size, layers, **changes)


def alexnet(num_classes: int = 1000, *, dropout=0.5, input_size=227, **changes) -> Network:
    """AlexNet as in Krizhevsky et al. 2012 and BVLC's model, whose initial biases of 0.1 it has:
    those of 1 in the paper gave a flat loss there. Normalises before it pools."""
    layers = _alexnet_layers(num_classes, (RELU, NORM, POOL), dropout, bias=0.1)
    return _network("alexnet", input_size, layers, **changes)


def torchvision_alexnet(
    num_classes: int = 1000, *, dropout=0.5, input_size=224, **changes
) -> Network:
    """AlexNet as torchvision has it (Krizhevsky 2014, one tower): 64-192-384-256-256 maps.

    No groups, no normalisation; pooling rounds down; means over 6 x 6 windows lead into fc6, so
    that images of any size fit the same weights; dropout stands before fc6 and before fc7.
    """
    pool, drop = MaxPool(3, 2, round_up=False), Dropout(dropout)
    layers = (
        Conv("conv1", 64, 11, stride=4, padding=2, then=(RELU, pool)),
        Conv("conv2", 192, 5, padding=2, then=(RELU, pool)),
        Conv("conv3", 384, 3, padding=1, then=(RELU,)),
        Conv("conv4", 256, 3, padding=1, then=(RELU,)),
        Conv("conv5", 256, 3, padding=1, then=(RELU, pool, AdaptiveAvgPool(6), drop)),
        Dense("fc6", 4096, then=(RELU, drop)),
        Dense("fc7", 4096, then=(RELU,)),
        Dense("fc8", num_classes),
    )
    return _network("torchvision_alexnet", input_size, layers, **changes)


def zfnet(num_classes: int = 1000, *, dropout=0.5, input_size=224, **changes) -> Network:
    """The network of Zeiler & Fergus 2013, Figure 3: dense connections, no groups.

    Padding of 1 before conv1 and 0 before conv2, with pooling that rounds up, gives the paper's
    maps: 110, 55, 26, 13, 13, 13, 13, 6.
    """
    drop, std = (RELU, Dropout(dropout)), 0.01
    layers = (
        Conv("conv1", 96, 7, stride=2, padding=1, weight_std=std, then=(RELU, POOL, NORM)),
        Conv("conv2", 256, 5, stride=2, weight_std=std, then=(RELU, POOL, NORM)),
        Conv("conv3", 384, 3, padding=1, weight_std=std, then=(RELU,)),
        Conv("conv4", 384, 3, padding=1, weight_std=std, then=(RELU,)),
        Conv("conv5", 256, 3, padding=1, weight_std=std, then=(RELU, POOL)),
        Dense("fc6", 4096, weight_std=std, then=drop),
        Dense("fc7", 4096, weight_std=std, then=drop),
        Dense("fc8", num_classes, weight_std=std),
    )
    return _network("zfnet", input_size, layers, **changes)


def alexnet_mini(num_classes: int = 100, *, dropout=0.5, input_size=32, **changes) -> Network:
    """AlexNet for 32 x 32 images: eight layers, with its groups, pooling and normalisation.

    Maps of 16, 8, 8, 8, 4; 15.5 million multiply-adds an image; initial weights are He et al.'s.
    """
    pooled, drop = (RELU, POOL, NORM), (RELU, Dropout(dropout))
    layers = (
        Conv("conv1", 24, 5, padding=2, then=pooled),
        Conv("conv2", 64, 5, padding=2, groups=2, then=pooled),
        Conv("conv3", 96, 3, padding=1, then=(RELU,)),
        Conv("conv4", 96, 3, padding=1, groups=2, then=(RELU,)),
        Conv("conv5", 64, 3, padding=1, groups=2, then=(RELU, POOL)),
        Dense("fc6", 512, then=drop),
        Dense("fc7", 512, then=drop),
        Dense("fc8", num_classes),
    )
    return _network("alexnet_mini", input_size, layers, **changes)


def deep(num_classes: int = 100, *, depth, dropout=0.5, input_size=32, **changes) -> Network:
    """Four stages of 3 x 3 convolutions with 16, 48, 64, 64 maps and three dense layers, `depth`
    weight layers in all: the network of eight with more convolutions in its stages, as the series
    of Azizpour et al. 2014, for 32 x 32 images.

    Stages 1, 2 and 4 end in 2 x 2 pooling, so that maps are of 16, 8, 8, 4 as in `alexnet_mini`.
    Layers are conv1_1, ..., fc6, fc7, fc8; initial weights are He et al.'s.

    Without normalisation the deeper ones are slow to start. Of 40 classes of the world, half as
    wide, by AdamW at 0.002, 2,000 batches of 32 leave deep8 at 53 %, deep13 at 47 % and deep16 at
    36 %; 600 leave deep11 at 23 % and deep13 at 17 %.
    """
    pool, drop, layers = MaxPool(2, 2), (RELU, Dropout(dropout)), []
    for stage, (count, maps) in enumerate(zip(DEPTHS[depth], (16, 48, 64, 64), strict=True), 1):
        for i in range(1, count + 1):
            then = (RELU, pool) if i == count and stage != 3 else (RELU,)
            layers.append(Conv(f"conv{stage}_{i}", maps, 3, padding=1, then=then))
    layers += [Dense("fc6", 512, then=drop), Dense("fc7", 512, then=drop)]
    layers.append(Dense("fc8", num_classes))
    return _network(f"deep{depth}", input_size, tuple(layers), **changes)


DEPTHS = {8: (1, 1, 1, 2), 11: (1, 2, 2, 3), 13: (2, 2, 3, 3), 16: (2, 3, 4, 4)}
"""Weight layers of `deep` -> convolutions in each stage."""

BUILT_IN = {
    **{f.__name__: f for f in (caffenet, alexnet, torchvision_alexnet, zfnet, alexnet_mini)},
    **{f"deep{depth}": functools.partial(deep, depth=depth) for depth in DEPTHS},
}


def adapted(network: Network, cut: str, hidden: Sequence[int], num_classes: int) -> Network:
    """A network up to and with layer `cut`, under new adaptation layers: FCa, ... with ReLUs, of
    the widths `hidden`, and FCb, the logits (Oquab et al. 2014, section 3.1: on fc7, of 2048).

    Example:
      >>> adapted(caffenet(), 'fc7', (2048,), 21).layer_names[-3:]
      ('fc7', 'fca', 'fcb')
    """
    kept = network.layers[: network.position(cut, 0) + 1]
    names = ["fca", *(f"fca{i}" for i in range(2, len(hidden) + 1))]
    new = (Dense(name, width, then=(RELU,)) for name, width in zip(names, hidden, strict=False))
    layers = (*kept, *new, Dense("fcb", num_classes))
    return Network(f"{network.name}_{cut}", network.input_size, layers)


def build(name: str, **arguments) -> Network:
    """Builds a built-in network by name, as configs do: build('caffenet', num_classes=500)."""
    if name not in BUILT_IN:
        raise ValueError(f"network {name!r} is unknown; expected one of {sorted(BUILT_IN)}")
    try:
        return BUILT_IN[name](**arguments)
    except TypeError as error:
        raise ValueError(f"network {name!r}: {error}") from error


def _alexnet_layers(num_classes, pooled, dropout, bias=1.0):
    drop, std = (RELU, Dropout(dropout)), 0.01
    return (
        Conv("conv1", 96, 11, stride=4, weight_std=std, then=pooled),
        Conv("conv2", 256, 5, padding=2, groups=2, weight_std=std, bias=bias, then=pooled),
        Conv("conv3", 384, 3, padding=1, weight_std=std, then=(RELU,)),
        Conv("conv4", 384, 3, padding=1, groups=2, weight_std=std, bias=bias, then=(RELU,)),
        Conv("conv5", 256, 3, padding=1, groups=2, weight_std=std, bias=bias, then=(RELU, POOL)),
        Dense("fc6", 4096, weight_std=0.005, bias=bias, then=drop),
        Dense("fc7", 4096, weight_std=0.005, bias=bias, then=drop),
        Dense("fc8", num_classes, weight_std=std),
    )


def _network(name, input_size, layers, width=1, widths=None, remove=()) -> Network:
    changeable, widths = [layer.name for layer in layers[:-1]], dict(widths or {})
    if unknown := {*widths, *remove} - {*changeable}:
        raise ValueError(
            f"{name}: no layers {sorted(unknown)} to change or remove among {changeable} "
            f"({layers[-1].name} is set by num_classes)"
        )
    for rate in [a.rate for layer in layers for a in layer.then if isinstance(a, Dropout)]:
        if not 0 <= rate < 1:
            raise ValueError(f"{name}: dropout={rate} is outside [0, 1)")
    if width != 1:
        scaled = {layer.name: max(1, round(width * layer.features / 16)) for layer in layers[:-1]}
        widths = {**{name: 16 * steps for name, steps in scaled.items()}, **widths}
    kept = tuple(
        dataclasses.replace(layer, features=int(widths.get(layer.name, layer.features)))
        for layer in layers
        if layer.name not in remove
    )
    for layer in kept:
        if not 1 <= layer.features <= 2**20:
            raise ValueError(
                f"{name}: widths of {layer.name}={layer.features}: expected 1..{2**20}"
            )
    size = tuple(input_size) if isinstance(input_size, Sequence) else int(input_size)
    return Network(name, size, kept)
