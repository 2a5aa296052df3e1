"""A node of the configuration, which is one constructor call: the only place that calls Hydra's ``instantiate``.

Before the call is made, every key is held against the constructor's signature and every plain value against its
annotation; what the constructor itself refuses is told with the node's key.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fmnist.augmentation import Augmentation
from fmnist.dashboard.panel import Panel
from fmnist.data import FashionMNIST
from fmnist.errors import UserError
from fmnist.signature import check_arguments

# What the nodes of each group must build. A node may name any class that Python can import, and a run directory may
# come from anywhere: nothing else is called.
GROUPS: dict[str, type] = {
    "data": FashionMNIST,
    "augmentation": Augmentation,
    "model": nn.Module,
    "optimizer": Optimizer,
    "scheduler": LRScheduler,
    "trainer": Trainer,
    "callbacks": Callback,
    "dashboard": Panel,
    "logger": Logger,
}


def instantiate(config: DictConfig, key: str, **arguments: object) -> Any:
    """Makes the object that a node describes, with arguments that only the program knows.

    Raises:
        UserError: The node names no class, or an argument is unknown, missing or wrong.
    """
    check_node(config, key)
    with blaming(config, key):
        return hydra.utils.instantiate(OmegaConf.select(config, key), _convert_="all", **arguments)


def check_node(config: DictConfig, key: str) -> None:
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UserError(f"{key} must be a node with a _target_, got {node!r}")
    try:
        target = hydra.utils.get_class(node._target_)
    except (ImportError, ValueError) as error:
        raise UserError(f"{key}._target_ is no class: {' '.join(str(error).split())}") from error
    wanted = GROUPS[key.partition(".")[0]]
    if not issubclass(target, wanted):
        raise UserError(f"{key}._target_ must be a {wanted.__name__}, got {node._target_}")
    given = {str(name): value for name, value in node.items() if name not in ("_target_", "_partial_")}
    check_arguments(key, target, given)


@contextmanager
def blaming(config: DictConfig, key: str) -> Iterator[None]:
    """Tells a constructor's refusal as the user's mistake in a node."""
    try:
        yield
    except (InstantiationException, *_REFUSALS) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(cause, _REFUSALS):
            raise cause or error from None  # a defect: with its own traceback
        message = " ".join(str(cause).split())
        names_argument = message.partition(" ")[0].rstrip(":") in OmegaConf.select(config, key)
        raise UserError(f"{key}.{message}" if names_argument else f"{key}: {message}") from error


# How a constructor says that it does not like an argument.
_REFUSALS = (UserError, ValueError, MisconfigurationException, OSError)
