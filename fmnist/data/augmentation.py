"""Random flips and shifts of whole training batches, on raw pixels. See also ``erasing`` and ``mixing``."""

from abc import ABC, abstractmethod
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fmnist.data.batches import Batch, BatchContext
from fmnist.data.seeding import Stream, derive_seed


class Augmentation(ABC):
    """Changes the images of a batch at random."""

    @abstractmethod
    def __call__(self, batch: Batch, context: BatchContext, generator: Generator) -> Batch:
        """Returns a batch of the same size.

        Args:
            batch: As in the data set, or as the augmentations before this one left it.
            context: Seed, epoch, number and sample indices of the batch.
            generator: The source of all random numbers that are no function of the context.
        """


class Flip(Augmentation):
    """Mirrors images left to right.

    Args:
        alternating: False mirrors each image with probability 1/2. True mirrors one half of the training set in even
            epochs and the other half in odd epochs, so that two consecutive epochs show every image both ways
            (Jordan 2024, https://arxiv.org/abs/2404.00498).
    """

    def __init__(self, *, alternating: bool = False) -> None:
        self.alternating = alternating

    def __call__(self, batch: Batch, context: BatchContext, generator: Generator) -> Batch:
        images, targets = batch
        if self.alternating:
            half = _half(context.seed, context.set_size, images.device)[context.indices]
            mirrored = (half + context.epoch) % 2 == 0
        else:
            mirrored = torch.rand(len(images), device=images.device, generator=generator) < 0.5
        return torch.where(mirrored[:, None, None, None], images.flip(3), images), targets


class Shift(Augmentation):
    """Moves each image by a random number of whole pixels: a random crop of the padded image.

    Args:
        pixels: Largest shift in each direction, at least 0 and below the size of the images.
        reflect: Pads with the image's reflection at its border; False pads with black.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, *, pixels: int = 2, reflect: bool = False) -> None:
        if pixels < 0:
            raise ValueError(f"pixels must be at least 0, got {pixels}")
        self.pixels = pixels
        self.reflect = reflect

    def __call__(self, batch: Batch, context: BatchContext, generator: Generator) -> Batch:
        images, targets = batch
        batch_size, _, height, width = images.shape
        device = images.device
        if self.pixels >= min(height, width):
            raise ValueError(f"pixels must be below the size of the images, {min(height, width)}, got {self.pixels}")
        padded = F.pad(images, [self.pixels] * 4, mode="reflect" if self.reflect else "constant")
        # Every window is a view of the padded image; choosing one per image is a single indexing operation.
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, S, S, H, W]
        row, column = torch.randint(2 * self.pixels + 1, (2, batch_size), device=device, generator=generator)
        return windows[torch.arange(batch_size, device=device), :, row, column], targets


@lru_cache(maxsize=1)
def _half(seed: int, set_size: int, device: torch.device) -> Tensor:
    """The half of the training set that each image belongs to, 0 or 1, int64 [set_size]; depends on the seed."""
    generator = torch.Generator().manual_seed(derive_seed(Stream.HALVES, seed))
    return (torch.randperm(set_size, generator=generator) % 2).to(device)
