"""Tells how to resume when a run is interrupted."""

import logging

from lightning.pytorch import Callback, LightningModule, Trainer

from fmnist.runs.run_directory import RunDirectory

log = logging.getLogger(__name__)


class Interruption(Callback):
    """Names the last checkpoint when a run is stopped by Ctrl-C or a signal."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, KeyboardInterrupt | SystemExit):
            return
        run = RunDirectory(trainer.default_root_dir)
        if run.last_checkpoint.is_file():
            kept = f"kept {run.shown / 'checkpoints/last.ckpt'}, of the last finished epoch"
        else:
            kept = f"no epoch was finished, so there is no checkpoint in {run.shown}"
        where = "during the test, after training" if trainer.testing else f"in epoch {trainer.current_epoch + 1}"
        log.warning("interrupted %s: %s; to resume:  %s", where, kept, run.resume_command)
