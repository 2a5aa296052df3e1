"""Checkpoints in the run directory, each with the metrics of its epoch."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loops.fit_loop import _FitLoop
from lightning.pytorch.loops.loop import _Loop
from lightning.pytorch.trainer.states import TrainerFn

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory


class Checkpoint(ModelCheckpoint):
    """Keeps one checkpoint, ``checkpoints/<filename>.ckpt`` in the run directory.

    Best and last are two of these: Lightning's ``save_last`` writes only after epochs that were the best so far. Each
    checkpoint holds its epoch's metrics under the key ``metrics``, as plain numbers. The last is what a run goes on
    from: when it is written, the best and all that the loggers know of the epoch are on the disk.

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

        # Of the epoch that a run was resumed after: its figures, and how far training had come.
        self._metrics: dict[str, float] = {}
        self._loops: dict[str, Any] | None = None

    @property
    def state_key(self) -> str:
        # Lightning's is made of what is monitored, which best and last share when there is nothing to validate on.
        return f"{type(self).__name__}({self.filename})"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.dirpath = str(RunDirectory(trainer.default_root_dir).checkpoints)
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        # Lightning does not restore them, and early stopping may look at a validation some epochs ago.
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in self._metrics.items()})

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that max_steps or max_time ends before its first validation has nothing to choose by.
        if self.monitor is None or self.monitor in trainer.callback_metrics:
            if self.filename == "last":
                for logger in trainer.loggers:
                    logger.save()  # else a killed process takes with it what waits to be written, up to two minutes
            super().on_train_epoch_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint["metrics"] = {name: value.item() for name, value in trainer.callback_metrics.items()}
        checkpoint["should_stop"] = trainer.should_stop

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # A run that was killed after early stopping had ended it must not train one more epoch.
        trainer.should_stop = checkpoint.get("should_stop", False)
        self._metrics = checkpoint.get("metrics", {})
        if self.filename == "last" and trainer.state.fn == TrainerFn.FITTING:
            self._loops = checkpoint.pop("loops")

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._loops is not None:
            _restore(trainer.fit_loop, self._loops["fit_loop"])

    def state_dict(self) -> dict[str, Any]:
        return {"best_model_score": self.best_model_score}  # not where the files were: a run may be moved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        score = state_dict["best_model_score"]
        if score is None:
            return
        assert self.dirpath is not None
        path = str(Path(self.dirpath) / f"{self.filename}.ckpt")
        if not Path(path).is_file():
            raise UserError(f"{path} is missing, and this run chooses by it: it cannot go on without")
        self.best_model_score = self.kth_value = score
        self.best_model_path = self.kth_best_model_path = path
        self.best_k_models = {path: score}


def _restore(loop: _FitLoop, state: dict[str, Any]) -> None:
    """Restores how far training had come, in place of Lightning, which does not always do so.

    Its checkpoint says 'about to end an epoch'. With ``trainer.max_steps``, Lightning 2.6 then ends that epoch once
    more, without a single step; and if training was over, it counts one epoch less.
    """
    for progress in state["epoch_progress"].values():
        progress["completed"] = progress["processed"]
    loop.load_state_dict(state)
    _Loop.restarting.fset(loop, False)  # type: ignore[attr-defined]
