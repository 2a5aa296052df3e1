"""Prints one line per epoch and measures the time that training takes."""

import logging
import time

from lightning.pytorch import Callback, Trainer
from torch import Tensor

from fmnist.data.batches import Batch
from fmnist.training.classifier import Classifier
from fmnist.training.loggers import log_now

log = logging.getLogger(__name__)


class EpochReport(Callback):
    """Prints loss, accuracy and seconds of each epoch; logs ``train/images_per_second``.

    The seconds cover the training steps and the validation steps, not drawing or writing checkpoints.
    """

    def __init__(self) -> None:
        self._train_start: float | None = None
        self._val_start = self._train_seconds = self._val_seconds = 0.0
        self._earlier = 0.0  # training seconds of earlier sessions of a resumed run
        self._first_step: float | None = None
        self._evaluated = 0.0  # seconds of validation since the first step
        self._end: float | None = None
        self._fitted = False

    @property
    def training_seconds(self) -> float:
        """Seconds from the first training step to the end of training, without validation.

        Of a resumed run, the sum over the sessions, each up to the checkpoint from which the next one resumed.
        """
        if self._first_step is None:
            return self._earlier
        end = time.perf_counter() if self._end is None else self._end
        return self._earlier + end - self._first_step - self._evaluated

    def state_dict(self) -> dict[str, float]:
        return {"training_seconds": self.training_seconds}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        if not self._fitted:  # for the test that follows, Lightning loads the state of the best checkpoint
            self._earlier = state_dict["training_seconds"]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._train_start = time.perf_counter()
        self._train_seconds = self._val_seconds = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Classifier, batch: Batch, batch_idx: int) -> None:
        if self._train_start is None:  # training continues after a validation within the epoch
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

    def on_fit_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._fitted = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Classifier) -> None:
        self._stop_training()
        images_per_second = pl_module.train_metrics.count * trainer.world_size / self._train_seconds
        log_now(trainer, {"train/images_per_second": images_per_second})

        # Computed here: Lightning calls this hook before the module's, which logs the same metrics.
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
