"""Ends a run of a search that promises nothing."""

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer

from fmnist.config.errors import Pruned


class Pruning(Callback):
    """Asks after each validation whether the run is worth going on with.

    A run that is not ends before its next epoch, when the checkpoint of the last one has been written: it can be
    resumed. One that has reached its last epoch finishes.

    Args:
        metric: The metric to judge by.
        is_hopeless: Decides by the number of epochs and the metric's value.
    """

    def __init__(self, *, metric: str, is_hopeless: Callable[[int, float], bool]) -> None:
        self.metric = metric
        self.is_hopeless = is_hopeless
        self._reason: str | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.metric not in trainer.callback_metrics:
            return
        epoch, value = trainer.current_epoch + 1, trainer.callback_metrics[self.metric].item()
        hopeless = self.is_hopeless(epoch, value)
        self._reason = f"pruned after epoch {epoch}: {self.metric} {value:.4f}" if hopeless else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._reason is not None:
            raise Pruned(self._reason)
