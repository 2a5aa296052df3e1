"""The stratified split, as properties of any labels and as facts of the real ones."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedShuffleSplit

from fmnist.data.dataset import ImageDataset
from fmnist.data.split import stratified_split


@st.composite
def labels_and_size(draw: st.DrawFn) -> tuple[torch.Tensor, int]:
    labels = draw(st.lists(st.integers(0, 9), min_size=1, max_size=300))
    return torch.tensor(labels), draw(st.integers(0, len(labels) - 1))


@given(labels_and_size(), st.integers(0, 2**63 - 1))
def test_every_index_comes_once_and_each_class_keeps_its_share(case: tuple[torch.Tensor, int], seed: int) -> None:
    labels, val_size = case
    train, val = stratified_split(labels, val_size=val_size, seed=seed)
    assert len(val) == val_size
    assert sorted([*train.tolist(), *val.tolist()]) == list(range(len(labels)))
    for label in range(10):
        exact = (labels == label).sum().item() * val_size / len(labels)
        assert abs((labels[val] == label).sum().item() - exact) < 1


@given(labels_and_size(), st.integers(0, 2**63 - 1))
def test_the_same_seed_gives_the_same_split(case: tuple[torch.Tensor, int], seed: int) -> None:
    labels, val_size = case
    first, second = (stratified_split(labels, val_size=val_size, seed=seed) for _ in range(2))
    assert torch.equal(first[1], second[1])


def test_the_split_leaves_torchs_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    stratified_split(torch.arange(100) % 10, val_size=20, seed=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("val_size", [-1, 10, 11])
def test_a_size_out_of_range_is_refused(val_size: int) -> None:
    with pytest.raises(ValueError, match=f"val_size must be from 0 to 9, got {val_size}"):
        stratified_split(torch.zeros(10, dtype=torch.int64), val_size=val_size, seed=0)


@pytest.mark.real_data
def test_the_real_split_has_500_of_each_class_as_scikit_learns_has(train_set: ImageDataset) -> None:
    _, val = stratified_split(train_set.labels, val_size=5_000, seed=0)
    splitter = StratifiedShuffleSplit(1, test_size=5_000, random_state=0)
    reference = next(splitter.split(np.zeros(60_000), train_set.labels))
    counts = train_set.labels[val].bincount()
    assert counts.tolist() == np.bincount(train_set.labels[reference[1]]).tolist() == [500] * 10


@pytest.mark.real_data
def test_different_seeds_draw_different_images(train_set: ImageDataset) -> None:
    first, second = (set(stratified_split(train_set.labels, val_size=5_000, seed=s)[1].tolist()) for s in (0, 1))
    # Two independent draws of 5,000 of 60,000 share 417 on average, with a standard deviation of about 19.
    assert 320 < len(first & second) < 520
