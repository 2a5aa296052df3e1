"""Draws the confusion matrix of the validation set now and then, and that of the test set."""

from lightning.pytorch import Callback, Trainer

from fmnist import figures
from fmnist.classifier import Classifier
from fmnist.files import CLASS_NAMES
from fmnist.logger import log_figure
from fmnist.metrics import EvaluationMetrics


class ConfusionMatrix(Callback):
    """Logs ``val/confusion_matrix`` after epochs 1, 2, 5, 10, 20, 50 ... and the last.

    A drawing after each epoch would cost more than all other logging of the epoch. ``test/confusion_matrix`` is drawn
    once.
    """

    def __init__(self) -> None:
        self._undrawn: tuple[int, int] | None = None  # epoch, counted from 1, and step of the last validation

    def on_validation_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._undrawn = (trainer.current_epoch + 1, trainer.global_step)
        if is_milestone(trainer.current_epoch + 1):
            self._draw_val(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._draw_val(trainer, pl_module)

    def on_test_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        _draw(trainer, "test", pl_module.test_metrics, "test set", trainer.global_step)

    def _draw_val(self, trainer: Trainer, pl_module: Classifier) -> None:
        if self._undrawn is not None:
            epoch, step = self._undrawn
            _draw(trainer, "val", pl_module.val_metrics, f"validation set after epoch {epoch}", step)
            self._undrawn = None


def is_milestone(epoch: int) -> bool:
    """Whether an epoch, counted from 1, is one of 1, 2, 5, 10, 20, 50, 100, 200, 500 ..."""
    return str(epoch).rstrip("0") in ("1", "2", "5")


def _draw(trainer: Trainer, split: str, metrics: EvaluationMetrics, subject: str, step: int) -> None:
    counts = metrics.confusion_matrix().cpu().numpy()
    share = counts.trace() / counts.sum()
    figure = figures.confusion_matrix(counts, CLASS_NAMES, title=f"{subject}: {share:.2%} of {counts.sum():,} correct")
    log_figure(trainer, f"{split}/confusion_matrix", figure, step)
