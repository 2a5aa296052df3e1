"""Several networks that are trained in one run and answer together."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Averages the probabilities of networks that began differently and have seen other images in each step.

    That is more accurate than one of them (https://arxiv.org/abs/1612.01474). While training, each network has a part
    of every batch for itself, so that an epoch takes as long as with one. Each then sees but a part of the images in an
    epoch: ``data.batch_size`` and ``trainer.max_epochs`` are to be as many times what one network wants as there are
    networks. The loss is the mean over the whole batch, so that the gradients of each are smaller by the same factor:
    to Adam that is nothing, but the learning rate of SGD and ``trainer.gradient_clip_val`` have to make up for it.

    Args:
        networks: From raw pixels [B, C, H, W] to logits [B, num_classes], at least one.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels [B, C, H, W] to logits [B, num_classes].

        While training, those of one network for each image, or, of fewer images than there are networks, as a last
        batch may be, the mean of all, so that each learns in every step. Else the logarithms of the mean probabilities.
        """
        if not self.training:
            return log_mean_probabilities([network(images) for network in self.networks])
        if len(images) < len(self.networks):
            return torch.stack([network(images) for network in self.networks]).mean(dim=0)
        parts = images.tensor_split(len(self.networks))
        return torch.cat([network(part) for network, part in zip(self.networks, parts, strict=True)])


def log_mean_probabilities(logits: Sequence[Tensor]) -> Tensor:
    """Logarithms of the mean of probabilities, which are logits whose softmax is that mean: float32 [B, num_classes].

    Args:
        logits: At least one, each [B, num_classes].
    """
    said = torch.stack([each.float().log_softmax(dim=1) for each in logits])
    return said.logsumexp(dim=0) - math.log(len(logits))
