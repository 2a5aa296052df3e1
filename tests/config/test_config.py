"""Every file in conf/ composes and builds, every key is read, and objects that do not fit each other are rejected."""

import inspect
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path

import hydra
import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from fmnist import build
from fmnist.config.errors import UserError
from fmnist.config.settings import GROUPS, SETTINGS
from fmnist.config.suggestion import keys
from fmnist.runs.run_directory import RunDirectory
from fmnist.training import speed
from tests.helpers import ROOT

Composed = Callable[..., DictConfig]


def choices(group: str) -> list[str]:
    return [f"{group}={path.stem}" for path in sorted((ROOT / "conf" / group).glob("*.yaml"))]


# Every experiment and sweep alone; of the groups, the first files together, the second files together, and so on.
ALONE = [[choice] for group in ("experiment", "sweep") for choice in choices(group)]
TOGETHER = [[choice for choice in row if choice] for row in zip_longest(*map(choices, GROUPS))]


@pytest.mark.parametrize("overrides", [*ALONE, *TOGETHER], ids=" ".join)
def test_every_file_builds_and_every_key_is_read(
    overrides: list[str], composed: Composed, own_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is read if it is an argument of a constructor or a setting, which ``settings.check`` reads."""
    monkeypatch.setattr(speed, "has_bf16", lambda: True)  # some experiments need it
    if not torch.cuda.is_available() and {"trainer=gpu", "experiment=best_gpu"} & {*overrides}:
        overrides = [*overrides, "trainer.accelerator=auto"]
    if {"data=folder", "data=idx"} & {*overrides}:
        overrides = [*overrides, f"data.data_dir={own_data}"]
    if "model=own" in overrides:
        overrides = [*overrides, "model._target_=fmnist.networks.cnn.CNN"]
    constructed: list[str] = []
    instantiate = hydra.utils.instantiate

    def noting_instantiate(node: DictConfig, **arguments: object) -> object:
        constructed.append(f"{node._get_full_key(None)}.")
        return instantiate(node, **arguments)

    monkeypatch.setattr(hydra.utils, "instantiate", noting_instantiate)
    config = composed(*overrides)
    build.check(config, RunDirectory(tmp_path))
    assert not any(tmp_path.iterdir()), "building must not write"
    assert [key for key in keys(config) if not key.startswith((*constructed, "trust")) and key not in SETTINGS] == []


@pytest.mark.parametrize(("overrides", "val_size", "epochs"), [([], 5000, 10), (["experiment=notebook"], 0, 5)])
def test_defaults_and_notebook_are_the_lessons_recipe(
    overrides: list[str], val_size: int, epochs: int, composed: Composed
) -> None:
    config = composed(*overrides)
    assert config.model._target_ == "fmnist.networks.cnn.CNN"
    assert (config.optimizer._target_, config.optimizer.lr) == ("torch.optim.Adam", 0.01)
    assert config.scheduler._target_ == "fmnist.training.scheduler.Constant"
    assert (config.data.batch_size, config.data.val_size, config.trainer.max_epochs) == (100, val_size, epochs)
    assert config.trainer.devices == 1


def test_trainer_lists_every_argument_of_lightnings_trainer(composed: Composed) -> None:
    given_by_build = {"callbacks", "logger", "default_root_dir", "plugins"}
    assert set(composed().trainer) - {"_target_"} == set(inspect.signature(Trainer).parameters) - given_by_build


def test_callbacks_monitor_one_metric_or_none_without_validation(composed: Composed, tmp_path: Path) -> None:
    config = composed("callbacks=early_stopping", "monitor.metric=val/loss", "monitor.mode=min")
    for callback in (config.callbacks.best, config.callbacks.early_stopping):
        assert (callback.monitor, callback.mode) == ("val/loss", "min")
    last = build.trainer(composed("data.val_size=0"), RunDirectory(tmp_path)).checkpoint_callbacks
    assert [callback.monitor for callback in last] == [None, None]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["seed=-1"], r"seed must be from 0"),
        (["data.data_dir=/nowhere"], r"data\.data_dir: /nowhere does not exist"),
        (["data.batch_size=2", "ensemble=3"], r"ensemble=3 must not exceed data\.batch_size=2"),
        (["+model.in_channels=3"], "model.in_channels cannot be set: it follows from the data set and is 1"),
        (["+model.num_classes=5"], "model.num_classes cannot be set: it follows from the data set and is 10"),
        (["optimizer.lr=abc"], r"optimizer\.lr must be a number, got 'abc'"),
        (["optimizer.lr=-1"], r"optimizer: Invalid learning rate: -1"),
        (["scheduler=cosine", "trainer.max_epochs=-1"], r"scheduler: total_steps must be finite"),
        (["trainer.max_epochs=-2"], r"trainer: .*max_epochs"),
        (["trainer.devices=1000"], r"trainer\.devices=1000 is more than the \d+ cores that this run may use"),
        (["callbacks.best.filename=top"], r"callbacks\.best\.filename must be best or last, got top"),
        (["callbacks.progress_bar.refresh_rate=0"], r"callbacks\.progress_bar\.refresh_rate must be at least 1, got 0"),
    ],
)
def test_wrong_value_is_rejected(overrides: list[str], message: str, composed: Composed, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{message}") as error:
        build.check(composed(*overrides), RunDirectory(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "overrides",
    [["data.batch_size=2", "ensemble=2"], ["scheduler=cosine", "trainer.max_epochs=-1", "trainer.max_steps=5"]],
)
def test_values_that_fit_each_other_are_accepted(overrides: list[str], composed: Composed, tmp_path: Path) -> None:
    build.check(composed(*overrides), RunDirectory(tmp_path))


@pytest.mark.parametrize("group", GROUPS)
def test_class_of_another_kind_is_rejected_in_every_group(group: str, composed: Composed, tmp_path: Path) -> None:
    config = composed()
    key = f"{group}.theirs" if group in ("callbacks", "dashboard", "augmentation") else group
    wrong = {"_target_": "torch.Generator", "_partial_": group in ("optimizer", "scheduler")}
    OmegaConf.update(config, key, wrong, merge=group == "trainer", force_add=True)
    with pytest.raises(UserError, match=rf"^{key}\._target_ must be a \w+, got torch\.Generator"):
        build.check(config, RunDirectory(tmp_path))


def test_process_gets_the_threads_that_the_run_asks_for(composed: Composed, tmp_path: Path) -> None:
    """Whatever the job before it asked for; and a check leaves the process as it was."""
    default = torch.get_num_threads()
    several, unset = composed(f"threads={default + 1}"), composed()
    build.configure_process(several)
    assert torch.get_num_threads() == default + 1
    build.configure_process(unset)
    assert torch.get_num_threads() == default
    build.check(several, RunDirectory(tmp_path))
    assert torch.get_num_threads() == default


def test_seed_decides_the_initial_weights(composed: Composed) -> None:
    def weights(seed: int) -> torch.Tensor:
        config.seed = seed
        build.configure_process(config)
        return torch.cat([parameter.flatten() for parameter in build.classifier(config).parameters()])

    config = composed()
    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
