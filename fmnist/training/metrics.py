"""Loss and accuracy of an epoch, and the logits of an evaluation."""

import torch
from torch import Tensor, nn
from torch.distributed import is_initialized
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.utilities.distributed import gather_all_tensors

NAMES = tuple(f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "acc"))


class MeanLoss(Metric):
    """Mean over samples of losses that are means over batches: a short last batch counts by its size.

    torchmetrics' MeanMetric drops NaN, which would hide a failed training; with that check disabled, version 1.9 also
    ignores the weights.
    """

    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, losses: Tensor, sizes: Tensor) -> None:
        """Adds batches: mean losses [N], numbers of samples int64 [N]."""
        self.total += losses @ sizes.to(losses.dtype)
        self.count += sizes.sum()

    def compute(self) -> Tensor:
        return self.total / self.count


class EpochMetrics(nn.Module):
    """Collects the results of an epoch's batches and updates torchmetrics once, in ``compute``.

    Updating torchmetrics on every step would cost 4 % of a training epoch of the lesson's network; the logits of 60,000
    samples take 2.4 MB. Nothing waits for the device before ``compute``. The metrics stay readable until ``reset``.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self._loss = MeanLoss()
        # Micro average: the fraction of all samples. The default of torchmetrics is the mean over classes.
        self._acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self._pending: list[tuple[Tensor, Tensor, Tensor]] = []  # loss, logits and targets of each batch

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch: mean loss [], logits [B, num_classes], class indices [B]."""
        self._pending.append((loss, logits, targets))

    def compute(self) -> dict[str, Tensor]:
        """Mean loss over the samples and fraction of correct predictions, over all processes."""
        self._flush()
        return {"loss": self._loss.compute(), "acc": self._acc.compute()}

    def reset(self) -> None:
        self._pending.clear()
        self._loss.reset()
        self._acc.reset()

    @property
    def count(self) -> int:
        """Number of samples since the last reset, in this process."""
        self._flush()
        return int(self._loss.count)

    def _flush(self) -> None:
        if not self._pending:
            return
        losses, logits, targets = zip(*self._pending, strict=True)
        self._pending.clear()
        sizes = torch.tensor([len(batch) for batch in targets], device=targets[0].device)
        self._loss.update(torch.stack(losses), sizes)
        self._update_predictions(torch.cat(logits), torch.cat(targets))

    def _update_predictions(self, logits: Tensor, targets: Tensor) -> None:
        self._acc.update(logits, targets)


class EvaluationMetrics(EpochMetrics):
    """Also keeps the logits of every sample, for ``fmnist.training.evaluation``."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self._logits: list[Tensor] = []

    def logits(self) -> Tensor:
        """Logits of the samples of all processes, in the order of the set, [N, num_classes]."""
        self._flush()
        logits = torch.cat(self._logits)
        return torch.cat(gather_all_tensors(logits)) if is_initialized() else logits

    def reset(self) -> None:
        super().reset()
        self._logits.clear()

    def _update_predictions(self, logits: Tensor, targets: Tensor) -> None:
        super()._update_predictions(logits, targets)
        self._logits.append(logits)
