"""Checkpoints in the run directory, each with the metrics of its epoch."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from fmnist.run_directory import RunDirectory


class Checkpoint(ModelCheckpoint):
    """Keeps one checkpoint, ``checkpoints/<filename>.ckpt`` in the run directory.

    Best and last are two of these: Lightning's ``save_last`` writes only after epochs that were the best so far. Each
    checkpoint holds its epoch's metrics under the key ``metrics``, as plain numbers.

    Args:
        filename: ``best`` or ``last``: the names that the rest of the program looks for.
        monitor: Name of the metric to choose by; None keeps the checkpoint of the last epoch.
        mode: ``max`` or ``min``.

    Raises:
        ValueError: Another filename.
    """

    def __init__(self, *, filename: str, monitor: str | None = None, mode: str = "max") -> None:
        if filename not in ("best", "last"):
            raise ValueError(f"filename must be best or last, got {filename}")
        super().__init__(
            filename=filename,
            monitor=monitor,
            mode=mode,
            enable_version_counter=False,
            # The last is of every epoch; the best may be of a validation within an epoch, which Lightning decides.
            save_on_train_epoch_end=True if monitor is None else None,
        )

    @property
    def state_key(self) -> str:
        # Lightning's is made of what is monitored, which best and last share when there is nothing to validate on.
        return f"{type(self).__name__}({self.filename})"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = str(RunDirectory(trainer.default_root_dir).checkpoints)
        super().setup(trainer, pl_module, stage)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that max_steps or max_time ends before its first validation has nothing to choose by.
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            super().on_train_epoch_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["metrics"] = {name: value.item() for name, value in trainer.callback_metrics.items()}
