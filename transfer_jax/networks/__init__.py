"""Networks as immutable descriptions with pure functions: `net.init`, `net.apply`, ..."""

from transfer_jax.networks.convolutional import as_convolutions, fully_convolutional
from transfer_jax.networks.layers import (
    AdaptiveAvgPool,
    Conv,
    Dense,
    Dropout,
    LocalResponseNorm,
    MaxPool,
    Relu,
    RoiPool,
)
from transfer_jax.networks.network import Network, Params
from transfer_jax.networks.receptive_field import receptive_field
from transfer_jax.networks.zoo import (
    adapted,
    alexnet,
    alexnet_mini,
    build,
    caffenet,
    deep,
    torchvision_alexnet,
    zfnet,
)
