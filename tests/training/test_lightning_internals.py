"""Private parts of Lightning: these tests fail when it changes, or when it no longer needs the workaround."""

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import LambdaCallback
from torch import nn

from fmnist.training.lightning_internals import QuickModule, ignore_signals, restore_progress
from tests.training.test_classifier import Loader, classifier, loader, trainer

__all__ = ["loader"]  # a fixture

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


def test_lightning_notes_its_hook_on_every_step_and_torch_is_not_asked(
    tmp_path: Path, loader: Loader, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = nn.Module.__setattr__

    def noting(self: nn.Module, name: str, value: Any) -> None:
        seen.append(name)
        original(self, name, value)

    monkeypatch.setattr(nn.Module, "__setattr__", noting)
    calls = []
    for setter in (QuickModule.__setattr__, LightningModule.__setattr__):
        monkeypatch.setattr(QuickModule, "__setattr__", setter)
        fit = trainer(tmp_path, max_epochs=1)
        seen.clear()
        fit.fit(classifier(), loader)
        assert {"train/loss", "train/acc"} <= fit.callback_metrics.keys()  # logging depends on the note
        calls.append(seen.count("_current_fx_name"))
    assert calls[0] == 0
    assert calls[1] > 10 * 10  # the epoch has ten steps


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


@pytest.mark.parametrize("epochs", [1, 2])  # of which one was trained before: with 1, training was over
def test_restored_progress_counts_epochs_as_an_uninterrupted_run(epochs: int, tmp_path: Path, loader: Loader) -> None:
    path = tmp_path / "first.ckpt"
    save = LambdaCallback(on_train_epoch_end=lambda trainer, _: trainer.save_checkpoint(path))
    trainer(tmp_path, max_epochs=1, callbacks=[save]).fit(classifier(), loader)
    state = torch.load(path, weights_only=True)["loops"]["fit_loop"]
    counted = []
    for restore in (True, False):
        note = LambdaCallback(on_fit_start=lambda trainer, _: restore_progress(trainer, state))
        fit = trainer(tmp_path, max_epochs=epochs, callbacks=[note] if restore else [])
        fit.fit(classifier(), loader)
        counted.append(fit.fit_loop.epoch_progress.state_dict())
    assert counted[0] == counted[1]
