"""What the training and the test set have in common, and each with itself: duplicates by where they are."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fmnist.data.fashion_mnist import ImageDataset
from fmnist.data_quality import duplicates
from fmnist.data_quality.duplicates import Pair

Place = Literal["train and test", "within train", "within test"]

# How close a near duplicate is: a choice, see docs/data.md. Up to here no image is as close to the mirror image of
# another one, which is a resemblance by chance; a little further on they are, more and more of them.
NEAR = 0.07
SEARCHED = 0.10  # pairs up to here are listed, so that others can choose otherwise


class Count(NamedTuple):
    """Duplicates of one place."""

    sets: int  # groups of exact duplicates, pairs of near ones
    images: int
    contradicting: int  # groups or pairs whose labels are not all the same


@dataclass(frozen=True)
class Overlap:
    """Duplicates among the training and the test images, whose positions follow those of the training images.

    Args:
        labels: int64 [N], of both sets.
        train_size: Number of training images.
        groups: Positions of images with the same pixels.
        pairs: Those no further apart than ``SEARCHED``, the closest first; exact duplicates are among them.
    """

    labels: Tensor
    train_size: int
    groups: list[list[int]]
    pairs: list[Pair]

    @classmethod
    def of(cls, train: ImageDataset, test: ImageDataset) -> "Overlap":
        images = torch.cat([train.images, test.images])
        labels = torch.cat([train.labels, test.labels])
        return cls(labels, len(train), duplicates.exact(images), duplicates.near(images, limit=SEARCHED))

    def image(self, position: int) -> tuple[str, int]:
        """The set that an image is of, and its number in the official file."""
        return ("train", position) if position < self.train_size else ("test", position - self.train_size)

    def place(self, pair: Pair) -> Place:
        if pair.first < self.train_size <= pair.second:
            return "train and test"
        return "within test" if pair.first >= self.train_size else "within train"

    def exact(self, place: Place) -> Count:
        """The groups with images in both sets, or with several in one, by what they have there."""
        groups = []
        for group in self.groups:
            train = [position for position in group if position < self.train_size]
            test = group[len(train) :]
            if place == "train and test":
                groups.append(group if train and test else [])
            else:
                part = train if place == "within train" else test
                groups.append(part if len(part) > 1 else [])
        return self._count([group for group in groups if group])

    def near(self, place: Place, limit: float = NEAR) -> Count:
        """The pairs of a place that are no further apart than a limit."""
        close = (pair for pair in self.pairs if pair.distance <= limit)
        return self._count([[pair.first, pair.second] for pair in close if self.place(pair) == place])

    def contradicts(self, positions: list[int]) -> bool:
        return len(set(self.labels[positions].tolist())) > 1

    def test_images(self, limit: float = NEAR) -> Tensor:
        """Numbers of the test images that have a duplicate in the training set, ascending, int64 [n]."""
        close = (pair for pair in self.pairs if pair.distance <= limit and self.place(pair) == "train and test")
        return torch.tensor(sorted({pair.second - self.train_size for pair in close}), dtype=torch.long)

    def _count(self, sets: list[list[int]]) -> Count:
        images = {position for positions in sets for position in positions}
        return Count(len(sets), len(images), sum(map(self.contradicts, sets)))
