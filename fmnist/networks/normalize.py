"""Normalisation of raw pixels, as the first layer of every network."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtracts a mean from raw pixels and divides by a standard deviation.

    Both are buffers, so that checkpoints and exports take raw pixels and nobody can forget to normalise.

    Args:
        channels: Channels of the images.
        mean: In pixel values, from 0 to 255, the same for all channels. None waits for ``set_missing``, which training
            calls with the mean of each channel of the training images.
        std: In pixel values, above 0; None as for ``mean``.

    Raises:
        ValueError: ``std`` is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, *, mean: float | None, std: float | None) -> None:
        super().__init__()
        if std is not None and not std > 0:
            raise ValueError(f"pixel_std must be above 0, got {std}")
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(
                name, torch.full((channels, 1, 1), float("nan")) if value is None else torch.tensor(value)
            )

    @property
    def missing(self) -> bool:
        """Whether the mean or the standard deviation waits for ``set_missing``."""
        return bool(self.mean.isnan().any() or self.std.isnan().any())

    def set_missing(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Sets what was None; a standard deviation of 0 becomes 1.

        Args:
            mean: Of each channel, in pixel values.
            std: Likewise.
        """
        for buffer, values in ((self.mean, mean), (self.std, [value or 1.0 for value in std])):
            if buffer.isnan().all():
                buffer.copy_(torch.tensor(values)[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) - self.mean) / self.std
