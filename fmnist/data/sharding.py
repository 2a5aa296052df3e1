"""The parts of a batch and of a set that belong to one of several processes."""

from typing import NamedTuple

import torch
from torch import Tensor


class Shard(NamedTuple):
    """The part of each training batch that belongs to one process."""

    rank: int = 0
    world_size: int = 1

    def of(self, batch: Tensor) -> Tensor:
        """This process's part of a batch whose size is a multiple of ``world_size``."""
        return batch.tensor_split(self.world_size)[self.rank] if self.world_size > 1 else batch


def shard_for_evaluation(indices: Tensor, *, batch_size: int, shard: Shard, limit: int | None = None) -> list[Tensor]:
    """The batches of one process when several evaluate a set together. Each sample comes once, in one of them.

    Each process gets a contiguous part, so that results concatenated by rank are in the order of the set. All processes
    have the same number of batches, none of them empty: otherwise one would wait for another forever.

    Args:
        indices: The samples, int64 [N]; N is at least ``world_size``.
        batch_size: Most samples per batch over all processes (a process may get two where it would get one and a half).
        shard: Which process this is.
        limit: Most batches that a single process would evaluate; several processes evaluate the same samples.
    """
    if limit is not None:
        indices = indices[: max(limit * batch_size, shard.world_size)]
    if shard.world_size == 1:
        return list(torch.split(indices, batch_size))
    longest = -(-len(indices) // shard.world_size)
    number = -(-longest // max(1, batch_size // shard.world_size))
    number = min(number, len(indices) // shard.world_size, limit or number)
    return list(shard.of(indices).tensor_split(number))
