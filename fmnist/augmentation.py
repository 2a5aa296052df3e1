"""What is done to the training images, each in its own way, whole batches at a time, on raw pixels."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Generator, Tensor


class Augmentation(ABC):
    """Changes images at random."""

    @abstractmethod
    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """From images uint8 [B, C, H, W] to images of the same kind; whatever is random is drawn from the generator."""


class Identity(Augmentation):
    """Changes nothing: the lesson's way."""

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        return images


class FlipAndShift(Augmentation):
    """Mirrors each image with probability 1/2, and moves it by some pixels; what comes into view is black.

    Args:
        flip: Whether to mirror, left to right.
        shift: Most pixels to move by, in each direction, at least 0.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, *, flip: bool = True, shift: int = 2) -> None:
        if not 0 <= shift < 28:
            raise ValueError(f"shift must be from 0 to 27 pixels, got {shift}")
        self.flip = flip
        self.shift = shift

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        batch_size, _, height, width = images.shape
        device = images.device
        if self.flip:
            mirrored = torch.rand(batch_size, device=device, generator=generator) < 0.5
            images = torch.where(mirrored[:, None, None, None], images.flip(3), images)
        if self.shift:
            # Every position of the window is a view of the padded image; picking one for each image is one indexing.
            windows = F.pad(images, [self.shift] * 4).unfold(2, height, 1).unfold(3, width, 1)  # [B, C, S, S, H, W]
            row, column = torch.randint(2 * self.shift + 1, (2, batch_size), device=device, generator=generator)
            images = windows[torch.arange(batch_size, device=device), :, row, column]
        return images
