"""Training that goes wrong stops: a loss that is not finite ends the run, and is told so that one can look at it."""

from collections.abc import Sequence

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory


class Watch:
    """Looks at the losses of an epoch, many at once, since to look at one makes the device wait.

    It is to look before anything is made of the weights, such as a checkpoint.
    """

    def __init__(self) -> None:
        self._start(0)

    def start_epoch(self, trainer: Trainer) -> None:
        self._start(trainer.global_step)

    def _start(self, step: int) -> None:
        self._first_step = step
        self._rates: list[float] = []
        self._seen = 0

    def note(self, trainer: Trainer) -> None:
        """Notes the learning rate of the batch that comes."""
        self._rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def look(self, trainer: Trainer, losses: Sequence[Tensor]) -> None:
        """Looks at what has come since the last time.

        Args:
            trainer: What trains.
            losses: The losses of all batches of the epoch so far, each [].

        Raises:
            UserError: One is not finite.
        """
        new = losses[self._seen :]
        if not new:
            return
        means = trainer.strategy.reduce(torch.stack(list(new)))  # over the processes, all of which are to stop
        bad = (~means.isfinite()).nonzero().flatten()
        if len(bad):
            batch = int(bad[0])
            raise UserError(self._tell(trainer, self._seen + batch, means[batch]))
        self._seen = len(losses)

    def _tell(self, trainer: Trainer, batch: int, loss: Tensor) -> str:
        epoch = trainer.current_epoch
        step = self._first_step + batch // trainer.accumulate_grad_batches
        text = (
            f"the loss is {loss.item()} in step {step + 1}, batch {batch + 1} of epoch {epoch + 1}, at learning rate "
            f"{float(self._rates[batch]):g}: a lower optimizer.lr or trainer.gradient_clip_val=1 may help"
        )
        last = RunDirectory(trainer.default_root_dir).last_checkpoint
        text += f"; kept: {last}" if last.is_file() else "; no epoch was finished, so there is no checkpoint"
        data = trainer.datamodule  # type: ignore[attr-defined]
        if data is not None:
            text += f"; training images of the batch: {' '.join(map(str, data.samples(epoch, batch).tolist()))}"
        return text
