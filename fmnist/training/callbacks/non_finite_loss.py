"""Stops a run whose loss is NaN or infinite, and names the step and its images."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory


class NonFiniteLoss(Callback):
    """Raises a ``UserError`` that names step, learning rate and images of the first loss that is not finite.

    Looking at a loss makes a GPU wait. So losses are collected and checked together: every ``log_every_n_steps`` steps,
    and before every validation and checkpoint, so that no checkpoint holds spoiled weights.
    """

    def __init__(self) -> None:
        self._losses: list[Tensor] = []  # of the batches since the last check, each []
        self._rates: list[float] = []  # learning rate of each batch of the epoch
        self._checked = 0  # batches of the epoch that were checked
        self._first_step = 0  # of the epoch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._losses, self._rates = [], []
        self._checked, self._first_step = 0, trainer.global_step

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(outputs["loss"])
        every = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if every > 0 and trainer.global_step % every == 0:
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer)

    def _check(self, trainer: Trainer) -> None:
        if not self._losses:
            return
        means = trainer.strategy.reduce(torch.stack(self._losses))  # over all processes, so that all of them stop
        bad = (~means.isfinite()).nonzero().flatten()
        if len(bad):
            raise UserError(self._describe(trainer, self._checked + int(bad[0]), means[bad[0]]))
        self._checked += len(self._losses)
        self._losses = []

    def _describe(self, trainer: Trainer, batch: int, loss: Tensor) -> str:
        step = self._first_step + batch // trainer.accumulate_grad_batches
        last = RunDirectory(trainer.default_root_dir).last_checkpoint
        text = (
            f"the loss is {loss.item()} in step {step + 1}, batch {batch + 1} of epoch {trainer.current_epoch + 1}, at "
            f"learning rate {float(self._rates[batch]):g}: a lower optimizer.lr or trainer.gradient_clip_val=1 may "
            "help; "
        )
        text += f"kept: {last}" if last.is_file() else "no epoch was finished, so there is no checkpoint"
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data is not None:
            indices = data.batch_indices(trainer.current_epoch, batch).tolist()
            text += f"; training images of the batch: {' '.join(map(str, indices))}"
        return text
