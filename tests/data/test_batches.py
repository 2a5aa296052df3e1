"""Batches: every index once per epoch, in an order that depends on seed and epoch alone."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from fmnist.data.batches import Batches
from fmnist.data.seeding import Stream, derive_seed

seeds = st.integers(0, 2**32)
epochs = st.integers(0, 1000)
sizes = st.integers(1, 200)


@given(size=sizes, batch_size=sizes, seed=st.none() | seeds, epoch=epochs)
def test_every_index_comes_once_and_only_the_last_batch_is_short(
    size: int, batch_size: int, seed: int | None, epoch: int
) -> None:
    indices = torch.arange(1000, 1000 + size)
    batches = Batches(indices, batch_size=batch_size, seed=seed)
    batches.set_epoch(epoch)
    drawn = list(batches)
    assert sorted(torch.cat(drawn).tolist()) == indices.tolist()
    assert [len(batch) for batch in drawn[:-1]] == [batch_size] * (len(drawn) - 1)
    assert len(drawn) == len(batches)


@given(seed=seeds, epoch=epochs)
def test_the_order_is_a_function_of_seed_and_epoch(seed: int, epoch: int) -> None:
    fresh = Batches(torch.arange(100), batch_size=7, seed=seed)
    fresh.set_epoch(epoch)

    used = Batches(torch.arange(100), batch_size=7, seed=seed)
    list(used)
    used.set_epoch(epoch + 1)
    list(used)
    torch.rand(5)  # whatever else was drawn
    used.set_epoch(epoch)
    assert torch.equal(torch.cat(list(fresh)), torch.cat(list(used)))


@given(seed=seeds, epoch=epochs)
def test_another_epoch_or_another_seed_gives_another_order(seed: int, epoch: int) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = Batches(torch.arange(100), batch_size=100, seed=seed)
        batches.set_epoch(epoch)
        return [int(index) for index in torch.cat(list(batches))]

    assert order(seed, epoch) != order(seed, epoch + 1)
    assert order(seed, epoch) != order(seed + 1, epoch)


def test_the_epoch_counts_that_is_set_before_the_first_batch_is_drawn() -> None:
    batches = Batches(torch.arange(100), batch_size=100, seed=0)
    early = iter(batches)  # as Lightning does when it resumes
    batches.set_epoch(3)
    assert torch.equal(next(early), next(iter(batches)))


def test_without_a_seed_the_order_is_that_of_the_indices() -> None:
    assert torch.cat(list(Batches(torch.tensor([5, 3, 9]), batch_size=2))).tolist() == [5, 3, 9]


def test_every_place_comes_first_equally_often() -> None:
    firsts = torch.zeros(10)
    for epoch in range(5_000):
        batches = Batches(torch.arange(10), batch_size=1, seed=0)
        batches.set_epoch(epoch)
        firsts[next(iter(batches))] += 1
    chi_squared = ((firsts - 500) ** 2 / 500).sum().item()
    assert chi_squared < 27.9  # exceeded with probability 0.001 at 9 degrees of freedom


@given(seed=seeds, position=st.lists(epochs, max_size=3))
def test_derived_seeds_differ_between_streams_and_positions(seed: int, position: list[int]) -> None:
    here = derive_seed(Stream.ORDER, seed, *position)
    assert here == derive_seed(Stream.ORDER, seed, *position)
    assert here != derive_seed(Stream.TRAINING, seed, *position)
    assert here != derive_seed(Stream.ORDER, seed + 1, *position)
    assert 0 <= here < 2**64
