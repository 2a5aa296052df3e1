"""What a network says of a whole set, and what follows from it: per class figures, mistakes, calibration."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_confusion_matrix,
    multiclass_f1_score,
    multiclass_precision,
    multiclass_recall,
)

from fmnist.data.fashion_mnist import ImageDataset

CALIBRATION_BINS = 15  # as in Guo et al. 2017, "On Calibration of Modern Neural Networks"


@dataclass(frozen=True)
class Calibration:
    """How often a network is right, by how sure it is. Bins of equal width; those without samples are left out.

    Args:
        number: Which bin it is, from 0 for the least sure, int64 [bins].
        confidence: Mean probability of the predicted class in each bin, [bins].
        accuracy: Fraction of correct predictions in each bin, [bins].
        count: Samples in each bin, int64 [bins].
        error: Expected calibration error: mean of ``|accuracy - confidence|`` over the samples.
    """

    number: Tensor
    confidence: Tensor
    accuracy: Tensor
    count: Tensor
    error: float


@dataclass(frozen=True)
class Evaluation:
    """The images of a set, their classes, and the network's logits, aligned and on the processor.

    Args:
        images: uint8 [N, 1, 28, 28].
        targets: int64 [N].
        logits: float32 [N, C].
        indices: Number of each image in the official file that it is from, int64 [N].
    """

    images: Tensor
    targets: Tensor
    logits: Tensor
    indices: Tensor

    @classmethod
    def of(cls, dataset: ImageDataset, indices: Tensor, logits: Tensor) -> "Evaluation":
        """Aligns the logits with the part of a set that they were made of, in its order; or with its beginning."""
        indices = indices[: len(logits)].cpu()
        images, targets = dataset.to(torch.device("cpu"))[indices]
        return cls(images, targets, logits.detach().float().cpu(), indices)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def num_classes(self) -> int:
        return self.logits.shape[1]

    @cached_property
    def probabilities(self) -> Tensor:
        """float32 [N, C]."""
        return self.logits.softmax(dim=1)

    @cached_property
    def predicted(self) -> Tensor:
        """Most probable class of each image, int64 [N]."""
        return self.logits.argmax(dim=1)

    @cached_property
    def confidence(self) -> Tensor:
        """Probability of the predicted class, float32 [N]."""
        return self.probabilities.amax(dim=1)

    @cached_property
    def confusion_matrix(self) -> Tensor:
        """Counts, int64 [C, C]: true classes as rows, predicted classes as columns."""
        return multiclass_confusion_matrix(self.predicted, self.targets, self.num_classes)

    def per_class(self) -> dict[str, Tensor]:
        """``precision``, ``recall`` and ``f1`` of each class, float32 [C], and its number of images, ``support``.

        Where a class was never predicted its precision is 0.
        """
        predicted, targets, n = self.predicted, self.targets, self.num_classes
        return {
            "precision": multiclass_precision(predicted, targets, n, average="none"),
            "recall": multiclass_recall(predicted, targets, n, average="none"),
            "f1": multiclass_f1_score(predicted, targets, n, average="none"),
            "support": self.targets.bincount(minlength=self.num_classes),
        }

    def mistakes(self) -> Tensor:
        """Positions of the wrongly classified images, the most confident first, int64 [M]."""
        wrong = (self.predicted != self.targets).nonzero().flatten()
        return wrong[self.confidence[wrong].argsort(descending=True, stable=True)]

    def confused_pairs(self) -> list[tuple[int, int, int]]:
        """True class, predicted class and number of images of each confusion, the most frequent first."""
        counts = self.confusion_matrix.clone().fill_diagonal_(0)
        pairs = [(row, column, int(counts[row, column])) for row, column in counts.nonzero().tolist()]
        return sorted(pairs, key=lambda pair: -pair[2])

    def calibration(self) -> Calibration:
        """How often the network is right, by how sure it is."""
        right = (self.predicted == self.targets).float()
        number = (self.confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
        count = number.bincount(minlength=CALIBRATION_BINS)
        filled = count > 0
        confidence, accuracy = (
            number.bincount(weights=values, minlength=CALIBRATION_BINS)[filled] / count[filled]
            for values in (self.confidence, right)
        )
        error = multiclass_calibration_error(
            self.probabilities, self.targets, self.num_classes, n_bins=CALIBRATION_BINS, norm="l1"
        )
        return Calibration(filled.nonzero().flatten(), confidence, accuracy, count[filled], error.item())
