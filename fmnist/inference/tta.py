"""Test-time augmentation: average a network's probabilities over variants of each image.

Probabilities are averaged, as in Krizhevsky et al. 2012 and Simonyan and Zisserman 2015, so that all variants count
equally. In a mean of logits, the variant that the network is most confident about would dominate.
"""

from collections.abc import Iterator
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.networks.ensemble import log_mean_probabilities

Kind = Literal["flip", "shift", "flip_shift"]

_SHIFTS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))  # rows down, columns to the right


class TestTimeAugmentation(nn.Module):
    """Applies a network to several variants of each image.

    Args:
        network: From raw pixels [B, C, H, W] to logits [B, num_classes], in evaluation mode.
        kind: Which variants, see ``variants``.
    """

    def __init__(self, network: nn.Module, kind: Kind) -> None:
        super().__init__()
        self.network = network
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels to log mean probabilities [B, num_classes]: logits whose softmax is the mean."""
        return log_mean_probabilities([self.network(variant) for variant in variants(images, self.kind)])


def variants(images: Tensor, kind: Kind) -> Iterator[Tensor]:
    """Yields the images and variants of them, each [B, C, H, W].

    Args:
        images: [B, C, H, W].
        kind: ``flip``: also mirrored, left to right (2 variants). ``shift``: also moved by one pixel up, down, left and
            right, filled with black (5). ``flip_shift``: these and their mirror images (10).
    """
    height, width = images.shape[2:]
    padded = F.pad(images, [1] * 4)
    for row, column in _SHIFTS if "shift" in kind else _SHIFTS[:1]:
        moved = padded[:, :, 1 - row : 1 - row + height, 1 - column : 1 - column + width]
        yield moved
        if "flip" in kind:
            yield moved.flip(3)
