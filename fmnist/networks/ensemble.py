"""Several networks, trained in one run, whose predictions are averaged."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn


class Ensemble(nn.Module):
    """Averages the probabilities of networks that differ in initial weights and in the images seen in each step.

    An ensemble is more accurate than one of its networks (https://arxiv.org/abs/1612.01474). While training, each
    network gets its own slice of every batch, so that an epoch takes as long as with one network. Each network then
    sees only a slice of the images per epoch: scale ``data.batch_size`` and ``trainer.max_epochs`` by the number of
    networks. The loss is the mean over the whole batch, so that each network's gradients shrink by the same factor.
    Adam does not notice; the learning rate of SGD and ``trainer.gradient_clip_val`` must compensate.

    Args:
        networks: From raw pixels [B, C, H, W] to logits [B, num_classes], at least one.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, images: Tensor) -> Tensor:
        """Raw pixels [B, C, H, W] to logits [B, num_classes].

        While training, one network's logits for each image. If a last batch has fewer images than there are networks,
        the mean logits of all, so that each network learns in every step. Otherwise the log of the mean probabilities.
        """
        if not self.training:
            return log_mean_probabilities([network(images) for network in self.networks])
        if len(images) < len(self.networks):
            return torch.stack([network(images) for network in self.networks]).mean(dim=0)
        parts = images.tensor_split(len(self.networks))
        return torch.cat([network(part) for network, part in zip(self.networks, parts, strict=True)])


def log_mean_probabilities(logits: Sequence[Tensor]) -> Tensor:
    """Log of the mean probabilities, float32 [B, num_classes]. These are logits: their softmax is that mean.

    Args:
        logits: At least one tensor [B, num_classes].
    """
    log_probabilities = torch.stack([each.float().log_softmax(dim=1) for each in logits])
    return log_probabilities.logsumexp(dim=0) - math.log(len(logits))
