"""Normalisation of raw pixels, as the first layer of every network."""

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtracts a mean from raw pixels and divides by a standard deviation.

    Both are buffers, so that checkpoints and exports take raw pixels and nobody can forget to normalise.

    Args:
        mean: In pixel values, from 0 to 255.
        std: In pixel values, above 0.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, *, mean: float, std: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("std", torch.tensor(std))

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) - self.mean) / self.std
