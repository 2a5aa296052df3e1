"""The search for duplicates, compared with planted duplicates and with brute force in NumPy."""

import hashlib
from collections import defaultdict

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from fmnist.data.dataset import ImageDataset
from fmnist.data_quality import duplicates

Image = NDArray[np.float64]


def noise(count: int, seed: int) -> Tensor:
    """Dissimilar images with a black border of two pixels."""
    images = np.zeros((count, 1, 28, 28), np.uint8)
    images[:, :, 2:-2, 2:-2] = np.random.default_rng(seed).integers(0, 256, (count, 1, 24, 24)) ** 4 // 255**3
    return torch.from_numpy(images)


def brute_force(images: Tensor, limit: float) -> dict[tuple[int, int], float]:
    """Distances of all pairs under all views, pixel by pixel."""
    padded = np.pad(images[:, 0].numpy().astype(float), ((0, 0), (2, 2), (2, 2)))
    padded /= np.maximum(np.linalg.norm(padded, axis=(1, 2), keepdims=True), 1)
    found = {}
    for i in range(len(padded)):
        smallest = np.full(len(padded) - i - 1, np.inf)
        for turned in (padded[i + 1 :], padded[i + 1 :, :, ::-1]):
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    moved = np.roll(turned, (down, right), (1, 2))
                    smallest = np.minimum(smallest, np.sqrt(((padded[i] - moved) ** 2).sum(axis=(1, 2))))
        found.update({(i, i + 1 + int(k)): smallest[k] for k in np.flatnonzero(smallest <= limit)})
    return found


@given(st.lists(st.integers(0, 5), min_size=1, max_size=30))
def test_exact_duplicates_are_grouped(which: list[int]) -> None:
    groups = duplicates.exact(noise(6, seed=0)[which])
    expected = [[i for i, image in enumerate(which) if image == other] for other in dict.fromkeys(which)]
    assert groups == [group for group in expected if len(group) > 1]


def test_a_difference_of_one_in_one_pixel_is_near_and_not_exact() -> None:
    images = noise(5, seed=0)
    images[3] = images[1]
    images[3, 0, 14, 14] += 1 if images[1, 0, 14, 14] < 255 else -1
    assert duplicates.exact(images) == []
    (pair,) = duplicates.near(images, limit=0.1)
    assert (pair.first, pair.second) == (1, 3)
    assert 0 < pair.distance < 0.01


def test_planted_near_duplicates_are_found_with_their_transformation() -> None:
    images = noise(40, seed=1)
    images[10] = images[20]
    images[11] = images[21] // 2  # darker: rounded down, so a little apart
    images[12] = images[22].flip(2)
    images[13] = images[23].roll((1, -1), (1, 2))
    images[14] = images[24].flip(2).roll((-1, 1), (1, 2))
    images[15] = images[25].roll(3, 2)  # moved too far
    images[16] = images[26].flip(1)  # upside down: another image
    pairs = duplicates.near(images, limit=0.05)
    found = {(pair.first, pair.second): pair.view for pair in pairs}
    assert {pair: (view.mirrored, bool(view.down or view.right)) for pair, view in found.items()} == {
        (10, 20): (False, False),
        (11, 21): (False, False),
        (12, 22): (True, False),
        (13, 23): (False, True),
        (14, 24): (True, True),
    }
    assert found[13, 23] == (False, 1, -1)
    assert [pair.distance for pair in pairs] == sorted(pair.distance for pair in pairs)
    assert {pair.distance == 0 for pair in pairs if pair.first != 11} == {True}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 0.9), st.integers(2, 60))
def test_pairs_match_brute_force_at_any_limit(seed: int, limit: float, count: int) -> None:
    generator = np.random.default_rng(seed)
    images = noise(count, seed)
    for _ in range(count // 2):  # blends of two images, from copies to barely similar
        i, j = generator.integers(count, size=2)
        mixed = images[i].float() * (share := generator.random()) + images[j].float() * (1 - share)
        images[i] = mixed.round().to(torch.uint8)
    compare(images, limit)


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
    (pair,) = duplicates.near(images, limit=0.5)
    assert pair == (1, 4, 0.0, (False, 0, 0))


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.1, float("nan")])
def test_a_limit_out_of_range_is_rejected(limit: float) -> None:
    with pytest.raises(ValueError, match=f"limit must be more than 0 and less than 1, got {limit}"):
        duplicates.near(noise(3, seed=0), limit=limit)


@pytest.mark.real_data
def test_pairs_of_official_images_match_brute_force(train_set: ImageDataset) -> None:
    trousers = train_set.images[train_set.labels == 1][:400]  # the most similar class
    assert len(compare(trousers, limit=0.2)) > 20


@pytest.mark.real_data
def test_no_two_official_images_are_identical(train_set: ImageDataset, test_set: ImageDataset) -> None:
    images = torch.cat([train_set.images, test_set.images])
    digests = defaultdict(list)
    for image in images.numpy():
        digests[hashlib.sha256(image.tobytes()).hexdigest()].append(image)
    assert len(digests) == len(np.unique(images.flatten(1).numpy(), axis=0)) == 70_000
    assert duplicates.exact(images) == []


def compare(images: Tensor, limit: float) -> dict[tuple[int, int], float]:
    """Compares with brute force; pairs at the limit may fall on either side."""
    expected = brute_force(images, limit + 1e-5)
    found = {(pair.first, pair.second): pair.distance for pair in duplicates.near(images, limit=limit)}
    assert {pair for pair, distance in expected.items() if distance < limit - 1e-5} <= set(found) <= set(expected)
    np.testing.assert_allclose(list(found.values()), [expected[pair] for pair in found], atol=1e-5)
    return expected
