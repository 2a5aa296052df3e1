"""Stops a run that the pruner of a search gives up on."""

from collections.abc import Callable

from lightning.pytorch import Callback, LightningModule, Trainer

from fmnist.config.errors import Pruned


class Pruning(Callback):
    """Asks the pruner after each validation whether to stop.

    A pruned run stops before its next epoch, after its checkpoint has been written, so it can be resumed. A run in its
    last epoch finishes.

    Args:
        metric: The metric that the pruner judges.
        should_prune: Called with the number of epochs and the metric's value.
    """

    def __init__(self, *, metric: str, should_prune: Callable[[int, float], bool]) -> None:
        self.metric = metric
        self.should_prune = should_prune
        self._reason: str | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.sanity_checking or self.metric not in trainer.callback_metrics:
            return
        epoch, value = trainer.current_epoch + 1, trainer.callback_metrics[self.metric].item()
        prune = self.should_prune(epoch, value)
        self._reason = f"pruned after epoch {epoch}: {self.metric} {value:.4f}" if prune else None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._reason is not None:
            raise Pruned(self._reason)
