"""From configuration to objects: the only place that calls Hydra's ``instantiate``.

Each node of the configuration is one constructor call. Before it is made, every key is held against the constructor's
signature and every plain value against its annotation; what the constructor itself refuses is told with the node's key.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import hydra
import torch
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf

from fmnist.classifier import Classifier
from fmnist.data import FashionMNIST
from fmnist.errors import UserError
from fmnist.run_directory import RunDirectory
from fmnist.signature import check_arguments, check_value
from fmnist.suggestion import did_you_mean, keys

# Lightning's advice that does not apply here.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # tips, and which devices it sees
warnings.filterwarnings("ignore", message=".*does not have many workers")  # the images are in memory
warnings.filterwarnings("ignore", message=".*LeafSpec")  # Lightning 2.6 with torch 2.14, theirs to mend
warnings.filterwarnings("ignore", message=".*Total length of `list`")  # data.val_size=0 means no validation
warnings.filterwarnings("ignore", message=".*smaller than the logging interval")  # true of every short try

GROUPS = ("data", "model", "optimizer", "scheduler", "trainer", "callbacks", "logger")
SETTINGS: dict[str, Any] = {
    "seed": int,
    "threads": int | None,
    "test": bool,
    "monitor.metric": Literal["val/acc", "val/loss", "train/acc", "train/loss"],
    "monitor.mode": Literal["max", "min"],
}

_HYPERPARAMETERS = (
    "data.batch_size",
    "data.val_size",
    "model",
    "optimizer",
    "optimizer.lr",
    "optimizer.weight_decay",
    "scheduler",
    "seed",
    "trainer.max_epochs",
)


def check(config: DictConfig, run: RunDirectory) -> None:
    """Builds everything and throws it away, so that a wrong value is told before anything is read or written.

    Raises:
        UserError: A key or a value is wrong.
    """
    prepare(config)
    data(config)
    classifier(config)
    trainer(config, run)


def prepare(config: DictConfig) -> None:
    """Sets what belongs to the whole process: the number of threads, the seed of the initial weights.

    Raises:
        UserError: One of the top-level values is wrong.
    """
    known = {key.partition(".")[0] for key in SETTINGS} | set(GROUPS)
    for key in config:
        if key not in known:
            raise UserError(f"nothing reads the key '{key!s}'{did_you_mean(str(key), keys(config))}")
    for key, hint in SETTINGS.items():
        check_value(key, OmegaConf.select(config, key), hint)
    if config.seed < 0:
        raise UserError(f"seed must be at least 0, got {config.seed}")
    if config.threads is not None:
        if config.threads < 1:
            raise UserError(f"threads must be at least 1, got {config.threads}")
        torch.set_num_threads(config.threads)
    seed_everything(config.seed, verbose=False)


def data(config: DictConfig) -> FashionMNIST:
    module = _instantiate(config, "data")
    assert isinstance(module, FashionMNIST)
    return module


def classifier(config: DictConfig) -> Classifier:
    module = Classifier(
        network=_instantiate(config, "model"),
        optimizer=_instantiate(config, "optimizer"),
        scheduler=_instantiate(config, "scheduler"),
        num_classes=config.model.num_classes,
        in_channels=config.model.in_channels,
        seed=config.seed,
    )
    # Both lack arguments as yet; to call them once is the way to learn whether the rest of them is right.
    with _blaming(config, "optimizer"):
        optimizer = module.optimizer(module.network.parameters())
    with _blaming(config, "scheduler"):
        module.scheduler(optimizer, total_steps=1000)
    return module


def trainer(config: DictConfig, run: RunDirectory) -> Trainer:
    if config.trainer.accelerator == "gpu" and not (torch.cuda.is_available() or torch.backends.mps.is_available()):
        raise UserError("trainer.accelerator is gpu, but torch sees no GPU here; use trainer=auto or trainer=cpu")
    config = config.copy()
    config.monitor.metric = monitored(config)
    callbacks: list[Callback] = [_instantiate(config, f"callbacks.{name}") for name in config.callbacks]
    logger: Logger = _instantiate(config, "logger", save_dir=str(run.path))
    result = _instantiate(config, "trainer", callbacks=callbacks, logger=logger, default_root_dir=str(run.path))
    assert isinstance(result, Trainer)
    if result.world_size > 1:
        raise UserError(f"trainer: training runs on one device, got {result.world_size}; use trainer.devices=1")
    if result.max_epochs == 0:
        raise UserError("trainer.max_epochs must be at least 1, or -1 for no limit, got 0")
    return result


def monitored(config: DictConfig) -> str | None:
    """Name of the metric that says which epoch is the best; None if there is nothing to validate on."""
    metric: str = config.monitor.metric
    validates = config.data.val_size > 0 and config.trainer.limit_val_batches != 0
    return metric if validates or not metric.startswith("val/") else None


def hyperparameters(config: DictConfig) -> dict[str, bool | int | float | str]:
    """What tells two runs apart, flat, for TensorBoard's HPARAMS tab.

    These are the same few for every run, since TensorBoard takes its columns from the first run that it finds and shows
    the first five by itself, and whatever else the command line overrides. A group stands for the class that it builds.
    """
    overrides = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    overridden = [override.lstrip("+~").partition("=")[0] for override in overrides]
    result: dict[str, bool | int | float | str] = {}
    for key in sorted({*_HYPERPARAMETERS, *overridden}):
        value = OmegaConf.select(config, key)
        if isinstance(value, DictConfig) and "_target_" in value:
            result[key] = value._target_.rpartition(".")[2]
        elif isinstance(value, bool | int | float | str):
            result[key] = value
    return result


def markdown(config: DictConfig) -> str:
    """The configuration with every reference resolved, for TensorBoard's text tab."""
    return f"```yaml\n{OmegaConf.to_yaml(config, resolve=True)}\n```"


def _instantiate(config: DictConfig, key: str, **arguments: object) -> Any:
    """Makes the object that a node describes, with arguments that only the program knows.

    Raises:
        UserError: The node names no class, or an argument is unknown, missing or wrong.
    """
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UserError(f"{key} must be a node with a _target_, got {node!r}")
    try:
        target = hydra.utils.get_class(node._target_)
    except (ImportError, ValueError) as error:
        raise UserError(f"{key}._target_ is no class: {' '.join(str(error).split())}") from error
    given = {str(name): value for name, value in node.items() if name not in ("_target_", "_partial_")}
    check_arguments(key, target, given)
    with _blaming(config, key):
        return hydra.utils.instantiate(node, _convert_="all", **arguments)


@contextmanager
def _blaming(config: DictConfig, key: str) -> Iterator[None]:
    """Tells a constructor's refusal as the user's mistake in a node."""
    try:
        yield
    except (InstantiationException, UserError, ValueError, MisconfigurationException) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(cause, UserError | ValueError | MisconfigurationException):
            raise
        message = " ".join(str(cause).split())
        names_argument = message.partition(" ")[0].rstrip(":") in OmegaConf.select(config, key)
        raise UserError(f"{key}.{message}" if names_argument else f"{key}: {message}") from error
