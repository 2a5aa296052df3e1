"""Test-time augmentation: what a network says of an image, averaged over variants of the image.

The mean is of probabilities, as in Krizhevsky et al. 2012 and Simonyan and Zisserman 2015: each variant has the same
say, where in a mean of logits the one that the network is surest of would overrule the others.
"""

from collections.abc import Iterator
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from fmnist.networks.ensemble import log_mean_probabilities

Kind = Literal["flip", "shift", "flip_shift"]

# Rows down and columns to the right.
_STEPS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


class Averaged(nn.Module):
    """A network that looks at several variants of each image.

    Args:
        network: From raw pixels [B, C, H, W] to logits [B, num_classes], in evaluation mode.
        kind: Which variants, see ``variants``.
    """

    def __init__(self, network: nn.Module, kind: Kind) -> None:
        super().__init__()
        self.network = network
        self.kind = kind

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels to logarithms of mean probabilities [B, num_classes]: logits whose softmax they are themselves."""
        return log_mean_probabilities([self.network(variant) for variant in variants(images, self.kind)])


def variants(images: Tensor, kind: Kind) -> Iterator[Tensor]:
    """The images, and variants of all of them, each [B, C, H, W].

    Args:
        images: [B, C, H, W].
        kind: ``flip``: also mirrored, left to right (2 variants). ``shift``: also moved by one pixel up, down, left and
            right, what comes into view being black (5). ``flip_shift``: these and their mirror images (10).
    """
    height, width = images.shape[2:]
    padded = F.pad(images, [1] * 4)
    for row, column in _STEPS if "shift" in kind else _STEPS[:1]:
        moved = padded[:, :, 1 - row : 1 - row + height, 1 - column : 1 - column + width]
        yield moved
        if "flip" in kind:
            yield moved.flip(3)
