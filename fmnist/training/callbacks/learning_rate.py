"""Logs the learning rate."""

from lightning.pytorch import Callback, Trainer
from torch.optim import Optimizer

from fmnist.training.classifier import Classifier


class LearningRate(Callback):
    """Logs ``lr`` every ``log_every_n_steps`` optimizer steps.

    All parameter groups have the same rate, so one curve is enough. Lightning's LearningRateMonitor draws one each.
    """

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Classifier, optimizer: Optimizer) -> None:
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every > 0 and (trainer.global_step + 1) % every == 0:
            for logger in trainer.loggers:
                logger.log_metrics({"lr": optimizer.param_groups[0]["lr"]}, step=trainer.global_step)
