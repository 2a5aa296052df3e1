"""The lesson's network, and the arguments that it has in common with the residual one."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fmnist.networks.cnn import CNN
from fmnist.networks.residual import ResidualCNN


def test_it_computes_what_the_functions_of_torch_make_of_its_weights() -> None:
    network = CNN(in_channels=3, num_classes=4, pixel_mean=5.0, pixel_std=7.0)
    images = torch.randint(256, (6, 3, 28, 28), dtype=torch.uint8)
    weights = network.state_dict()
    t = (images.float() - 5) / 7
    for name in ("conv1", "conv2"):
        t = F.max_pool2d(F.conv2d(t, weights[f"{name}.weight"], weights[f"{name}.bias"]).relu(), 2)
    t = t.flatten(1)
    for name in ("fc1", "fc2", "out"):
        t = F.linear(t if name == "fc1" else t.relu(), weights[f"{name}.weight"], weights[f"{name}.bias"])
    assert t.shape == (6, 4)
    torch.testing.assert_close(network(images), t)
    assert sum(parameter.numel() for parameter in CNN().parameters()) == 32_998
    assert [buffer.item() for buffer in CNN().normalize.buffers()] == [0, 255]


@pytest.mark.parametrize("network", [CNN, ResidualCNN])
@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("in_channels", 0, "in_channels must be at least 1, got 0"),
        ("num_classes", 1, "num_classes must be at least 2, got 1"),
        ("pixel_std", 0.0, "pixel_std must be above 0, got 0.0"),
        ("pixel_std", float("nan"), "pixel_std must be above 0, got nan"),
    ],
)
def test_argument_out_of_range_is_named(network: type[nn.Module], argument: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(**{argument: value})
    network(num_classes=2, pixel_std=0.1)
