"""Labelled images in memory, with and without augmentation: a batch is one indexing operation."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from fmnist.config.errors import UserError
from fmnist.data.augmentation import Augmentation
from fmnist.data.batches import Batch, BatchContext
from fmnist.data.sharding import Shard
from fmnist.data.spec import DataSpec


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

    def check(self, spec: DataSpec, source: str) -> None:
        """Checks the images and labels against the description of the data set.

        Args:
            spec: The description.
            source: What made the set, for the message.

        Raises:
            UserError: It is not.
        """
        images, labels = self.images, self.labels
        found = [f"{str(part.dtype).removeprefix('torch.')} {list(part.shape)}" for part in (images, labels)]
        shapes_fit = labels.dim() == 1 and len(labels) > 0 and images.shape == (len(labels), *spec.image_shape)
        if not shapes_fit or (images.dtype, labels.dtype) != (torch.uint8, torch.int64):
            wanted = f"uint8 images [N, {', '.join(map(str, spec.image_shape))}] and int64 labels [N]"
            raise UserError(f"{source} must return {wanted}, got {' and '.join(found)}")
        least, most = int(labels.min()), int(labels.max())
        if least < 0 or most >= spec.num_classes:
            raise UserError(f"{source} must return labels from 0 to {spec.num_classes - 1}, got {least} to {most}")

    def sha256(self) -> str:
        """SHA-256 of images and labels, on the CPU."""
        digest = hashlib.sha256(self.images.numpy().data)
        digest.update(self.labels.numpy().data)
        return digest.hexdigest()

    def channel_statistics(self, indices: Tensor) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel of some images, in pixel values."""
        channels = self.images[indices].unbind(1)
        counts = torch.stack([channel.flatten().bincount(minlength=256) for channel in channels]).double().cpu()
        share, values = counts / counts.sum(1, keepdim=True), torch.arange(256, dtype=torch.double)
        mean = share @ values
        std = (share @ values**2 - mean**2).sqrt()
        return mean.tolist(), std.tolist()

    def balanced_weights(self, indices: Tensor, num_classes: int) -> Tensor:
        """Weights by which all classes of some images count alike, float32 [num_classes]. Their mean over them is 1."""
        counts = self.labels[indices].bincount(minlength=num_classes)
        return len(indices) / (num_classes * counts.clamp(min=1)).float()


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
