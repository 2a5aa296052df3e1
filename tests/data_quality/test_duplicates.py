"""The search for duplicates, compared with planted duplicates and with brute force in SciPy."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from torch import Tensor

from fmnist.data.dataset import ImageDataset
from fmnist.data_quality import duplicates


def noise(count: int, seed: int) -> Tensor:
    """Dissimilar images with a black border of two pixels."""
    images = np.zeros((count, 1, 28, 28), np.uint8)
    images[:, :, 2:-2, 2:-2] = np.random.default_rng(seed).integers(0, 256, (count, 1, 24, 24)) ** 4 // 255**3
    return torch.from_numpy(images)


def compare(images: Tensor, limit: float) -> int:
    """Compares with the distances of all pairs under all views; returns the number of pairs within the limit."""
    padded = np.pad(images[:, 0].numpy().astype(float), ((0, 0), (2, 2), (2, 2)))
    padded /= np.maximum(np.linalg.norm(padded, axis=(1, 2), keepdims=True), 1)
    moves = list(itertools.product((-1, 0, 1), repeat=2))
    views = [np.roll(turned, move, (1, 2)) for turned in (padded, padded[:, :, ::-1]) for move in moves]
    distances = np.min([cdist(*(side.reshape(len(side), -1) for side in (padded, view))) for view in views], axis=0)
    expected = {(i, j): distances[i, j] for i, j in itertools.combinations(range(len(images)), 2)}
    found = {(pair.first, pair.second): pair.distance for pair in duplicates.near(images, limit=limit)}
    certain, possible = ({pair for pair in expected if expected[pair] <= limit + error} for error in (-1e-5, 1e-5))
    assert certain <= found.keys() <= possible
    np.testing.assert_allclose(list(found.values()), [expected[pair] for pair in found], atol=1e-5)
    return len(found)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_exact_duplicates_are_grouped(which: list[int]) -> None:
    groups = duplicates.exact(noise(6, seed=0)[which])
    expected = [[i for i, image in enumerate(which) if image == other] for other in dict.fromkeys(which)]
    assert groups == [group for group in expected if len(group) > 1]


def test_planted_near_duplicates_are_found_with_their_transformation() -> None:
    images = noise(40, seed=1)
    images[10] = images[20]
    images[11] = images[21] // 2  # darker: rounded down, so a little apart
    images[12] = images[22].flip(2)
    images[13] = images[23].roll((1, -1), (1, 2))
    images[14] = images[24].flip(2).roll((-1, 1), (1, 2))
    images[15] = images[25].roll(3, 2)  # moved too far
    images[16] = images[26].flip(1)  # upside down: another image
    *exact, last = duplicates.near(images, limit=0.05)
    assert exact == [
        (10, 20, 0, (False, 0, 0)),
        (12, 22, 0, (True, 0, 0)),
        (13, 23, 0, (False, 1, -1)),
        (14, 24, 0, (True, -1, 1)),
    ]
    assert (last.first, last.second, last.view) == (11, 21, (False, 0, 0))
    assert last.distance > 0
    assert duplicates.exact(images) == [[10, 20]]


@settings(max_examples=6, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 0.9), st.integers(2, 40))
def test_pairs_match_brute_force_at_any_limit(seed: int, limit: float, count: int) -> None:
    generator = np.random.default_rng(seed)
    images = noise(count, seed)
    for _ in range(count // 2):  # blends of two images, from copies to barely similar
        i, j = generator.integers(count, size=2)
        mixed = images[i].float() * (share := generator.random()) + images[j].float() * (1 - share)
        images[i] = mixed.round().to(torch.uint8)
    compare(images, limit)


@pytest.mark.real_data
def test_pairs_of_official_images_match_brute_force(train_set: ImageDataset) -> None:
    trousers = train_set.images[train_set.labels == 1][:300]  # the most similar class
    assert compare(trousers, limit=0.2) > 20


def test_pairs_across_blocks_are_found() -> None:
    images = noise(duplicates.COLUMNS + duplicates.ROWS + 10, seed=2)
    last = len(images) - 1
    planted = [(0, 1), (0, last), (1, last), (duplicates.ROWS, last - 1), (duplicates.COLUMNS - 1, duplicates.COLUMNS)]
    for i, j in planted:
        images[j] = images[i]
    assert {(pair.first, pair.second) for pair in duplicates.near(images, limit=0.01)} == set(planted)


def test_black_images_are_near_each_other_only() -> None:
    images = noise(6, seed=3)
    images[[1, 4]] = 0
    assert duplicates.near(images, limit=0.5) == [(1, 4, 0.0, (False, 0, 0))]


@pytest.mark.parametrize("limit", [0.0, 1.0, float("nan")])
def test_limit_out_of_range_is_rejected(limit: float) -> None:
    with pytest.raises(ValueError, match=f"limit must be more than 0 and less than 1, got {limit}"):
        duplicates.near(noise(3, seed=0), limit=limit)


@pytest.mark.real_data
def test_no_two_official_images_are_identical(train_set: ImageDataset, test_set: ImageDataset) -> None:
    images = torch.cat([train_set.images, test_set.images])
    assert len({image.tobytes() for image in images.numpy()}) == 70_000
    assert duplicates.exact(images) == []
