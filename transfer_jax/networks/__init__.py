"""Networks as immutable descriptions with pure functions: `net.init`, `net.apply`, ..."""

from transfer_jax.networks.architectures import (
    alexnet,
    alexnet_mini,
    build,
    caffenet,
    torchvision_alexnet,
    zfnet,
)
from transfer_jax.networks.description import (
    AdaptiveAvgPool,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Relu,
)
from transfer_jax.networks.network import Network, Params

__all__ = [
    "AdaptiveAvgPool",
    "Conv",
    "Dense",
    "Dropout",
    "LocalResponseNorm",
    "MaxPool",
    "Network",
    "Params",
    "Relu",
    "alexnet",
    "alexnet_mini",
    "build",
    "caffenet",
    "torchvision_alexnet",
    "zfnet",
]
