"""Random erasing, and masks with one rectangle per image."""

import torch
from torch import Generator, Tensor

from fmnist.data.augmentation import Augmentation
from fmnist.data.batches import Batch, BatchContext


class Erase(Augmentation):
    """Covers a random rectangle of each image (Zhong et al. 2017, https://arxiv.org/abs/1708.04896).

    The rectangle lies inside the image, at every position with the same probability. Its aspect ratio is log-uniform
    over the ratios that fit into the image.

    Args:
        probability: Probability that an image gets a rectangle, from 0 to 1.
        min_area: Smallest area as a fraction of the image, above 0.
        max_area: Largest area as a fraction of the image, from ``min_area`` to 1.
        min_aspect: Smallest ratio of the shorter to the longer side, above 0 and at most 1.
        noise: Fills the rectangle with random pixels; False fills it with black.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        *,
        probability: float = 0.5,
        min_area: float = 0.02,
        max_area: float = 0.4,
        min_aspect: float = 0.3,
        noise: bool = False,
    ) -> None:
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be from 0 to 1, got {probability}")
        if not 0 < min_area <= 1:
            raise ValueError(f"min_area must be above 0 and at most 1, got {min_area}")
        if not min_area <= max_area <= 1:
            raise ValueError(f"max_area must be from min_area, {min_area}, to 1, got {max_area}")
        if not 0 < min_aspect <= 1:
            raise ValueError(f"min_aspect must be above 0 and at most 1, got {min_aspect}")
        self.probability = probability
        self.min_area = min_area
        self.max_area = max_area
        self.min_aspect = min_aspect
        self.noise = noise

    def __call__(self, batch: Batch, context: BatchContext, generator: Generator) -> Batch:
        images, targets = batch
        batch_size, _, height, width = images.shape
        chance, size, shape, row, column = torch.rand(5, batch_size, device=images.device, generator=generator)
        area = (self.min_area + size * (self.max_area - self.min_area)) * height * width
        # Drawn from the ratios that fit; the paper draws again until one fits.
        tallest = (height**2 / area).clamp(max=1 / self.min_aspect)
        widest = (area / width**2).clamp(min=self.min_aspect)
        aspect = widest * (tallest / widest) ** shape
        high = (area * aspect).sqrt().round().clamp(1, height) * (chance < self.probability)  # 0 rows: no rectangle
        wide = (area / aspect).sqrt().round().clamp(1, width)
        top, left = (row * (height - high + 1)).floor(), (column * (width - wide + 1)).floor()
        covered = rectangles(top, top + high, left, left + wide, images)
        if self.noise:
            filling = torch.randint(256, images.shape, dtype=images.dtype, device=images.device, generator=generator)
            return torch.where(covered, filling, images), targets
        return images.masked_fill(covered, 0), targets


def rectangles(top: Tensor, bottom: Tensor, left: Tensor, right: Tensor, images: Tensor) -> Tensor:
    """Masks that are true inside each image's rectangle, bool [B, 1, H, W].

    Args:
        top: First row of each, [B].
        bottom: Row after its last, [B].
        left: First column of each, [B].
        right: Column after its last, [B].
        images: The images, [B, C, H, W].
    """
    rows, columns = (torch.arange(size, device=images.device) for size in images.shape[2:])
    vertical = (rows >= top[:, None]) & (rows < bottom[:, None])  # [B, H]
    horizontal = (columns >= left[:, None]) & (columns < right[:, None])  # [B, W]
    return (vertical[:, :, None] & horizontal[:, None, :])[:, None]
