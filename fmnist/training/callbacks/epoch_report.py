"""Says what each epoch has brought: a line in the terminal and the log file, the speed in the logger."""

import logging
import time

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from fmnist.data.batches import Batch
from fmnist.training.classifier import Classifier
from fmnist.training.loggers import log_at_once

log = logging.getLogger(__name__)


class EpochReport(Callback):
    """Writes a line per epoch with loss, accuracy and seconds; logs ``train/images_per_second``.

    The seconds are those of the training steps and of the validation steps. What comes after them, such as drawing and
    writing checkpoints, is in neither.

    Attributes:
        training_seconds: From the first training step to the end of training, whatever happens in between, but for the
            validation. Of a run that was interrupted, what led to the checkpoints from which it went on.
    """

    def __init__(self) -> None:
        self._train_start: float | None = None
        self._val_start = self._train_seconds = self._val_seconds = 0.0
        self._earlier = 0.0  # seconds of training before this process
        self._first_step: float | None = None
        self._evaluated = 0.0  # seconds since then
        self._end: float | None = None

    @property
    def training_seconds(self) -> float:
        if self._first_step is None:
            return self._earlier
        end = time.perf_counter() if self._end is None else self._end
        return self._earlier + end - self._first_step - self._evaluated

    def state_dict(self) -> dict[str, float]:
        return {"training_seconds": self.training_seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        self._earlier = state_dict["training_seconds"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._train_start = time.perf_counter()
        self._train_seconds = self._val_seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Classifier, batch: Batch, batch_idx: int) -> None:
        if self._train_start is None:  # training goes on after a validation within the epoch
            self._train_start = time.perf_counter()
        if self._first_step is None:
            self._first_step = time.perf_counter()

    def on_validation_start(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._stop_training()
        self._val_start = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        seconds = time.perf_counter() - self._val_start
        self._val_seconds += seconds
        self._evaluated += seconds

    def on_train_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._end = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._stop_training()
        images_per_second = pl_module.train_metrics.count * trainer.world_size / self._train_seconds
        log_at_once(trainer, {"train/images_per_second": images_per_second})

        # Straight from the metrics: Lightning runs this hook before the module's own, which logs them.
        parts = [_part("train", pl_module.train_metrics.compute(), self._train_seconds)]
        if self._val_seconds:
            parts.append(_part("val", pl_module.val_metrics.compute(), self._val_seconds))
        number = trainer.current_epoch + 1
        total = trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else None
        epoch = f"{number:{len(str(total))}}/{total}" if total else f"{number}"
        log.info("epoch %s  %s", epoch, "  ".join(parts))

    def _stop_training(self) -> None:
        if self._train_start is not None:
            self._train_seconds += time.perf_counter() - self._train_start
            self._train_start = None


def _part(split: str, metrics: dict[str, Tensor], seconds: float) -> str:
    return f"{split} loss {metrics['loss']:.4f} acc {metrics['acc']:.4f} ({seconds:.1f} s)"
