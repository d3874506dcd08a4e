"""Networks as immutable descriptions with pure functions: `net.init`, `net.apply`, ..."""

from transfer_jax.networks.architectures import alexnet, alexnet_mini, build, caffenet, zfnet
from transfer_jax.networks.description import (
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Relu,
)
from transfer_jax.networks.network import Network, Params

__all__ = [
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
    "zfnet",
]
