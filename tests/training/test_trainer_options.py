"""Trainer options that Lightning accepts but a run cannot use are rejected."""

from collections.abc import Callable

import pytest
import torch
from omegaconf import DictConfig

from fmnist.config.errors import UserError
from fmnist.training import speed, trainer_options


@pytest.fixture(autouse=True)
def machine_without_gpu_and_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in (torch.cuda, torch.backends.mps):
        monkeypatch.setattr(place, "is_available", lambda: False)
    monkeypatch.setattr(speed, "has_bf16", lambda: False)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainer=gpu"], r"trainer\.accelerator is gpu, but torch sees no GPU here"),
        (["trainer.devices=two"], r"trainer\.devices must be a number of processes, at least 1, or auto, got 'two'"),
        (["trainer=cpu", "trainer.devices=0"], r"trainer\.devices must be a number of processes, .* got 0"),
        (["trainer=bf16"], r"trainer\.precision=bf16-mixed: this processor has no bf16 instructions"),
        (["trainer.max_epochs=0"], r"trainer\.max_epochs is 0, so nothing would be trained"),
        (["trainer.max_steps=0"], r"trainer\.max_steps is 0, so nothing would be trained"),
        (["trainer.limit_train_batches=0"], r"trainer\.limit_train_batches is 0, so nothing"),
        (["trainer.barebones=true"], r"trainer\.barebones=true would train without checkpoints"),
        (["callbacks=early_stopping", "data.val_size=0"], r"callbacks=early_stopping needs a validation set"),
        (["trainer.check_val_every_n_epoch=11"], r"check_val_every_n_epoch=11 is more than trainer\.max_epochs=10"),
        (["trainer.max_epochs=1.5"], r"trainer\.max_epochs must be a whole number or null, got 1\.5"),
        (["trainer.precision=bf17"], r"trainer\.precision .* got 'bf17'; did you mean 'bf16'\?"),
    ],
)
def test_option_is_rejected(overrides: list[str], message: str, composed: Callable[..., DictConfig]) -> None:
    with pytest.raises(UserError, match=f"^(trainer.)?{message}"):
        trainer_options.check(composed(*overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["trainer.devices=auto", "trainer.check_val_every_n_epoch=10", "callbacks=early_stopping"],
        ["trainer.check_val_every_n_epoch=11", "data.val_size=0"],
        ["trainer.check_val_every_n_epoch=2", "trainer.max_epochs=-1"],
        ["trainer.check_val_every_n_epoch=null", "trainer.max_epochs=null"],
    ],
)
def test_option_is_accepted(overrides: list[str], composed: Callable[..., DictConfig]) -> None:
    trainer_options.check(composed(*overrides))


def test_run_for_any_machine_uses_one_core(composed: Callable[..., DictConfig]) -> None:
    config = composed("trainer=gpu", "trainer.devices=8", "trainer.num_nodes=2", "trainer.precision=bf16-mixed")
    changed = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": None}
    assert trainer_options.on_one_core(config).trainer == {**config.trainer, **changed}
    config.trainer.max_epochs = "one"
    with pytest.raises(UserError, match=r"trainer\.max_epochs must be a whole number or null, got 'one'"):
        trainer_options.on_one_core(config)
