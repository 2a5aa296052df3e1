"""A network's logits on a set of images: per-class metrics, mistakes, calibration."""

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

from fmnist.data.dataset import ImageDataset

CALIBRATION_BINS = 15  # as in Guo et al. 2017, "On Calibration of Modern Neural Networks"


@dataclass(frozen=True)
class Calibration:
    """Accuracy by confidence, in bins of equal width. Bins without samples are left out.

    Args:
        number: Number of each bin, from 0 for the lowest confidence, int64 [bins].
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
    """Images, their classes and a network's logits, aligned, on the CPU.

    Args:
        images: uint8 [N, C, H, W].
        targets: int64 [N].
        logits: float32 [N, num_classes].
        indices: Index of each image in its official file, int64 [N].
    """

    images: Tensor
    targets: Tensor
    logits: Tensor
    indices: Tensor

    @classmethod
    def of(cls, dataset: ImageDataset, indices: Tensor, logits: Tensor) -> "Evaluation":
        """Aligns logits with the images at ``indices``, or with the first of them if there are fewer logits."""
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
        """float32 [N, num_classes]."""
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
        """Counts, int64 [num_classes, num_classes]: true classes as rows, predicted classes as columns."""
        return multiclass_confusion_matrix(self.predicted, self.targets, self.num_classes)

    def per_class(self) -> dict[str, Tensor]:
        """``precision``, ``recall`` and ``f1``, float32 [num_classes], and ``support``, the number of images.

        The precision of a class that was never predicted is 0.
        """
        predicted, targets, n = self.predicted, self.targets, self.num_classes
        return {
            "precision": multiclass_precision(predicted, targets, n, average="none"),
            "recall": multiclass_recall(predicted, targets, n, average="none"),
            "f1": multiclass_f1_score(predicted, targets, n, average="none"),
            "support": targets.bincount(minlength=n),
        }

    def balanced_accuracy(self) -> float:
        """The mean of the recalls of all classes that have images: with rare classes, accuracy says little of them."""
        values = self.per_class()
        return values["recall"][values["support"] > 0].mean().item()

    def mistakes(self) -> Tensor:
        """Positions of the misclassified images, the most confident first, int64 [M]."""
        wrong = (self.predicted != self.targets).nonzero().flatten()
        return wrong[self.confidence[wrong].argsort(descending=True, stable=True)]

    def confused_pairs(self) -> list[tuple[int, int, int]]:
        """True class, predicted class and number of images of each confusion, the most frequent first."""
        counts = self.confusion_matrix.clone().fill_diagonal_(0)
        pairs = [(row, column, int(counts[row, column])) for row, column in counts.nonzero().tolist()]
        return sorted(pairs, key=lambda pair: -pair[2])

    def calibration(self) -> Calibration:
        correct = (self.predicted == self.targets).float()
        number = (self.confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
        count = number.bincount(minlength=CALIBRATION_BINS)
        filled = count > 0
        confidence, accuracy = (
            number.bincount(weights=values, minlength=CALIBRATION_BINS)[filled] / count[filled]
            for values in (self.confidence, correct)
        )
        error = multiclass_calibration_error(
            self.probabilities, self.targets, self.num_classes, n_bins=CALIBRATION_BINS, norm="l1"
        )
        return Calibration(filled.nonzero().flatten(), confidence, accuracy, count[filled], error.item())
