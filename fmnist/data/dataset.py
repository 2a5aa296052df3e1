"""Labelled images in memory, with and without augmentation: a batch is one indexing operation."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fmnist.data.augmentation import Augmentation
from fmnist.data.batches import Batch, BatchContext
from fmnist.data.sharding import Shard


class ImageDataset(Dataset[Batch]):
    """Labelled images, whole in the memory of one device, indexed by a number or by a tensor of numbers.

    Args:
        images: uint8 [N, C, H, W].
        labels: int64 [N].
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels

    def to(self, device: torch.device) -> "ImageDataset":
        """The same images on a device, so that training copies none: Fashion-MNIST takes 55 MB."""
        return ImageDataset(self.images.to(device), self.labels.to(device))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int | Tensor) -> Batch:
        return self.images[index], self.labels[index]


class AugmentedDataset(Dataset[Batch]):
    """Augments images each time they are fetched. Indexed by a ``BatchContext``.

    Args:
        dataset: The training set.
        augmentations: Applied to each batch in this order.
        shard: The part of each batch to return. Random numbers are drawn for the whole batch, so that the images do not
            depend on the number of processes.
    """

    def __init__(
        self, dataset: ImageDataset, augmentations: Sequence[Augmentation] = (), *, shard: Shard | None = None
    ) -> None:
        self.dataset = dataset
        self.augmentations = augmentations
        self.shard = shard or Shard()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, context: BatchContext) -> Batch:
        if not self.augmentations:
            return self.dataset[self.shard.of(context.indices)]
        batch = self.dataset[context.indices]
        generator = context.generator(context.indices.device)
        for augmentation in self.augmentations:
            batch = augmentation(batch, context, generator)
        images, targets = batch
        return self.shard.of(images), self.shard.of(targets)
