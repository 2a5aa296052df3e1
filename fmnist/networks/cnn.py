"""The lesson's network: from raw pixels to logits."""

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.networks.normalize import Normalize


class CNN(nn.Module):
    """The lesson's network: two convolutions, three linear layers, 32,998 parameters.

    Args:
        in_channels: Channels of the images.
        num_classes: Number of logits.
        pixel_mean: Subtracted from each pixel; the lesson subtracts nothing.
        pixel_std: Divides each pixel; the lesson's 255 scales to [0, 1].

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self, *, in_channels: int = 1, num_classes: int = 10, pixel_mean: float = 0.0, pixel_std: float = 255.0
    ) -> None:
        super().__init__()
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got {in_channels}")
        if num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, got {num_classes}")
        self.normalize = Normalize(in_channels, mean=pixel_mean, std=pixel_std)
        self.conv1 = nn.Conv2d(in_channels, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 12, kernel_size=5)
        self.fc1 = nn.Linear(12 * 4 * 4, 120)
        self.fc2 = nn.Linear(120, 60)
        self.out = nn.Linear(60, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels [B, in_channels, 28, 28], uint8 or float from 0 to 255, to logits [B, num_classes]."""
        t = self.normalize(images)
        # ReLU after pooling gives the same values and gradients as before it, for a quarter of the work.
        t = F.relu(F.max_pool2d(self.conv1(t), 2))  # [B, 6, 12, 12]
        t = F.relu(F.max_pool2d(self.conv2(t), 2))  # [B, 12, 4, 4]
        t = t.flatten(1)  # [B, 192]
        t = F.relu(self.fc1(t))  # [B, 120]
        t = F.relu(self.fc2(t))  # [B, 60]
        logits: Tensor = self.out(t)  # [B, num_classes]
        return logits
