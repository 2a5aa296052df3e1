"""Private parts of Lightning: these tests fail when it changes, or when it no longer needs the workaround."""

import signal
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import LambdaCallback

from fmnist.training.lightning_internals import ignore_signals, restore_progress
from tests.training.test_classifier import Loader, classifier, loader, trainer

__all__ = ["loader"]  # a fixture

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


@pytest.mark.parametrize("ignored", [True, False])
def test_lightning_handles_sigterm_unless_it_ignores_signals(ignored: bool, tmp_path: Path, loader: Loader) -> None:
    handlers: list[Any] = []
    note = LambdaCallback(on_train_epoch_start=lambda *_: handlers.append(signal.getsignal(signal.SIGTERM)))
    fit = trainer(tmp_path, max_epochs=1, callbacks=[note])
    if ignored:
        ignore_signals(fit)
    fit.fit(classifier(), loader)
    assert (handlers == [signal.SIG_DFL]) == ignored


@pytest.mark.parametrize(("restore", "ends"), [(True, [1]), (False, [0, 1])])
def test_without_restored_progress_lightning_ends_an_epoch_twice(
    restore: bool, ends: list[int], tmp_path: Path, loader: Loader
) -> None:
    """A run that max_steps=15 ends in its second epoch of 10 steps, resumed after the first epoch."""
    path = tmp_path / "first.ckpt"
    save = LambdaCallback(on_train_epoch_end=lambda trainer, _: trainer.save_checkpoint(path))
    trainer(tmp_path, max_epochs=1, callbacks=[save]).fit(classifier(), loader)
    loops: dict[str, Any] = {}
    found: list[int] = []
    note = LambdaCallback(
        on_load_checkpoint=lambda _trainer, _module, checkpoint: loops.update(
            checkpoint.pop("loops") if restore else {}
        ),
        on_fit_start=lambda trainer, _: restore_progress(trainer, loops["fit_loop"]) if restore else None,
        on_train_epoch_end=lambda trainer, _: found.append(trainer.current_epoch),
    )
    resumed = trainer(tmp_path, max_steps=15, max_epochs=-1, callbacks=[note])
    resumed.fit(classifier(), loader, ckpt_path=path, weights_only=True)
    assert (found, resumed.global_step) == (ends, 15)
