"""Random flips and shifts of whole training batches, on raw pixels.

See also ``fmnist.data.erasing`` and ``fmnist.data.mixing``.
"""

from abc import ABC, abstractmethod
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fmnist.data.batches import Batch, Place
from fmnist.data.files import TRAIN_SIZE
from fmnist.data.seeding import Stream, derive_seed


class Augmentation(ABC):
    """Changes the images of a batch at random."""

    @abstractmethod
    def __call__(self, batch: Batch, place: Place, generator: Generator) -> Batch:
        """From a batch to one of the same kind and size.

        Args:
            batch: As it is in the data set, or as other augmentations have left it.
            place: Where in the training it comes.
            generator: Whatever is random is drawn from it, or is a function of the place.
        """


class Flip(Augmentation):
    """Mirrors images, left to right.

    Args:
        alternating: False mirrors each image with probability 1/2. True mirrors a half of the training set in even
            epochs and the other half in odd ones, so that any two consecutive epochs show every image both ways
            (Jordan 2024, https://arxiv.org/abs/2404.00498).
    """

    def __init__(self, *, alternating: bool = False) -> None:
        self.alternating = alternating

    def __call__(self, batch: Batch, place: Place, generator: Generator) -> Batch:
        images, targets = batch
        if self.alternating:
            mirrored = (_half(place.seed, images.device)[place.indices] + place.epoch) % 2 == 0
        else:
            mirrored = torch.rand(len(images), device=images.device, generator=generator) < 0.5
        return torch.where(mirrored[:, None, None, None], images.flip(3), images), targets


class Shift(Augmentation):
    """Moves each image by some whole pixels: a random crop of the padded image.

    Args:
        pixels: Most pixels to move by, in each direction, from 0 to 27.
        reflect: Whether what comes into view is the image's own reflection at its border; else it is black, as the
            background of this data set is.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, *, pixels: int = 2, reflect: bool = False) -> None:
        if not 0 <= pixels < 28:
            raise ValueError(f"pixels must be from 0 to 27, got {pixels}")
        self.pixels = pixels
        self.reflect = reflect

    def __call__(self, batch: Batch, place: Place, generator: Generator) -> Batch:
        images, targets = batch
        batch_size, _, height, width = images.shape
        device = images.device
        padded = F.pad(images, [self.pixels] * 4, mode="reflect" if self.reflect else "constant")
        # Every position of the window is a view of the padded image; picking one for each image is one indexing.
        windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # [B, C, S, S, H, W]
        row, column = torch.randint(2 * self.pixels + 1, (2, batch_size), device=device, generator=generator)
        return windows[torch.arange(batch_size, device=device), :, row, column], targets


class Identity(Augmentation):
    """Changes nothing; older runs name it, which have one node and not several by name."""

    def __call__(self, batch: Batch, place: Place, generator: Generator) -> Batch:
        return batch


class FlipAndShift(Augmentation):
    """``Flip`` and ``Shift``; older runs name it, which have one node and not several by name.

    Args:
        flip: Whether to mirror, with probability 1/2.
        shift: Most pixels to move by.
    """

    def __init__(self, *, flip: bool = True, shift: int = 2) -> None:
        self.parts = [*([Flip()] if flip else []), Shift(pixels=shift)]

    def __call__(self, batch: Batch, place: Place, generator: Generator) -> Batch:
        for part in self.parts:
            batch = part(batch, place, generator)
        return batch


@lru_cache(maxsize=1)
def _half(seed: int, device: torch.device) -> Tensor:
    """Which half of the official training set an image is in, 0 or 1, int64 [60000]; another one for each seed."""
    generator = torch.Generator().manual_seed(derive_seed(Stream.HALVES, seed))
    return (torch.randperm(TRAIN_SIZE, generator=generator) % 2).to(device)
