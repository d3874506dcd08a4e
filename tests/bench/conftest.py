import pytest

from transfer_jax.networks import alexnet_mini


@pytest.fixture(scope="session")
def tiny_network():
    """conv1 (normalised and pooled), fc7 (dropout) and fc8: three programs compile in seconds."""
    return alexnet_mini(
        5,
        widths={"conv1": 4, "fc7": 8},
        remove=("conv2", "conv3", "conv4", "conv5", "fc6"),
        input_size=8,
    )
