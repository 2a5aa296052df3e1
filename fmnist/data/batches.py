"""Which samples make up each batch, as a function of seed, epoch and batch number."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from fmnist.data.seeding import Stream, derive_seed

# Images uint8 [B, C, H, W] and labels int64 [B]. Augmentations that mix classes replace the labels by class
# probabilities, float32 [B, num_classes].
Batch = tuple[Tensor, Tensor]


class BatchContext(NamedTuple):
    """A training batch before its images are fetched: everything that its augmentation may depend on.

    Args:
        seed: Seed of the run.
        epoch: Counted from 0.
        number: Number of the batch in its epoch, counted from 0.
        indices: Positions of the samples in the training set, int64 [B].
        set_size: Samples in the training set, the validation samples included.
        num_classes: Classes of the data set.
    """

    seed: int
    epoch: int
    number: int
    indices: Tensor
    set_size: int
    num_classes: int

    def generator(self, device: torch.device) -> Generator:
        """A generator on a device, seeded for this batch alone."""
        first = derive_seed(Stream.AUGMENTATION, self.seed, self.epoch)
        return Generator(device).manual_seed((first + self.number) % 2**64)


class SeededBatchSampler(Sampler[BatchContext]):
    """Draws every sample once per epoch, in an order that depends on (seed, epoch) alone. The last batch may be short.

    Args:
        indices: The samples to draw from, int64 [N].
        batch_size: Samples per batch, a multiple of ``world_size``.
        set_size: As in ``BatchContext``, as the next.
        num_classes: See there.
        seed: Seed of the order, at least 0.
        world_size: Number of processes that share each batch. The remainder of a short last batch is left out, so that
            all processes have equally many samples: other ones in each epoch.
        reshuffle: Whether to draw a new order for each epoch. False repeats the order of epoch 0.
    """

    def __init__(
        self,
        indices: Tensor,
        *,
        batch_size: int,
        set_size: int,
        num_classes: int,
        seed: int,
        world_size: int = 1,
        reshuffle: bool = True,
    ) -> None:
        self.indices = indices
        self.batch_size = batch_size
        self.set_size = set_size
        self.num_classes = num_classes
        self.seed = seed
        self.epoch = 0
        self.reshuffle = reshuffle
        self.size = len(indices) - len(indices) % world_size  # samples per epoch

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch if self.reshuffle else 0

    def __len__(self) -> int:
        return -(-self.size // self.batch_size)

    def __iter__(self) -> Iterator[BatchContext]:
        # As a generator it draws when the first batch is requested: on resume, Lightning makes the iterator before it
        # calls set_epoch.
        generator = torch.Generator().manual_seed(derive_seed(Stream.ORDER, self.seed, self.epoch))
        order = torch.randperm(len(self.indices), generator=generator)  # on the CPU: the same for every device
        indices = self.indices[order.to(self.indices.device)]
        batches = torch.split(indices[: self.size], self.batch_size)[: len(self)]  # torch splits nothing into one
        for number, batch in enumerate(batches):
            yield BatchContext(self.seed, self.epoch, number, batch, self.set_size, self.num_classes)
