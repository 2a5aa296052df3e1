"""Duplicates within and between the training and the test set, as a table of pairs."""

from collections.abc import Sequence

import pandas as pd
import torch

from fmnist.data.dataset import ImageDataset
from fmnist.data_quality import duplicates

# Pairs up to this distance count as near duplicates. The value is a choice, see docs/audit.md: no image is this
# close to the mirror image of another, which would be by chance; at greater distances more and more are.
NEAR = 0.07
SEARCHED = 0.10  # pairs up to this distance are listed, so that users can choose another threshold
PLACES = {("train", "test"): "train and test", ("train", "train"): "within train", ("test", "test"): "within test"}

LOCATIONS = ["set", "index", "other_set", "other_index"]
CSV_COLUMNS = [*LOCATIONS, "distance", "exact", "mirrored", "down", "right", "label", "other_label"]


def find(train: ImageDataset, test: ImageDataset, class_names: Sequence[str]) -> pd.DataFrame:
    """Finds all pairs of images that are at most ``SEARCHED`` apart, the closest first.

    Returns:
        One row per pair. ``set`` and ``index`` locate the first image, ``other_set`` and ``other_index`` the second;
        ``first`` and ``second`` are their positions in the training set followed by the test set. ``distance`` holds
        after the second image was mirrored (0 or 1) and moved ``down`` and ``right`` (pixels). ``exact`` is 1 if the
        pixels are equal, and ``group`` then numbers the group of equal images. ``place`` is a value of ``PLACES``.
    """
    images = torch.cat([train.images, test.images])
    names = [class_names[label] for label in torch.cat([train.labels, test.labels]).tolist()]
    locations = [(name, index) for name, size in (("train", len(train)), ("test", len(test))) for index in range(size)]
    groups = {position: number for number, group in enumerate(duplicates.exact(images)) for position in group}
    rows = []
    for first, second, distance, (mirrored, down, right) in duplicates.near(images, limit=SEARCHED):
        group = groups.get(first, -1)
        exact = group >= 0 and group == groups.get(second)
        row = (*locations[first], *locations[second], distance, int(exact), int(mirrored), down, right)
        place = PLACES[locations[first][0], locations[second][0]]
        rows.append((*row, names[first], names[second], first, second, group, place))
    return pd.DataFrame(rows, columns=[*CSV_COLUMNS, "first", "second", "group", "place"])


def count(pairs: pd.DataFrame, place: str) -> tuple[int, int, int]:
    """Counts groups of duplicates in one place, images in them, and groups with contradicting labels."""
    pairs = pairs[pairs["place"] == place]
    contradicting = pairs[pairs["label"] != pairs["other_label"]]
    return pairs["group"].nunique(), len({*pairs["first"], *pairs["second"]}), contradicting["group"].nunique()


def duplicated_test_images(pairs: pd.DataFrame, limit: float = NEAR) -> list[int]:
    """Indices of the test images that have a duplicate in the training set at most ``limit`` away, ascending."""
    chosen = pairs[(pairs["place"] == "train and test") & (pairs["distance"] <= limit)]
    return sorted(set(chosen["other_index"]))
