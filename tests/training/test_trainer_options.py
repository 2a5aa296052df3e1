"""Trainer options, and numbers of processes, that Lightning accepts but a run cannot use are rejected."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig

from fmnist import build
from fmnist.config.errors import UserError
from fmnist.distributed.process_info import ProcessInfo
from fmnist.runs.run_directory import RunDirectory
from fmnist.training import speed, trainer_options

Build = Callable[..., Any]
Composed = Callable[..., DictConfig]
TWO = ["trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"]
FOUR_BY_SRUN = ProcessInfo(world_size=4, port=1, launcher="srun")


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
def test_option_is_rejected(overrides: list[str], message: str, composed: Composed) -> None:
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
def test_option_is_accepted(overrides: list[str], composed: Composed) -> None:
    trainer_options.check(composed(*overrides))


def test_run_for_any_machine_uses_one_core(composed: Composed) -> None:
    config = composed("trainer=gpu", "trainer.devices=8", "trainer.num_nodes=2", "trainer.precision=bf16-mixed")
    changed = {"accelerator": "cpu", "devices": 1, "num_nodes": 1, "strategy": "auto", "precision": None}
    assert trainer_options.on_one_core(config).trainer == {**config.trainer, **changed}
    config.trainer.max_epochs = "one"
    with pytest.raises(UserError, match=r"trainer\.max_epochs must be a whole number or null, got 'one'"):
        trainer_options.on_one_core(config)


@pytest.mark.real_data
def test_overfitting_repeats_the_first_batches(composed: Composed, tmp_path: Path) -> None:
    for overfit, repeated in ((3, True), (0, False)):
        config = composed(f"trainer.overfit_batches={overfit}", "logger=csv")
        data, trainer = build.data(config), build.trainer(config, RunDirectory(tmp_path))
        data.prepare_data()
        data.setup("fit")
        assert torch.equal(data.batch_indices(0, 2), data.batch_indices(1, 2)) == repeated
        assert trainer.limit_train_batches == (overfit or 1.0)


@pytest.fixture
def trainer(composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Builds the trainer of a run in two processes, on a machine of 64 cores of which three may be used."""
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    run = RunDirectory(tmp_path)
    return lambda *overrides, process=None: build.trainer(composed(*TWO, *overrides), run, process)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.batch_size=101"], r"data\.batch_size=101 must be a multiple of 2, the number of processes"),
        (["data.batch_size=4", "ensemble=3"], r"ensemble=3 must not exceed the 2 images of a batch"),
        (["data.val_size=1"], r"data\.val_size=1 must be 0, or at least 1 for each of 2 processes"),
        (["trainer.devices=4"], r"trainer\.devices=4 is more than the 3 cores that this run may use"),
        (["trainer.sync_batchnorm=true"], r"trainer\.sync_batchnorm=true works on GPUs only"),
        (["trainer.num_nodes=2"], r"trainer\.num_nodes=2: to train on several machines, .* torchrun or srun"),
        (["trainer.strategy=ddp_spawn"], r"trainer\.strategy=ddp_spawn: several processes need ddp"),
        (["trainer.limit_val_batches=0.5"], r"trainer\.limit_val_batches=0\.5: with 2 processes, give a whole number"),
        (["trainer.limit_test_batches=0.5"], r"trainer\.limit_test_batches=0\.5: with 2 processes, give a whole"),
    ],
)
def test_option_that_does_not_fit_several_processes_is_rejected(
    overrides: list[str], message: str, trainer: Build
) -> None:
    with pytest.raises(UserError, match=message):
        trainer(*overrides)


@pytest.mark.parametrize(
    ("processes", "overrides"),
    [
        (1, ["data.batch_size=101", "data.val_size=1", "trainer.limit_val_batches=0.5"]),
        (2, ["data.batch_size=4", "ensemble=2", "data.val_size=2"]),
        (3, ["data.batch_size=3", "data.val_size=0", "trainer.limit_val_batches=1.0"]),
    ],
)
def test_option_at_the_limit_is_accepted(processes: int, overrides: list[str], trainer: Build) -> None:
    assert trainer(f"trainer.devices={processes}", *overrides).num_devices == processes


def test_number_of_processes_fits_launcher_and_machine(trainer: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    message = r"srun started 4 processes, but trainer\.devices=2 on trainer\.num_nodes=1 asks for 2; make them equal"
    with pytest.raises(UserError, match=message):
        trainer(process=FOUR_BY_SRUN)
    assert trainer("trainer.num_nodes=2", process=FOUR_BY_SRUN).world_size == 4
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "1")
    with pytest.raises(UserError, match=r"trainer\.devices=2 is more than the 1 cores that this run may use"):
        trainer()
    # srun gives each process its own cores.
    assert trainer("trainer.devices=4", process=FOUR_BY_SRUN).world_size == 4


def test_processes_on_a_machine_share_its_cores_unless_gpus_do_the_work(composed: Composed) -> None:
    for processes, overrides in (
        (2, ["trainer.devices=2"]),
        (3, ["trainer.accelerator=auto", "trainer.devices=3"]),
        (1, ["trainer.devices=auto"]),
        (1, ["trainer.accelerator=gpu", "trainer.devices=2"]),
    ):
        assert trainer_options.processes_here(composed(*TWO, *overrides)) == processes, overrides
