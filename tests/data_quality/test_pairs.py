"""The table of duplicate pairs, compared with counts by hand."""

import pandas as pd
import pytest
import torch

from fmnist.data.dataset import ImageDataset
from fmnist.data_quality import pairs, report
from tests.data_quality.test_duplicates import noise

CLASSES = [f"class {number}" for number in range(10)]


def find(images: torch.Tensor, labels: torch.Tensor) -> pd.DataFrame:
    """The pairs where the first ten images are the training set."""
    return pairs.find(ImageDataset(images[:10], labels[:10]), ImageDataset(images[10:], labels[10:]), CLASSES)


@pytest.fixture
def planted() -> pd.DataFrame:
    """The pairs of ten training and six test images, at positions 10 to 15."""
    images, labels = noise(16, seed=0), torch.arange(16) % 10
    images[[3, 4]] = images[2].clone()  # three in train
    images[10] = images[2]  # and one in test: test image 0
    images[12] = images[11]  # two in test
    images[5] = images[15] // 2  # near, not exact: test image 5
    labels[[2, 3, 4, 10]] = torch.tensor([7, 7, 8, 8])
    labels[[11, 12]] = 1
    labels[[5, 15]] = 5
    return find(images, labels)


def test_exact_duplicates_are_counted_as_groups(planted: pd.DataFrame) -> None:
    exact = planted[planted["exact"] == 1]
    assert pairs.count(exact, "train and test") == (1, 4, 1)
    assert pairs.count(exact, "within train") == (1, 3, 1)
    assert pairs.count(exact, "within test") == (1, 2, 0)


def test_near_duplicates_are_counted_as_pairs_including_exact_ones(planted: pd.DataFrame) -> None:
    _, table, distances = report.duplicate_tables(planted).values()
    assert table.T.to_dict("list") == {
        "train and test": [4, 6, 2],  # 2, 3 and 4 with 10, of which 4 has the same label; 5 with 15
        "within train": [3, 3, 2],
        "within test": [1, 2, 0],
    }
    assert distances.iloc[0].tolist() == [8, 0, 4, 4]  # pairs, mirrored, train and test, contradicting
    assert distances.to_numpy().sum() == 16


def test_test_images_with_a_duplicate_in_train_are_found(planted: pd.DataFrame) -> None:
    assert pairs.duplicated_test_images(planted) == [0, 5]
    assert pairs.duplicated_test_images(planted, 0.001) == [0]


def test_images_are_located_by_set_and_index(planted: pd.DataFrame) -> None:
    row = planted.iloc[-1]
    assert row[pairs.LOCATIONS].tolist() == ["train", 5, "test", 5]
    assert row[["label", "other_label", "exact"]].tolist() == ["class 5", "class 5", 0]


def test_all_counts_are_zero_without_duplicates() -> None:
    table = find(noise(14, seed=0), torch.arange(14) % 10)
    assert list(table)[: len(pairs.CSV_COLUMNS)] == pairs.CSV_COLUMNS
    for counts in report.duplicate_tables(table).values():
        assert counts.to_numpy().sum() == 0
    assert pairs.duplicated_test_images(table) == []
