"""A residual network, for accuracy."""

from collections.abc import Sequence

from torch import Tensor, nn

from fmnist.networks.cosine import MAX_CHANNELS, CosineFilters
from fmnist.networks.normalize import Normalize

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "silu": nn.SiLU, "relu": nn.ReLU}


class Residual(nn.Module):
    """Adds a convolution of its input to its input (https://arxiv.org/abs/1512.03385).

    Args:
        width: Channels, in and out.
        activation: Applied after the batch normalisation.
    """

    def __init__(self, width: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv = _conv(width, width)
        self.norm = nn.BatchNorm2d(width)
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        activated: Tensor = self.activation(self.norm(self.conv(features)))
        return features + activated


class ResidualCNN(nn.Module):
    """A stem, then blocks of two convolutions: the first widens and is pooled, the second is residual.

    Every learned convolution is 3x3 and followed by batch normalisation (https://arxiv.org/abs/1502.03167) and an
    activation. The defaults have 292,666 parameters.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images. Each block halves it, and at least one pixel must remain.
        num_classes: Number of logits.
        pixel_mean: Subtracted from each pixel; None takes the mean of the training images, see ``Normalize``.
        pixel_std: Divides each pixel, above 0; None takes the standard deviation of the training images.
        stem_width: Channels of the stem.
        stem_stride: 1, or 2: the stem halves the image and the first block does not. A step then takes 0.8 of the time.
        fixed_stem: Replaces the learned convolution of the stem and its batch normalisation by ``CosineFilters``: a
            step takes 0.9 of the time. ``stem_width`` must then be even and at most 18.
        widths: Channels of each block.
        activation: ``gelu`` (https://arxiv.org/abs/1606.08415), ``relu``, or ``silu`` (section 2 of the same paper),
            with which a step takes 0.96 of the time.
        dropout: Probability that a feature of the last layer is dropped while training.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        image_size: int = 28,
        num_classes: int = 10,
        pixel_mean: float | None = None,
        pixel_std: float | None = None,
        stem_width: int = 16,
        stem_stride: int = 1,
        fixed_stem: bool = False,
        widths: Sequence[int] = (32, 64, 128),
        activation: str = "gelu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        minimum = {"in_channels": (in_channels, 1), "num_classes": (num_classes, 2), "stem_width": (stem_width, 1)}
        for name, (number, least) in minimum.items():
            if number < least:
                raise ValueError(f"{name} must be at least {least}, got {number}")
        if stem_stride not in (1, 2):
            raise ValueError(f"stem_stride must be 1 or 2, got {stem_stride}")
        if fixed_stem and (stem_width % 2 or stem_width > MAX_CHANNELS):
            raise ValueError(f"stem_width must be even and at most {MAX_CHANNELS} with fixed_stem, got {stem_width}")
        if fixed_stem and in_channels != 1:
            raise ValueError(f"in_channels must be 1 with fixed_stem, got {in_channels}")
        most = image_size.bit_length() - 1
        if not 1 <= len(widths) <= most:
            raise ValueError(f"widths must name 1 to {most} blocks, as each halves {image_size} pixels, got {widths}")
        if not all(type(width) is int and width >= 1 for width in widths):
            raise ValueError(f"widths must be whole numbers of at least 1, got {widths}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {activation}")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
        activate = ACTIVATIONS[activation]
        self.normalize = Normalize(in_channels, mean=pixel_mean, std=pixel_std)
        if fixed_stem:
            self.stem = nn.Sequential(CosineFilters(stem_width, stride=stem_stride), activate())
        else:
            conv = _conv(in_channels, stem_width, stride=stem_stride)
            self.stem = nn.Sequential(conv, nn.BatchNorm2d(stem_width), activate())
        self.blocks = nn.Sequential()
        for number, (before, width) in enumerate(zip([stem_width, *widths], widths, strict=False)):
            halved = number == 0 and stem_stride == 2
            self.blocks.append(
                nn.Sequential(
                    _conv(before, width),
                    # Pooling comes before the normalisation, which then has a quarter of the pixels to process.
                    nn.Identity() if halved else nn.MaxPool2d(2),
                    nn.BatchNorm2d(width),
                    activate(),
                    Residual(width, activate()),
                )
            )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(widths[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels [B, C, H, W], uint8 or float from 0 to 255, to logits [B, num_classes]."""
        t = self.stem(self.normalize(images))  # [B, stem_width, H, W]
        t = self.blocks(t)  # [B, widths[-1], 3, 3] for 28 pixels and three blocks
        t = t.amax(dim=(2, 3))  # [B, widths[-1]]
        logits: Tensor = self.out(self.dropout(t))  # [B, num_classes]
        return logits


def _conv(before: int, after: int, *, stride: int = 1) -> nn.Conv2d:
    # No bias: the batch normalisation that follows would subtract it again.
    return nn.Conv2d(before, after, kernel_size=3, stride=stride, padding=1, bias=False)
