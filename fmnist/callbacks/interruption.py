"""Says what is left of a run that was stopped with Ctrl-C."""

import logging

from lightning.pytorch import Callback, LightningModule, Trainer

from fmnist.run_directory import RunDirectory

log = logging.getLogger(__name__)


class Interruption(Callback):
    """Names the last checkpoint when the user stops a run. Lightning then ends the program with exit code 1."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if not isinstance(exception, KeyboardInterrupt):
            return
        run = RunDirectory(trainer.default_root_dir)
        if run.last_checkpoint.is_file():
            kept = f"kept {run.last_checkpoint}, of the last finished epoch"
        else:
            kept = f"no epoch was finished, so there is no checkpoint in {run.path}"
        where = "during the test, after training" if trainer.testing else f"in epoch {trainer.current_epoch + 1}"
        log.warning("interrupted %s: %s", where, kept)
