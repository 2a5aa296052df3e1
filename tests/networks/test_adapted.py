"""Networks of torchvision and timm, and of any image size."""

import re
from typing import Any

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fmnist.networks.adapted import Timm, Torchvision
from fmnist.networks.cnn import CNN
from fmnist.networks.normalize import Normalize
from fmnist.networks.residual import ResidualCNN


def images(channels: int, size: int) -> torch.Tensor:
    return torch.randint(256, (2, channels, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_network_of_torchvision_takes_any_channels_and_classes(name: str, channels: int) -> None:
    network = Torchvision(name=name, in_channels=channels, num_classes=7).eval()
    assert network(images(channels, 32)).shape == (2, 7)
    original = torchvision.models.get_model(name, weights=None, num_classes=7)
    shapes = [tuple(parameter.shape) for parameter in original.parameters()]
    first = (shapes[0][0], channels, *shapes[0][2:])  # the first convolution alone differs
    assert [tuple(parameter.shape) for parameter in network.network.parameters()] == [first, *shapes[1:]]


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_network_of_timm_takes_any_channels_classes_and_size(name: str) -> None:
    pytest.importorskip("timm", reason="needs make setup-extras")
    network = Timm(name=name, in_channels=1, num_classes=5, image_size=48).eval()
    assert network(images(1, 48)).shape == (2, 5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Torchvision(name="resnet81"),
            "torchvision has no classification network resnet81; did you mean 'resnet",
        ),
        (lambda: Torchvision(name="?"), "torchvision has no classification network [?]$"),
        (lambda: Torchvision(name="vit_b_16", image_size=20), "vit_b_16 is not possible for images of 20 pixels"),
    ],
)
def test_impossible_network_is_rejected(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^name.*{message}"):
        build()


@settings(max_examples=15)
@given(size=st.integers(16, 70), channels=st.integers(1, 3), num_classes=st.integers(2, 12))
def test_lessons_network_takes_any_size_from_16_pixels(size: int, channels: int, num_classes: int) -> None:
    network = CNN(image_size=size, in_channels=channels, num_classes=num_classes)
    assert network(images(channels, size)).shape == (2, num_classes)


@settings(max_examples=15)
@given(size=st.integers(8, 40), channels=st.integers(1, 3), stride=st.integers(1, 2))
def test_residual_network_takes_any_size_from_8_pixels(size: int, channels: int, stride: int) -> None:
    network = ResidualCNN(image_size=size, in_channels=channels, widths=[4, 5, 6], stem_width=2, stem_stride=stride)
    assert network(images(channels, size)).shape == (2, 10)


def test_too_small_images_are_rejected() -> None:
    with pytest.raises(ValueError, match="image_size must be at least 16 for two convolutions and poolings, got 15"):
        CNN(image_size=15)
    message = re.escape("widths must name 1 to 3 blocks, as each halves 8 pixels, got [1, 2, 3, 4]")
    with pytest.raises(ValueError, match=f"^{message}$"):
        ResidualCNN(image_size=8, widths=[1, 2, 3, 4])


def test_missing_statistics_are_set_once_per_channel() -> None:
    normalize = Normalize(2, mean=None, std=None)
    assert normalize(images(2, 3)).isnan().all()
    normalize.set_missing([10, 20], [2, 0])  # a channel of one value has no spread
    assert normalize.missing is False
    normalize.set_missing([99, 99], [99, 99])
    pixels = torch.tensor([14, 21], dtype=torch.uint8)[None, :, None, None]
    assert normalize(pixels).flatten().tolist() == [2, 1]
    weights = nn.Sequential(normalize).state_dict()
    again = nn.Sequential(Normalize(2, mean=None, std=None))
    again.load_state_dict(weights)
    assert again[0](pixels).flatten().tolist() == [2, 1]
