"""Mixup and CutMix: mix each image and its target with another one of the batch. Targets become probabilities.

The other image is the next one in the batch, whose order is random already. torchvision's MixUp and CutMix draw one
share for the whole batch, and from torch's global generator instead of one that is seeded for the batch.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fmnist.data.augmentation import Augmentation
from fmnist.data.batches import Batch, BatchContext
from fmnist.data.erasing import rectangles
from fmnist.data.torch_internals import sample_beta


class Mixing(Augmentation):
    """Base class of Mixup and CutMix.

    Args:
        alpha: Each image's own share is drawn from Beta(alpha, alpha); above 0. Larger values mix more evenly.
        probability: Probability that an image is mixed, from 0 to 1.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(self, *, alpha: float = 1.0, probability: float = 1.0) -> None:
        if not 0 < alpha < float("inf"):
            raise ValueError(f"alpha must be above 0 and finite, got {alpha}")
        if not 0 <= probability <= 1:
            raise ValueError(f"probability must be from 0 to 1, got {probability}")
        self.alpha = alpha
        self.probability = probability

    def __call__(self, batch: Batch, context: BatchContext, generator: Generator) -> Batch:
        images, targets = batch
        if targets.dim() == 1:
            targets = F.one_hot(targets, context.num_classes).float()
        share = sample_beta(self.alpha, len(images), images.device, generator)
        kept = torch.rand(len(images), device=images.device, generator=generator) >= self.probability
        mixed, share = self.mix(images, images.roll(1, 0), share.masked_fill(kept, 1.0), generator)
        return mixed, torch.lerp(targets.roll(1, 0), targets, share[:, None])

    @abstractmethod
    def mix(self, images: Tensor, others: Tensor, share: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mixes images with others.

        Args:
            images: uint8 [B, C, H, W].
            others: The image to mix into each, uint8 [B, C, H, W].
            share: Share of each image to keep, from 0 to 1, [B].
            generator: Source of random numbers.

        Returns:
            The mixtures, uint8 [B, C, H, W], and the share of each image that they contain, [B].
        """


class Mixup(Mixing):
    """Blends two images (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).

    The blend is rounded to whole pixel values, by at most 0.5 of 255.
    """

    def mix(self, images: Tensor, others: Tensor, share: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        blend = torch.lerp(others.float(), images.float(), share[:, None, None, None])
        return blend.round().to(images.dtype), share


class CutMix(Mixing):
    """Pastes a rectangle of another image (Yun et al. 2019, https://arxiv.org/abs/1905.04899).

    The rectangle has the image's aspect ratio and its centre anywhere in the image. Its part outside the image is cut
    off and does not count towards the share.
    """

    def mix(self, images: Tensor, others: Tensor, share: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        batch_size, _, height, width = images.shape
        row, column = torch.rand(2, batch_size, device=images.device, generator=generator)
        side = (1 - share).sqrt()  # as a fraction of the image's side
        top, bottom = ((row * height + sign * side * height / 2).round() for sign in (-1, 1))
        left, right = ((column * width + sign * side * width / 2).round() for sign in (-1, 1))
        pasted = rectangles(top, bottom, left, right, images)
        return torch.where(pasted, others, images), 1 - pasted.float().mean(dim=(1, 2, 3))
