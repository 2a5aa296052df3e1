"""The lesson's network: from raw pixels to logits."""

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.networks.normalize import Normalize


class CNN(nn.Module):
    """The lesson's network: two convolutions, three linear layers; 32,998 parameters for Fashion-MNIST.

    Args:
        in_channels: Channels of the images.
        image_size: Height and width of the images, at least 16.
        num_classes: Number of logits.
        pixel_mean: Subtracted from each pixel; the lesson subtracts nothing. None as in ``Normalize``.
        pixel_std: Divides each pixel; the lesson's 255 scales to [0, 1].

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        image_size: int = 28,
        num_classes: int = 10,
        pixel_mean: float | None = 0.0,
        pixel_std: float | None = 255.0,
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}")
        if image_size < 16:
            raise ValueError(f"image_size must be at least 16 for two convolutions and poolings, got {image_size}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.normalize = Normalize(in_channels, mean=pixel_mean, std=pixel_std)
        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 12, kernel_size=5)
        side = ((image_size - 4) // 2 - 4) // 2  # each convolution takes 4 pixels, each pooling halves
        self.fc1 = nn.Linear(12 * side * side, 120)
        self.fc2 = nn.Linear(120, 60)
        self.out = nn.Linear(60, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels [B, C, H, W], uint8 or float from 0 to 255, to logits [B, num_classes]."""
        t = self.normalize(images)
        # ReLU after pooling gives the same values and gradients as before it, for a quarter of the work.
        t = F.relu(F.max_pool2d(self.conv1(t), 2))  # [B, 6, 12, 12] for 28 pixels
        t = F.relu(F.max_pool2d(self.conv2(t), 2))  # [B, 12, 4, 4]
        t = t.flatten(1)  # [B, 192]
        t = F.relu(self.fc1(t))  # [B, 120]
        t = F.relu(self.fc2(t))  # [B, 60]
        logits: Tensor = self.out(t)  # [B, num_classes]
        return logits
