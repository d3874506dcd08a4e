"""The built-in networks. Widths, removed layers, dropout and input size are arguments.

`caffenet` and `alexnet` are the networks of Krizhevsky et al. 2012 as Caffe ships them (Yosinski et
al. 2014 trained the first), `torchvision_alexnet` is PyTorch's, `zfnet` is Zeiler & Fergus 2013,
Figure 3, and `alexnet_mini` has the same eight layers for 32x32 images.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping

from transfer_jax.networks.description import (
    AdaptiveAvgPool,
    After,
    Conv,
    Dense,
    Dropout,
    Layer,
    LocalResponseNorm,
    MaxPool,
    Relu,
)
from transfer_jax.networks.network import Network

POOL, NORM = MaxPool(3, 2), LocalResponseNorm()
INITS = ("caffe", "he", "he_quiet_conv1")


def caffenet(
    num_classes: int = 1000,
    *,
    widths: Mapping[str, int] | None = None,
    remove: Collection[str] = (),
    dropout: float = 0.5,
    input_size: int = 227,
    init: str = "caffe",
) -> Network:
    """Caffe's reference model: AlexNet that pools before it normalises.

    Args:
      num_classes: logits of fc8.
      widths: layer name -> output maps or units, to change some; for instance {'fc6': 2048}.
      remove: names of layers to leave out, with their pooling (Zeiler & Fergus 2013, Table 2).
      dropout: rate after fc6 and fc7.
      input_size: image side in pixels.
      init: 'caffe' (Gaussian of the layer's own std, biases 0 or 1), 'he' (Gaussian of variance
        2 / fan in, biases 0), or 'he_quiet_conv1': as 'he', but the first layer's std is 0.01, so
        that after a short training its filters show what was learned and not what was drawn.

    Returns:
      A Network of 60,965,224 parameters at 1000 classes.
    """
    layers = _alexnet_layers(num_classes, (Relu(), POOL, NORM), dropout)
    return _network("caffenet", input_size, layers, widths, remove, init)


def alexnet(
    num_classes: int = 1000,
    *,
    widths: Mapping[str, int] | None = None,
    remove: Collection[str] = (),
    dropout: float = 0.5,
    input_size: int = 227,
    init: str = "caffe",
) -> Network:
    """AlexNet as in Krizhevsky et al. 2012 and BVLC's model: it normalises before it pools.

    Arguments as in `caffenet`; 60,965,224 parameters at 1000 classes.
    """
    layers = _alexnet_layers(num_classes, (Relu(), NORM, POOL), dropout)
    return _network("alexnet", input_size, layers, widths, remove, init)


def torchvision_alexnet(
    num_classes: int = 1000,
    *,
    widths: Mapping[str, int] | None = None,
    remove: Collection[str] = (),
    dropout: float = 0.5,
    input_size: int = 224,
    init: str = "he",
) -> Network:
    """AlexNet as torchvision has it (Krizhevsky 2014, one tower): 64-192-384-256-256 maps.

    No groups and no normalisation; pooling rounds down; means over 6x6 windows lead into fc6, so
    that any `input_size` has the same weights; dropout stands before fc6 and before fc7.

    Arguments as in `caffenet`, but initial weights are He et al.'s unless init='caffe';
    61,100,840 parameters at 1000 classes.
    """
    pool, drop = MaxPool(3, 2, round_up=False), Dropout(dropout)
    layers = (
        Conv("conv1", 64, 11, stride=4, padding=2, then=(Relu(), pool)),
        Conv("conv2", 192, 5, padding=2, then=(Relu(), pool)),
        Conv("conv3", 384, 3, padding=1, then=(Relu(),)),
        Conv("conv4", 256, 3, padding=1, then=(Relu(),)),
        Conv("conv5", 256, 3, padding=1, then=(Relu(), pool, AdaptiveAvgPool(6), drop)),
        Dense("fc6", 4096, then=(Relu(), drop)),
        Dense("fc7", 4096, then=(Relu(),)),
        Dense("fc8", num_classes),
    )
    return _network("torchvision_alexnet", input_size, layers, widths, remove, init)


def zfnet(
    num_classes: int = 1000,
    *,
    widths: Mapping[str, int] | None = None,
    remove: Collection[str] = (),
    dropout: float = 0.5,
    input_size: int = 224,
    init: str = "caffe",
) -> Network:
    """The network of Zeiler & Fergus 2013, Figure 3; dense connections, no groups.

    conv1 pads its input by 1 and conv2 by 0 pixels, which with pooling that rounds up gives exactly
    the paper's sizes: conv1 110, pool1 55, conv2 26, pool2 13, conv3-5 13, pool5 6. Initial weights
    have a standard deviation of 0.01 and biases are 0 everywhere, as the paper says.

    Arguments as in `caffenet`; 62,357,608 parameters at 1000 classes.
    """
    drop = (Relu(), Dropout(dropout))
    layers = (
        Conv("conv1", 96, 7, stride=2, padding=1, then=(Relu(), POOL, NORM)),
        Conv("conv2", 256, 5, stride=2, then=(Relu(), POOL, NORM)),
        Conv("conv3", 384, 3, padding=1, then=(Relu(),)),
        Conv("conv4", 384, 3, padding=1, then=(Relu(),)),
        Conv("conv5", 256, 3, padding=1, then=(Relu(), POOL)),
        Dense("fc6", 4096, then=drop),
        Dense("fc7", 4096, then=drop),
        Dense("fc8", num_classes),
    )
    return _network("zfnet", input_size, layers, widths, remove, init)


def alexnet_mini(
    num_classes: int = 100,
    *,
    widths: Mapping[str, int] | None = None,
    remove: Collection[str] = (),
    dropout: float = 0.5,
    input_size: int = 32,
    init: str = "he",
) -> Network:
    """AlexNet's eight layers for small images: groups, pooling and normalisation kept.

    Strides are 1 and kernels 5-5-3-3-3, so that 32x32 images leave maps of 16, 8, 8, 8, 4. The
    default widths 24-64-96-96-64 and 512-512 cost 15.5 million multiply-adds an image.

    Arguments as in `caffenet`, but initial weights are He et al.'s unless init='caffe'.
    """
    pooled = (Relu(), POOL, NORM)
    drop = (Relu(), Dropout(dropout))
    layers = (
        Conv("conv1", 24, 5, padding=2, then=pooled),
        Conv("conv2", 64, 5, padding=2, groups=2, bias=1.0, then=pooled),
        Conv("conv3", 96, 3, padding=1, then=(Relu(),)),
        Conv("conv4", 96, 3, padding=1, groups=2, bias=1.0, then=(Relu(),)),
        Conv("conv5", 64, 3, padding=1, groups=2, bias=1.0, then=(Relu(), POOL)),
        Dense("fc6", 512, weight_std=0.005, bias=1.0, then=drop),
        Dense("fc7", 512, weight_std=0.005, bias=1.0, then=drop),
        Dense("fc8", num_classes),
    )
    return _network("alexnet_mini", input_size, layers, widths, remove, init)


BUILT_IN: dict[str, Callable[..., Network]] = {
    "caffenet": caffenet,
    "alexnet": alexnet,
    "torchvision_alexnet": torchvision_alexnet,
    "zfnet": zfnet,
    "alexnet_mini": alexnet_mini,
}


def build(network: str, **arguments) -> Network:
    """Builds a built-in network by name, as configs do: build('caffenet', num_classes=500).

    Raises:
      ValueError: for an unknown name or argument.
    """
    if network not in BUILT_IN:
        raise ValueError(f"network {network!r} is unknown; expected one of {sorted(BUILT_IN)}")
    try:
        return BUILT_IN[network](**arguments)
    except TypeError as error:
        raise ValueError(f"network {network!r}: {error}") from error


def _alexnet_layers(num_classes: int, pooled: tuple[After, ...], dropout: float):
    drop = (Relu(), Dropout(dropout))
    return (
        Conv("conv1", 96, 11, stride=4, then=pooled),
        Conv("conv2", 256, 5, padding=2, groups=2, bias=1.0, then=pooled),
        Conv("conv3", 384, 3, padding=1, then=(Relu(),)),
        Conv("conv4", 384, 3, padding=1, groups=2, bias=1.0, then=(Relu(),)),
        Conv("conv5", 256, 3, padding=1, groups=2, bias=1.0, then=(Relu(), POOL)),
        Dense("fc6", 4096, weight_std=0.005, bias=1.0, then=drop),
        Dense("fc7", 4096, weight_std=0.005, bias=1.0, then=drop),
        Dense("fc8", num_classes),
    )


def _network(
    name: str,
    input_size: int,
    layers: tuple[Layer, ...],
    widths: Mapping[str, int] | None,
    remove: Collection[str],
    init: str,
) -> Network:
    if init not in INITS:
        raise ValueError(f"init={init!r}: expected one of {INITS}")
    names = tuple(layer.name for layer in layers)
    widths = dict(widths or {})
    for asked in (*widths, *remove):
        if asked not in names:
            raise ValueError(f"{name} has no layer {asked!r}; its layers are {names}")
    if names[-1] in remove or names[-1] in widths:
        raise ValueError(f"{name}: the last layer {names[-1]!r} is set by num_classes alone")
    kept = [
        dataclasses.replace(layer, features=int(widths.get(layer.name, layer.features)))
        for layer in layers
        if layer.name not in remove
    ]
    for layer in kept:
        if layer.features < 1:
            raise ValueError(f"{name}: layer {layer.name} has {layer.features} features")
        for after in layer.then:
            if isinstance(after, Dropout) and not 0 <= after.rate < 1:
                raise ValueError(f"{name}: dropout={after.rate} is outside [0, 1)")
    if init != "caffe":
        kept = [dataclasses.replace(layer, weight_std=None, bias=0.0) for layer in kept]
    if init == "he_quiet_conv1":
        kept[0] = dataclasses.replace(kept[0], weight_std=0.01)
    return Network(name, input_size, tuple(kept))
