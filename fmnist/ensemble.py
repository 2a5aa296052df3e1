"""Several networks that are trained in one run and answer together."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Averages the probabilities of networks that began differently and have seen other images in each step.

    That is more accurate than one of them (https://arxiv.org/abs/1612.01474). While training, each network has a part
    of every batch for itself, so that cross entropy, metrics and all else see one network, and an epoch takes as long
    as with one. Each then sees but a part of the images in an epoch: ``data.batch_size`` and ``trainer.max_epochs``
    are to be as many times what one network wants as there are networks.

    Args:
        networks: From raw pixels [B, C, H, W] to logits [B, num_classes], at least one.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels [B, C, H, W] to logits [B, num_classes].

        While training, those of one network for each image; else the logarithms of the mean probabilities.
        """
        if self.training:
            # Of a last batch with fewer images than there are networks, some parts are empty.
            parts = zip(self.networks, images.tensor_split(len(self.networks)), strict=True)
            return torch.cat([network(part) for network, part in parts if len(part)])
        each = torch.stack([network(images).float().log_softmax(dim=1) for network in self.networks])
        return each.logsumexp(dim=0) - math.log(len(self.networks))
