"""The validation set: a stratified part of the official training images."""

import torch
from torch import Tensor


def stratified_split(labels: Tensor, *, val_size: int, seed: int) -> tuple[Tensor, Tensor]:
    """Splits indices in two so that each class keeps its share.

    A class with a fraction f of the labels gets f * val_size validation samples, rounded so that the sum is val_size
    (largest remainder, ties to the lower class).

    Args:
        labels: Class indices, int64 [N].
        val_size: Number of validation samples, from 0 to N - 1.
        seed: Seed of the draw, independent of every other random choice.

    Returns:
        Training and validation indices, each ascending; together they hold every index once.

    Raises:
        ValueError: ``val_size`` is out of range.
    """
    size = len(labels)
    if not 0 <= val_size < size:
        raise ValueError(f"val_size must be from 0 to {size - 1}, got {val_size}")
    counts = torch.bincount(labels)
    quotas, remainders = counts * val_size // size, counts * val_size % size
    left_over = val_size - int(quotas.sum())
    quotas[remainders.argsort(descending=True, stable=True)[:left_over]] += 1

    generator = torch.Generator().manual_seed(seed)
    in_val = torch.zeros(size, dtype=torch.bool)
    for label, quota in enumerate(quotas.tolist()):
        members = (labels == label).nonzero().flatten()
        in_val[members[torch.randperm(len(members), generator=generator)[:quota]]] = True
    return (~in_val).nonzero().flatten(), in_val.nonzero().flatten()
