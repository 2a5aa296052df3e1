"""What is measured over an epoch: mean loss, accuracy, and the logits that all else is made of."""

import torch
from torch import Tensor, nn
from torch.distributed import is_initialized
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.utilities.distributed import gather_all_tensors

NAMES = tuple(f"{split}/{name}" for split in ("train", "val", "test") for name in ("loss", "acc"))


class MeanLoss(Metric):
    """Mean over the samples of losses that are means over batches: a short last batch weighs by its size.

    torchmetrics' MeanMetric drops what is not a number, which hides that training went wrong; with that check disabled,
    version 1.9 also disregards the weights.
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
    """Notes down what each batch of an epoch brought, and counts it all at once, when asked.

    To update torchmetrics' objects on each step costs a training epoch of the lesson's network 4 % of its time; the
    logits of 60,000 samples take 2.4 MB. Nothing is synchronised with the device before ``compute``, and nothing is
    forgotten but by ``reset``, so that whoever wants to show the figures can read them until the next epoch begins.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self._loss = MeanLoss()
        # Micro average: the fraction of all samples. torchmetrics' default is the mean over the classes.
        self._acc = MulticlassAccuracy(num_classes, average="micro", validate_args=False)
        self._uncounted: list[tuple[Tensor, Tensor, Tensor]] = []
        self.losses: list[Tensor] = []  # of the batches since the last reset, each []

    def update(self, loss: Tensor, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch: mean loss [], logits [B, num_classes], class indices [B]."""
        self._uncounted.append((loss, logits, targets))
        self.losses.append(loss)

    def compute(self) -> dict[str, Tensor]:
        """Mean loss over the samples and fraction of correct predictions, of all processes together."""
        self._count_up()
        return {"loss": self._loss.compute(), "acc": self._acc.compute()}

    def reset(self) -> None:
        self._uncounted.clear()
        self.losses.clear()
        self._loss.reset()
        self._acc.reset()

    @property
    def count(self) -> int:
        """Number of samples since the last reset, in this process alone."""
        self._count_up()
        return int(self._loss.count)

    def _count_up(self) -> None:
        if not self._uncounted:
            return
        losses, logits, targets = zip(*self._uncounted, strict=True)
        self._uncounted.clear()
        sizes = torch.tensor([len(batch) for batch in targets], device=targets[0].device)
        self._loss.update(torch.stack(losses), sizes)
        self._count_predictions(torch.cat(logits), torch.cat(targets))

    def _count_predictions(self, logits: Tensor, targets: Tensor) -> None:
        self._acc.update(logits, targets)


class EvaluationMetrics(EpochMetrics):
    """With the logits of every sample, from which ``fmnist.training.evaluation`` makes all else."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self._logits: list[Tensor] = []

    def logits(self) -> Tensor:
        """What the network said of each sample, in all processes, in the order of the set, [N, num_classes]."""
        self._count_up()
        logits = torch.cat(self._logits)
        return torch.cat(gather_all_tensors(logits)) if is_initialized() else logits

    def reset(self) -> None:
        super().reset()
        self._logits.clear()

    def _count_predictions(self, logits: Tensor, targets: Tensor) -> None:
        super()._count_predictions(logits, targets)
        self._logits.append(logits)
