"""Private parts of Lightning: these tests fail when it changes, or when it no longer needs the workaround."""

import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from torch.utils.data import DataLoader

from fmnist.data.batches import Batch
from fmnist.training.lightning_internals import ignore_signals, restore_progress
from tests.training.test_classifier import classifier, loader, trainer

__all__ = ["loader"]  # a fixture

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


@pytest.mark.parametrize("ignored", [True, False])
def test_lightning_handles_sigterm_unless_it_ignores_signals(
    ignored: bool, tmp_path: Path, loader: DataLoader[Batch]
) -> None:
    handlers = []

    class Recorder(Callback):
        def on_train_epoch_start(self, *_args: Any) -> None:
            handlers.append(signal.getsignal(signal.SIGTERM))

    fit = trainer(tmp_path, max_epochs=1, callbacks=[Recorder()])
    if ignored:
        ignore_signals(fit)
    fit.fit(classifier(), loader)
    assert (handlers == [signal.SIG_DFL]) == ignored


class Progress(Callback):
    """Records which epochs end; saves each epoch, and restores the progress, if asked."""

    def __init__(self, *, save: Path | None = None, restore: bool = False) -> None:
        self.save = save
        self.restore = restore
        self.ends: list[int] = []
        self._loops: dict[str, Any] | None = None

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        if self.restore:
            self._loops = checkpoint.pop("loops")

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        if self._loops:
            restore_progress(trainer, self._loops["fit_loop"])

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.ends.append(trainer.current_epoch)
        if self.save:
            trainer.save_checkpoint(self.save)


@pytest.mark.parametrize(("restore", "ends"), [(True, [1]), (False, [0, 1])])
def test_without_restored_progress_lightning_ends_an_epoch_twice(
    restore: bool, ends: list[int], tmp_path: Path, loader: DataLoader[Batch]
) -> None:
    """A run that max_steps=15 ends in its second epoch of 10 steps, resumed after the first epoch."""
    first = tmp_path / "first.ckpt"
    trainer(tmp_path, max_epochs=1, callbacks=[Progress(save=first)]).fit(classifier(), loader)
    progress = Progress(restore=restore)
    resumed = trainer(tmp_path, max_steps=15, max_epochs=-1, callbacks=[progress])
    resumed.fit(classifier(), loader, ckpt_path=first, weights_only=True)
    assert progress.ends == ends
    assert resumed.global_step == 15
