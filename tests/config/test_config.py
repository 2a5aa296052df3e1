"""Every file in conf/ composes and builds, every key is read, and wrong values are told by their names."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from fmnist import build
from fmnist.config.errors import UserError
from fmnist.config.monitor import monitored
from fmnist.config.settings import GROUPS
from fmnist.config.suggestion import keys
from fmnist.data.files import SHA256
from fmnist.runs.run_directory import RunDirectory
from fmnist.training import speed
from tests.conftest import ROOT

Composed = Callable[..., DictConfig]

FILES = sorted(path.relative_to(ROOT / "conf") for path in (ROOT / "conf").glob("*/*.yaml"))
CHOICES = [f"{path.parent}={path.stem}" for path in FILES]
FOR_A_GPU = ("trainer=gpu", "experiment=best_gpu")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A directory with files of the right names, so that building needs no data."""
    for name in SHA256:
        (tmp_path / name).touch()
    return tmp_path


@pytest.fixture
def bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with bf16 instructions, which some experiments ask for."""
    monkeypatch.setattr(speed, "has_bf16", lambda: True)


def test_every_group_is_covered() -> None:
    assert {path.parent.name for path in FILES} == {*GROUPS, "experiment", "sweep"}


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_composes_and_builds(choice: str, composed: Composed, tmp_path: Path) -> None:
    config = composed(choice)
    if choice in FOR_A_GPU and not torch.cuda.is_available():
        with pytest.raises(UserError, match="torch sees no GPU"):
            build.check(config, RunDirectory(tmp_path))
    else:
        build.check(config, RunDirectory(tmp_path))
    assert not any(tmp_path.iterdir()), "building must not write"


def test_what_is_written_for_a_gpu_builds_elsewhere_too(composed: Composed, tmp_path: Path) -> None:
    build.check(composed("experiment=best_gpu", "trainer=auto"), RunDirectory(tmp_path))


def test_the_defaults_are_the_lessons_recipe(composed: Composed) -> None:
    config = composed()
    assert config.model._target_ == "fmnist.networks.cnn.CNN"
    assert config.optimizer._target_ == "torch.optim.Adam"
    assert (config.optimizer.lr, config.data.batch_size, config.trainer.max_epochs) == (0.01, 100, 10)
    assert (config.data.val_size, config.trainer.devices) == (5000, 1)


def test_experiment_notebook_is_the_lessons_protocol(composed: Composed) -> None:
    config = composed("experiment=notebook")
    assert (config.data.val_size, config.data.batch_size, config.trainer.max_epochs) == (0, 100, 5)
    assert (config.optimizer._target_, config.optimizer.lr) == ("torch.optim.Adam", 0.01)
    assert config.scheduler._target_ == "fmnist.training.scheduler.Constant"


def test_the_trainer_lists_every_argument_of_lightnings_trainer(composed: Composed) -> None:
    given_by_build = {"callbacks", "logger", "default_root_dir", "plugins"}
    assert set(composed().trainer) - {"_target_"} == set(inspect.signature(Trainer).parameters) - given_by_build


def test_only_optimizers_and_schedulers_are_partial() -> None:
    for path in FILES:
        partial = bool(OmegaConf.select(OmegaConf.load(ROOT / "conf" / path), "_partial_"))
        assert partial == (path.parent.name in ("optimizer", "scheduler")), path


def test_the_monitored_metric_stands_once(composed: Composed) -> None:
    text = "".join(path.read_text() for path in (ROOT / "conf").rglob("*.yaml"))
    assert text.count("val/acc") == 1
    config = composed("callbacks=early_stopping", "monitor.metric=val/loss", "monitor.mode=min")
    for callback in (config.callbacks.best, config.callbacks.early_stopping):
        assert (callback.monitor, callback.mode) == ("val/loss", "min")


@pytest.mark.usefixtures("bf16")
@pytest.mark.parametrize("choice", [choice for choice in CHOICES if choice not in FOR_A_GPU])
def test_no_key_goes_unread(choice: str, composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key is read if it is an argument of a constructor that is called, or if the program asks for it."""
    config = composed(choice)
    read: set[str] = set()
    select, attribute = OmegaConf.select, DictConfig.__getattr__

    def noting_select(node: DictConfig, key: str, **kwargs: Any) -> object:
        read.add(key)
        return select(node, key, **kwargs)

    def noting_attribute(node: DictConfig, key: str) -> object:
        if not key.startswith("__"):
            read.add(str(node._get_full_key(key)))
        return attribute(node, key)

    monkeypatch.setattr(OmegaConf, "select", staticmethod(noting_select))
    monkeypatch.setattr(DictConfig, "__getattr__", noting_attribute)
    constructed = []
    instantiate = hydra.utils.instantiate

    def noting_instantiate(node: DictConfig, **kwargs: Any) -> object:
        constructed.append(str(node._get_full_key(None)))
        result = instantiate(node, **kwargs)
        # Every key of the node must have been an argument: a constructor without **kwargs takes no other.
        target = hydra.utils.get_class(node["_target_"])
        assert {str(key) for key in node} - {"_target_", "_partial_"} <= set(inspect.signature(target).parameters)
        return result

    monkeypatch.setattr(hydra.utils, "instantiate", noting_instantiate)
    build.check(config, RunDirectory(tmp_path))

    program = (ROOT / "train.py").read_text()
    for key in keys(config):
        in_a_call = any(key.startswith(f"{node}.") for node in constructed)
        assert in_a_call or key in read or f"config.{key}" in program, key


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.batch_size=0", r"data\.batch_size must be at least 1, got 0"),
        ("data.batch_size=-1", r"data\.batch_size must be at least 1, got -1"),
        ("data.batch_size=abc", r"data\.batch_size must be a whole number, got 'abc'"),
        ("data.batch_size=1.5", r"data\.batch_size must be a whole number, got 1\.5"),
        ("data.batch_size=true", r"data\.batch_size must be a whole number, got True"),
        ("data.val_size=60000", r"data\.val_size must be from 0 to 59999 .* got 60000"),
        ("data.data_dir=/nowhere", r"data\.data_dir: /nowhere does not exist"),
        ("optimizer.lr=-1", r"optimizer: Invalid learning rate: -1"),
        ("optimizer.lr=abc", r"optimizer\.lr must be a number, got 'abc'"),
        ("optimizer.betas=[2,0.9]", r"optimizer: Invalid beta parameter"),
        ("+optimizer.momentum=0.9", r"Adam takes no optimizer\.momentum"),
        ("optimizer._target_=torch.optim.Adamm", r"optimizer\._target_ is not a class"),
        ("model.in_channels=0", r"model\.in_channels must be at least 1, got 0"),
        ("model.pixel_std=0", r"model\.pixel_std must be above 0, got 0"),
        ("trainer.max_epochs=1.5", r"trainer\.max_epochs must be a whole number or null, got 1\.5"),
        ("trainer.max_epochs=one", r"trainer\.max_epochs must be a whole number or null, got 'one'"),
        ("trainer.max_epochs=true", r"trainer\.max_epochs must be a whole number or null, got True"),
        ("trainer.max_epochs=0", r"trainer\.max_epochs is 0, so nothing would be trained"),
        ("trainer.max_epochs=-2", r"trainer: .*max_epochs"),
        ("trainer.precision=bf17-mixed", r"trainer\.precision .* got 'bf17-mixed'; did you mean 'bf16-mixed'\?"),
        ("trainer.devices=two", r"trainer\.devices must be a number of processes, at least 1, or auto, got 'two'"),
        ("trainer.devices=0", r"trainer\.devices must be a number of processes, at least 1, or auto, got 0"),
        ("trainer.devices=1000", r"trainer\.devices=1000 is more than the \d+ cores that this run may use"),
        ("trainer.accelerator=gpuu", r"trainer: You selected an invalid accelerator name"),
        ("monitor.metric=val/accc", r"monitor\.metric .* did you mean 'val/acc'\?"),
        ("monitor.mode=maximum", r"monitor\.mode must be max or min, got 'maximum'"),
        ("callbacks.best.filename=top", r"callbacks\.best\.filename must be best or last, got top"),
        ("optimizer.lr=true", r"optimizer\.lr must be a number, got True"),
        ("trainer.gradient_clip_val=true", r"trainer\.gradient_clip_val must be a number or null"),
        ("trainer.max_steps=0", r"trainer\.max_steps is 0, so nothing would be trained"),
        ("trainer.limit_train_batches=0", r"trainer\.limit_train_batches is 0"),
        ("trainer.overfit_batches=3", r"use trainer\.limit_train_batches"),
        ("trainer.check_val_every_n_epoch=11", r"more than trainer\.max_epochs=10"),
        ("model.in_channels=3", r"model: forward pass failed on images of shape \[1, 1, 28, 28\]"),
        ("model.num_classes=5", r"model: must return logits of shape \[1, 10\] .* returned \[1, 5\]"),
        ("seed=4294967296", r"seed must be from 0 to 4294967295"),
        ("callbacks.progress_bar.refresh_rate=0", r"callbacks\.progress_bar\.refresh_rate must be at least 1, got 0"),
        ("seed=-1", r"seed must be from 0 to 4294967295, got -1"),
        ("seed=abc", r"seed must be a whole number, got 'abc'"),
        ("threads=0", r"threads must be at least 1, got 0"),
        ("model.pixel_std=[255]", r"model\.pixel_std must be a number, got \[255\]"),
        ("model.pixel_std={a:1}", r"model\.pixel_std must be a number, got \{'a': 1\}"),
        ("optimizer.lr=[0.1]", r"optimizer\.lr must be a number, got \[0\.1\]"),
        ("trainer.accelerator=[cpu]", r"trainer\.accelerator must be text, got \['cpu'\]"),
        ("data.batch_size=[3]", r"data\.batch_size must be a whole number, got \[3\]"),
        ("label_smoothing=1", r"label_smoothing must be at least 0 and below 1, got 1"),
        ("label_smoothing=-0.1", r"label_smoothing must be at least 0 and below 1, got -0\.1"),
        ("label_smoothing=nan", r"label_smoothing must be at least 0 and below 1, got nan"),
        ("label_smoothing=abc", r"label_smoothing must be a number, got 'abc'"),
        ("label_smoothing=null", r"label_smoothing must be a number, got None"),
        ("ensemble=0", r"ensemble must be at least 1 network, got 0"),
        ("ensemble=2.5", r"ensemble must be a whole number, got 2\.5"),
        ("ensemble=101", r"ensemble=101 must not exceed data\.batch_size=100"),
        ("~label_smoothing", r"the configuration lacks label_smoothing"),
        ("test=maybe", r"test must be true or false, got 'maybe'"),
        ("+lr=0.1", r"unknown configuration key 'lr'; did you mean 'optimizer\.lr'\?"),
        ("~model", r"the configuration lacks model; is it from another version"),
    ],
)
def test_wrong_value_is_reported_with_its_key_and_the_constraint(
    override: str, message: str, composed: Composed, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message) as error:
        build.check(composed(override), RunDirectory(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.widths=3", r"model\.widths must be a list of whole numbers, such as \[32,64\], got 3"),
        ("model.widths=abc", r"model\.widths must be a list of whole numbers, .* got 'abc'"),
        ("model.widths=[a]", r"model\.widths must be whole numbers of at least 1, got \['a'\]"),
        ("model.widths=[8,8,8,8,8]", r"model\.widths must name 1 to 4 blocks"),
        ("model.stem_stride=3", r"model\.stem_stride must be 1 or 2, got 3"),
    ],
)
def test_wrong_value_for_the_residual_network_is_reported(
    override: str, message: str, composed: Composed, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        build.check(composed("model=residual", override), RunDirectory(tmp_path))


@pytest.mark.parametrize(
    "override", ["trainer.max_epochs=3", "optimizer.lr=1", "optimizer.lr=1e-3", "threads=null", "trainer.devices=auto"]
)
def test_valid_value_is_accepted(override: str, composed: Composed, data_dir: Path) -> None:
    build.check(composed(override, f"data.data_dir={data_dir}"), RunDirectory(data_dir / "run"))


def augmentations(config: DictConfig) -> list[str]:
    return [type(augmentation).__name__ for augmentation in build.data(config).augmentations]


def test_augmentations_are_applied_in_order_and_can_be_removed(composed: Composed) -> None:
    assert augmentations(composed()) == []
    assert augmentations(composed("augmentation=flip_shift")) == ["Flip", "Shift"]
    assert augmentations(composed("augmentation=flip_shift", "~augmentation.flip")) == ["Shift"]
    assert augmentations(composed("augmentation=[shift,flip]")) == ["Shift", "Flip"]


FLIP = "fmnist.data.augmentation.Flip"


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": FLIP}, r"^augmentation\._target_ must be a node with a _target_"),
        ({"flip": {"_target_": "torch.nn.Identity"}}, r"^augmentation\.flip\._target_ must be a Augm"),
        ({"flip": {"_target_": FLIP, "more": {"_target_": FLIP}}}, r"^augmentation\.flip\.more\._target_ must not be"),
        ({"flip": None}, r"^augmentation\.flip must be a node with a _target_, got None"),
        ({"flip": {"_target_": "os.system"}}, r"^augmentation\.flip\._target_ names os\.system, whose package is not"),
        (None, r"^augmentation must hold named nodes, got None"),
        ([{"_target_": FLIP}], r"^augmentation must hold named nodes, got \["),
    ],
)
def test_invalid_augmentation_is_rejected(node: object, message: str, composed: Composed, tmp_path: Path) -> None:
    config = composed()
    OmegaConf.update(config, "augmentation", node, merge=False)
    with pytest.raises(UserError, match=message):
        build.check(config, RunDirectory(tmp_path))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["callbacks=early_stopping", "data.val_size=0"], r"early_stopping needs a validation set"),
        (["scheduler=cosine", "trainer.max_epochs=-1"], r"scheduler: total_steps must be finite"),
        (["scheduler=linear", "trainer.max_epochs=-1"], r"scheduler: total_steps must be finite"),
        (["scheduler=onecycle", "trainer.max_epochs=-1"], r"scheduler: total_steps must be finite"),
    ],
)
def test_contradicting_values_are_rejected(
    overrides: list[str], message: str, composed: Composed, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        build.check(composed(*overrides), RunDirectory(tmp_path))


def test_defect_in_a_constructor_is_not_a_user_error(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def defective(_self: object, **_arguments: object) -> None:
        raise NameError("name 'data_dirr' is not defined")

    monkeypatch.setattr("fmnist.data.fashion_mnist.FashionMNIST.__init__", defective)
    monkeypatch.setattr("fmnist.config.instantiate.check_arguments", lambda *_arguments: None)
    with pytest.raises(NameError, match="data_dirr"):
        build.check(composed(), RunDirectory(tmp_path))


def test_each_job_has_the_threads_that_it_asks_for_whatever_came_before(composed: Composed, tmp_path: Path) -> None:
    default = torch.get_num_threads()
    build.configure_process(composed("threads=1"))
    assert torch.get_num_threads() == 1
    build.configure_process(composed("threads=null"))
    assert torch.get_num_threads() == default
    build.check(composed("threads=1"), RunDirectory(tmp_path))  # a check leaves the process as it was
    assert torch.get_num_threads() == default


def test_the_best_is_the_last_where_there_is_nothing_to_validate_on(composed: Composed, tmp_path: Path) -> None:
    for override in ("data.val_size=0", "trainer.limit_val_batches=0"):
        config = composed(override)
        assert monitored(config) is None
        callbacks = build.trainer(config, RunDirectory(tmp_path)).checkpoint_callbacks
        assert [callback.monitor for callback in callbacks] == [None, None]  # type: ignore[attr-defined]
    assert monitored(composed("data.val_size=0", "monitor.metric=train/loss")) == "train/loss"
    assert monitored(composed()) == "val/acc"


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(composed: Composed) -> None:
    def weights(seed: int) -> torch.Tensor:
        config = composed(f"seed={seed}")
        build.configure_process(config)
        return torch.cat([parameter.flatten() for parameter in build.classifier(config).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))
