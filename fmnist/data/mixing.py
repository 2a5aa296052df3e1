"""Augmentation that mixes each image, and its class, with another one of the batch: targets become probabilities.

The other one is the next in the batch: the order of a training batch is random as it is. torchvision's MixUp and CutMix
draw one share for a whole batch, and from torch's global generator, not from one that is a function of the place.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from fmnist.data.augmentation import Augmentation
from fmnist.data.batches import Batch, Place
from fmnist.data.erasing import rectangles
from fmnist.data.files import CLASS_NAMES


class Mixing(Augmentation):
    """What Mixup and CutMix have in common.

    Args:
        alpha: How even the mixture is, above 0: an image's own share is from Beta(alpha, alpha), for each image anew.
        probability: That an image is mixed, from 0 to 1.

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

    def __call__(self, batch: Batch, place: Place, generator: Generator) -> Batch:
        images, targets = batch
        if targets.dim() == 1:
            targets = F.one_hot(targets, len(CLASS_NAMES)).float()
        # Beta is Dirichlet with two shares; torch's public distributions take no generator.
        both = torch.full((len(images), 2), float(self.alpha), device=images.device)
        share = torch._sample_dirichlet(both, generator)[:, 0]
        kept = torch.rand(len(images), device=images.device, generator=generator) >= self.probability
        mixed, share = self.mix(images, images.roll(1, 0), share.masked_fill(kept, 1.0), generator)
        return mixed, torch.lerp(targets.roll(1, 0), targets, share[:, None])

    @abstractmethod
    def mix(self, images: Tensor, others: Tensor, share: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mixes images uint8 [B, C, H, W] with others.

        Args:
            images: Those that the shares are of.
            others: One for each.
            share: How much is to stay of each image, from 0 to 1, [B].
            generator: Whatever is random is drawn from it.

        Returns:
            The mixtures, uint8 [B, C, H, W], and how much of each image is in them, from 0 to 1, [B].
        """


class Mixup(Mixing):
    """Blends two images (Zhang et al. 2018, https://arxiv.org/abs/1710.09412).

    Pixels stay whole numbers: the blend is rounded, by at most half a step of the 255.
    """

    def mix(self, images: Tensor, others: Tensor, share: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        blend = torch.lerp(others.float(), images.float(), share[:, None, None, None])
        return blend.round().to(images.dtype), share


class CutMix(Mixing):
    """Puts a rectangle of another image into an image (Yun et al. 2019, https://arxiv.org/abs/1905.04899).

    It has the shape of the image and its centre anywhere in it; what sticks out is cut off, and does not count.
    """

    def mix(self, images: Tensor, others: Tensor, share: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        batch_size, _, height, width = images.shape
        row, column = torch.rand(2, batch_size, device=images.device, generator=generator)
        side = (1 - share).sqrt()  # of the image's
        top, bottom = ((row * height + sign * side * height / 2).round() for sign in (-1, 1))
        left, right = ((column * width + sign * side * width / 2).round() for sign in (-1, 1))
        pasted = rectangles(top, bottom, left, right, images)
        return torch.where(pasted, others, images), 1 - pasted.float().mean(dim=(1, 2, 3))
