"""Checkpoints in the run directory, each with the metrics of its epoch."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory
from fmnist.training.lightning_internals import restore_progress


class Checkpoint(ModelCheckpoint):
    """Keeps one checkpoint, ``checkpoints/<filename>.ckpt`` in the run directory.

    Best and last are two of these, because Lightning's ``save_last`` writes only when the best changed. Each checkpoint
    holds the metrics of its epoch as plain numbers, under the key ``metrics``. Runs resume from the last: when it is
    written, the best checkpoint and all log entries of the epoch are already on disk.

    Args:
        filename: ``best`` or ``last``.
        monitor: Metric that chooses the checkpoint; None keeps that of the last epoch.
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
            # The last is written once per epoch; for the best, Lightning also handles validations within an epoch.
            save_on_train_epoch_end=True if monitor is None else None,
        )
        # Metrics and loop state of the epoch after which the run was resumed.
        self._metrics: dict[str, float] = {}
        self._loops: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        # Lightning's key names the monitored metric, which best and last share when there is no validation set.
        return f"{type(self).__name__}({self.filename})"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = str(RunDirectory(trainer.default_root_dir).checkpoints)
        super().setup(trainer, pl_module, stage)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._loops is not None:
            restore_progress(trainer, self._loops["fit_loop"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Lightning does not restore these, and early stopping may need the metrics of an earlier validation.
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self._metrics.items()})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that max_steps or max_time ends before its first validation has no metric to choose by.
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            if self.filename == "last":
                for logger in trainer.loggers:
                    logger.save()  # otherwise a killed process loses up to two minutes of buffered entries
            super().on_train_epoch_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["metrics"] = {name: value.item() for name, value in trainer.callback_metrics.items()}
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # A run that was killed after early stopping ended it must not train another epoch.
        trainer.should_stop = checkpoint.get("should_stop", False)
        self._metrics = checkpoint.get("metrics", {})
        if self.filename == "last" and trainer.state.fn == TrainerFn.FITTING:
            self._loops = checkpoint.pop("loops")

    def state_dict(self) -> dict[str, Any]:
        return {"best_model_score": self.best_model_score}  # no paths: a run directory may be moved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        score = state_dict["best_model_score"]
        if score is None:
            return
        assert self.dirpath is not None
        path = str(Path(self.dirpath) / f"{self.filename}.ckpt")
        if not Path(path).is_file():
            raise UserError(f"cannot resume: {path} is missing, and this run needs it to tell which epoch is the best")
        self.best_model_score = self.kth_value = score
        self.best_model_path = self.kth_best_model_path = path
        self.best_k_models = {path: score}
