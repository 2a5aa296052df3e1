"""What is measured over an epoch: mean loss, accuracy, confusion matrix."""

import torch
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

NAMES = tuple(f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "acc"))


class MeanLoss(Metric):
    """Mean over the samples of losses that are means over batches: a short last batch weighs by its size.

    torchmetrics' MeanMetric checks each value for NaN, which waits for the device, and drops it, which hides that
    training went wrong; with that check disabled, version 1.9 also disregards the weights.
    """

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, loss: Tensor, batch_size: int) -> None:
        self.total += loss * batch_size
        self.count += batch_size

    def compute(self) -> Tensor:
        return self.total / self.count


class EpochMetrics(nn.Module):
    """Sums over the batches of an epoch; divides once, when asked.

    Nothing is synchronised with the device before ``compute``, and nothing is reset but by ``reset``, so that whoever
    wants to show the figures can read them until the next epoch begins.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.loss = MeanLoss()
        # Micro average: the fraction of all samples. torchmetrics' default is the mean over the classes.
        self.acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch: mean loss [], logits [B, num_classes], class indices [B]."""
        self.loss.update(loss, len(targets))
        self.acc.update(logits, targets)

    def compute(self) -> dict[str, Tensor]:
        """Mean loss over the samples and fraction of correct predictions."""
        return {"loss": self.loss.compute(), "acc": self.acc.compute()}

    def reset(self) -> None:
        self.loss.reset()
        self.acc.reset()

    @property
    def count(self) -> int:
        """Number of samples since the last reset, in this process."""
        return int(self.loss.count)


class EvaluationMetrics(EpochMetrics):
    """With the confusion matrix, which is left out of training because it costs time on every step."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.confusion_matrix = MulticlassConfusionMatrix(num_classes, validate_args=False)

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        super().update(loss, logits, targets)
        self.confusion_matrix.update(logits, targets)

    def reset(self) -> None:
        super().reset()
        self.confusion_matrix.reset()
