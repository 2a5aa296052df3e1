"""The stratified split, as properties of any labels and as facts of the real ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit
from torch import Tensor

from fmnist.data.dataset import ImageDataset
from fmnist.data.split import stratified_split


@st.composite
def labels_and_size(draw: st.DrawFn) -> tuple[Tensor, int]:
    labels = draw(st.lists(st.integers(0, 9), min_size=1, max_size=300))
    return torch.tensor(labels), draw(st.integers(0, len(labels) - 1))


@settings(max_examples=30)
@given(labels_and_size(), st.integers(0, 2**63 - 1))
def test_every_index_comes_once_and_each_class_keeps_its_share(case: tuple[Tensor, int], seed: int) -> None:
    labels, val_size = case
    state = torch.get_rng_state()
    train, val = stratified_split(labels, val_size=val_size, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)  # it uses its own generator
    assert len(val) == val_size
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(len(labels)))
    exact = labels.bincount(minlength=10) * val_size / len(labels)
    assert (labels[val].bincount(minlength=10) - exact).abs().max() < 1
    torch.rand(3)
    assert torch.equal(stratified_split(labels, val_size=val_size, seed=seed)[1], val)


@pytest.mark.parametrize(
    ("counts", "val_size", "expected"),
    [([5, 3, 2], 4, [2, 1, 1]), ([3, 3], 3, [2, 1]), ([3, 5, 2], 4, [1, 2, 1])],
)
def test_left_over_goes_to_the_largest_remainders_and_then_to_the_lower_classes(
    counts: list[int], val_size: int, expected: list[int]
) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    _, val = stratified_split(labels, val_size=val_size, seed=0)
    assert labels[val].bincount().tolist() == expected


@pytest.mark.parametrize("val_size", [-1, 10])
def test_size_out_of_range_is_rejected(val_size: int) -> None:
    with pytest.raises(ValueError, match=f"val_size must be from 0 to 9, got {val_size}"):
        stratified_split(torch.zeros(10, dtype=torch.int64), val_size=val_size, seed=0)


@pytest.mark.real_data
def test_real_split_has_500_of_each_class_as_scikit_learns_and_differs_between_seeds(train_set: ImageDataset) -> None:
    first, second = (stratified_split(train_set.labels, val_size=5_000, seed=seed)[1] for seed in (0, 1))
    splitter = StratifiedShuffleSplit(1, test_size=5_000, random_state=0)
    reference = next(splitter.split(np.zeros(60_000), train_set.labels))
    counts = train_set.labels[first].bincount()
    assert counts.tolist() == np.bincount(train_set.labels[reference[1]]).tolist() == [500] * 10
    # Two independent draws of 5,000 of 60,000 share 417 on average, with a standard deviation of about 19.
    assert 320 < len({*first.tolist()} & {*second.tolist()}) < 520
