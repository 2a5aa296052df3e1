"""Networks of torchvision and timm, for images of any number of channels and classes."""

import inspect
from typing import Any

import torchvision
from torch import Tensor, nn

from fmnist.config.suggestion import did_you_mean
from fmnist.networks.normalize import Normalize


class Adapted(nn.Module):
    """A network for normalised images, which gets raw pixels.

    Args:
        network: From normalised images [B, C, H, W] to logits [B, num_classes].
        in_channels: Channels of the images.
    """

    def __init__(self, network: nn.Module, in_channels: int) -> None:
        super().__init__()
        self.normalize = Normalize(in_channels, mean=None, std=None)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels [B, in_channels, image_size, image_size] to logits [B, num_classes]."""
        logits: Tensor = self.network(self.normalize(images))
        return logits


class Torchvision(Adapted):
    """A classification network of torchvision with random weights.

    Args:
        name: One of ``torchvision.models.list_models(torchvision.models)``, such as ``resnet18``.
        in_channels: Channels of the images. If they are not 3, the first convolution is replaced.
        image_size: Height and width of the images, for networks that must know it.
        num_classes: Number of logits.

    Raises:
        ValueError: There is no such network, or it is not possible for such images.
    """

    def __init__(self, *, name: str, in_channels: int = 1, image_size: int = 28, num_classes: int = 10) -> None:
        names = torchvision.models.list_models(torchvision.models)
        if name not in names:
            raise ValueError(f"name: torchvision has no classification network {name}{did_you_mean(name, names)}")
        options: dict[str, Any] = {"num_classes": num_classes}
        if name.startswith("vit_"):
            options["image_size"] = image_size
        if name in ("googlenet", "inception_v3"):
            options |= {"aux_logits": False, "init_weights": True}
        try:
            network = torchvision.models.get_model(name, weights=None, **options)
        except (RuntimeError, AssertionError) as error:  # such as an image size that is no multiple of the patches
            raise ValueError(f"name: {name} is not possible for images of {image_size} pixels: {error}") from error
        if in_channels != 3:
            replace_first_convolution(network, in_channels)
        super().__init__(network, in_channels)


class Timm(Adapted):
    """A network of timm with random weights; needs the package timm.

    Args:
        name: One of ``timm.list_models()``, such as ``resnet18``.
        in_channels: Channels of the images.
        image_size: Height and width of the images, for networks that must know it.
        num_classes: Number of logits.

    Raises:
        ValueError: timm is not installed, there is no such network, or it is not possible for such images.
    """

    def __init__(self, *, name: str, in_channels: int = 1, image_size: int = 28, num_classes: int = 10) -> None:
        try:
            import timm
        except ImportError as error:
            raise ValueError("name: needs the package timm: make setup-extras, or pip install '.[timm]'") from error
        if not timm.is_model(name):
            raise ValueError(f"name: timm has no network {name}{did_you_mean(name, timm.list_models())}")
        options: dict[str, Any] = {"in_chans": in_channels, "num_classes": num_classes}
        try:
            try:
                network = timm.create_model(name, pretrained=False, img_size=image_size, **options)
            except TypeError:  # takes images of any size
                network = timm.create_model(name, pretrained=False, **options)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ValueError(f"name: {name} is not possible for images of {image_size} pixels: {error}") from error
        super().__init__(network, in_channels)


def replace_first_convolution(network: nn.Module, in_channels: int) -> None:
    """Replaces the first convolution by one with other input channels and new random weights.

    Raises:
        ValueError: There is none.
    """
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d):
            kept = set(inspect.signature(nn.Conv2d).parameters) - {"in_channels", "bias", "device", "dtype"}
            options = {option: getattr(layer, option) for option in kept}
            parent = network.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], nn.Conv2d(in_channels, bias=layer.bias is not None, **options))
            return
    raise ValueError("name: the network has no convolution to adapt to the channels of the images")
