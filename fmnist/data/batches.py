"""Which samples make up each batch."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torch.utils.data import Sampler

from fmnist.data.seeding import Stream, derive_seed


class Share(NamedTuple):
    """The share of each batch that one of several processes has.

    Args:
        rank: The process's number, from 0.
        size: How many processes there are.
    """

    rank: int = 0
    size: int = 1

    def of(self, batch: Tensor) -> Tensor:
        """This process's part of a batch whose size is a multiple of theirs."""
        return batch.tensor_split(self.size)[self.rank] if self.size > 1 else batch


WHOLE = Share()

# Images uint8 [B, 1, 28, 28], labels int64 [B]; after augmentation that mixes classes, in place of the labels the
# probabilities of the classes, float32 [B, 10].
Batch = tuple[Tensor, Tensor]


class Batches(Sampler[Tensor]):
    """Yields a tensor of indices for each batch, so that a batch is fetched by one indexing operation.

    Every index comes once per epoch; the last batch may be short. With a seed, the order is a function of
    (seed, epoch), never of how many epochs were drawn before. Lightning calls ``set_epoch``.

    Args:
        indices: The samples to draw from, int64 [N].
        batch_size: Samples per batch, at least 1.
        seed: Seed of the order; None keeps the order of ``indices``.
        multiple_of: Number of processes that share each batch, which is to be a multiple of it, as ``batch_size`` is.
            Of a short last batch, what is over is left out: other samples in each epoch, where the order is random.
    """

    def __init__(self, indices: Tensor, *, batch_size: int, seed: int | None = None, multiple_of: int = 1) -> None:
        self.indices = indices
        self.batch_size = batch_size
        self.seed = seed
        self.multiple_of = multiple_of
        self.epoch = 0

    def to(self, device: torch.device) -> "Batches":
        """The same batches in the same order, their indices on a device."""
        return Batches(
            self.indices.to(device), batch_size=self.batch_size, seed=self.seed, multiple_of=self.multiple_of
        )

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.samples // self.batch_size)

    @property
    def samples(self) -> int:
        """How many samples an epoch has."""
        return len(self.indices) - len(self.indices) % self.multiple_of

    def __iter__(self) -> Iterator[Tensor]:
        # A generator, which draws when it is asked for the first batch: when it resumes a run, Lightning makes the
        # iterator before it calls set_epoch.
        indices = self.indices
        if self.seed is not None:
            generator = torch.Generator().manual_seed(derive_seed(Stream.ORDER, self.seed, self.epoch))
            order = torch.randperm(len(indices), generator=generator)  # on the processor: the same for every device
            indices = indices[order.to(indices.device)]
        yield from torch.split(indices[: self.samples], self.batch_size)[: len(self)]  # torch splits nothing into one


def portion(indices: Tensor, *, batch_size: int, share: Share, limit: int | None = None) -> list[Tensor]:
    """The batches of one of several processes that evaluate a set together: each sample comes once, in one of them.

    Each has a part of the set as it lies, so that what they find, put together in their order, is in the order of the
    set. All have the same number of batches and none is empty, else one would wait for another.

    Args:
        indices: The samples, int64 [N]; N is at least the number of processes.
        batch_size: Samples per batch, of all processes together, at most; one of several may have two of its own.
        share: Which process it is.
        limit: Most batches that one process alone would look at; several look at the same samples.
    """
    if limit is not None:
        indices = indices[: max(limit * batch_size, share.size)]
    if share.size == 1:
        return list(torch.split(indices, batch_size))
    longest = -(-len(indices) // share.size)
    number = -(-longest // max(1, batch_size // share.size))
    number = min(number, len(indices) // share.size, limit or number)
    return list(indices.tensor_split(share.size)[share.rank].tensor_split(number))


class Place(NamedTuple):
    """Which training batch it is: all that what is done to it at random may depend on.

    Args:
        seed: Of the run.
        epoch: Counted from 0.
        number: Of the batch in its epoch, counted from 0.
        indices: Positions of its samples in the official training set, int64 [B].
    """

    seed: int
    epoch: int
    number: int
    indices: Tensor

    def generator(self, device: torch.device) -> Generator:
        """A generator on a device, started anew for this batch."""
        first = derive_seed(Stream.AUGMENTATION, self.seed, self.epoch)
        return Generator(device).manual_seed((first + self.number) % 2**64)


class Placed(Sampler[Place]):
    """Batches, each with its place: a function of (seed, epoch, batch)."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        self.batches.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Place]:
        seed, epoch = self.batches.seed or 0, self.batches.epoch  # when the first is asked for, see Batches
        for number, indices in enumerate(self.batches):
            yield Place(seed, epoch, number, indices)
