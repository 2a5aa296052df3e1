"""Duplicates by where they are, against counts by hand."""

import pytest
import torch

from fmnist.data.fashion_mnist import ImageDataset
from fmnist.data_quality.overlap import NEAR, Overlap
from tests.data_quality.test_duplicates import noise


@pytest.fixture
def planted() -> Overlap:
    """Ten training and six test images, numbered 10 to 15 together."""
    images, labels = noise(16, seed=0), torch.arange(16) % 10
    images[[3, 4]] = images[2].clone()  # three in train
    images[10] = images[2]  # and one in test: test image 0
    images[12] = images[11]  # two in test
    images[5] = images[15] // 2  # near, not exact: test image 5
    labels[[2, 3, 4, 10]] = torch.tensor([7, 7, 8, 8])
    labels[[11, 12]] = 1
    labels[[5, 15]] = 5
    train, test = ImageDataset(images[:10], labels[:10]), ImageDataset(images[10:], labels[10:])
    return Overlap.of(train, test)


def test_exact_duplicates_are_counted_where_they_are(planted: Overlap) -> None:
    assert planted.exact("train and test") == (1, 4, 1)
    assert planted.exact("within train") == (1, 3, 1)
    assert planted.exact("within test") == (1, 2, 0)


def test_near_duplicates_are_counted_in_pairs_and_exact_ones_are_among_them(planted: Overlap) -> None:
    assert planted.near("train and test") == (4, 6, 2)  # 2, 3, 4 with 10, of which 4 agrees; 5 with 15
    assert planted.near("within train") == (3, 3, 2)
    assert planted.near("within test") == (1, 2, 0)
    assert planted.near("train and test", 0.001) == (3, 4, 2)


def test_the_test_images_with_a_duplicate_in_train_are_those(planted: Overlap) -> None:
    assert planted.test_images().tolist() == [0, 5]
    assert planted.test_images(0.001).tolist() == [0]


def test_images_are_numbered_as_in_the_official_files(planted: Overlap) -> None:
    assert [planted.image(position) for position in (0, 9, 10, 15)] == [
        ("train", 0),
        ("train", 9),
        ("test", 0),
        ("test", 5),
    ]


def test_without_duplicates_all_counts_are_nothing() -> None:
    images = noise(10, seed=0)
    overlap = Overlap.of(
        ImageDataset(images[:6], torch.zeros(6, dtype=torch.long)), ImageDataset(images[6:], torch.arange(4))
    )
    for place in ("train and test", "within train", "within test"):
        assert overlap.exact(place) == overlap.near(place) == (0, 0, 0)
    assert overlap.test_images(NEAR).tolist() == []
