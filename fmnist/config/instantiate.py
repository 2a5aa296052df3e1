"""A node of the configuration, which is one constructor call: the only place that calls Hydra's ``instantiate``.

Configurations come from somebody else, too, within run directories. So a node may name a class alone, of its group's
kind, and of a package that is trusted; what it builds must be told by the node itself, and nothing deeper is built.

Before the call is made, every key is held against the constructor's signature and every plain value against its
annotation; what the constructor itself refuses is told with the node's key.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.errors import InstantiationException
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, ListConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fmnist.config.errors import UserError
from fmnist.config.signature import check_arguments
from fmnist.dashboard.panel import Panel
from fmnist.data.augmentation import Augmentation
from fmnist.data.fashion_mnist import FashionMNIST

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it tells of what it cannot find, and raises, too

# Whose classes a node may name. Others have to be trusted by the user (key trust): importing a module runs its code.
PACKAGES = ("fmnist", "torch", "torchvision", "torchmetrics", "lightning")

# What the nodes of each group must build.
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


PARTIAL = ("optimizer", "scheduler")  # the groups whose nodes lack an argument that is only known later


def instantiate(config: DictConfig, key: str, **arguments: object) -> Any:
    """Makes the object that a node describes, with arguments that only the program knows.

    Raises:
        UserError: The node names no class that it may name, or an argument is unknown, missing or wrong.
    """
    check_node(config, key)
    with blaming(config, key):
        node = OmegaConf.select(config, key)
        return hydra.utils.instantiate(node, _convert_="all", _recursive_=False, **arguments)


def instantiate_each(config: DictConfig, group: str) -> list[Any]:
    """Makes the objects of a group of nodes by name, in their order.

    A group that is one node itself counts as that one: in the directories of older runs ``augmentation`` is so.

    Raises:
        UserError: As ``instantiate``.
    """
    nodes = config[group]
    if not isinstance(nodes, DictConfig):
        raise UserError(f"{group} must be nodes by name, got {nodes!r}")
    keys = [group] if "_target_" in nodes else [f"{group}.{name!s}" for name in nodes]
    return [instantiate(config, key) for key in keys]


def check_node(config: DictConfig, key: str) -> None:
    node = OmegaConf.select(config, key)
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise UserError(f"{key} must be a node with a _target_, got {node!r}")
    partial = key in PARTIAL
    if node.get("_partial_", False) is not partial:
        raise UserError(f"{key}._partial_ must be {str(partial).lower()}, got {node.get('_partial_')}")
    given = OmegaConf.to_container(node, resolve=True)
    assert isinstance(given, dict)
    for name in ("_target_", "_partial_"):
        given.pop(name, None)
    if nested := next(_targets(given, key), None):
        raise UserError(f"{nested} must not be there: a node is one constructor call, and {key} is the node")
    target = _class(key, node._target_, trusted(config))
    check_arguments(key, target, {str(name): value for name, value in given.items()})


def trusted(config: DictConfig) -> list[str]:
    """The packages, beyond ``PACKAGES``, whose classes may be named.

    Raises:
        UserError: The key holds something else.
    """
    names = OmegaConf.to_container(config.trust) if isinstance(config.trust, ListConfig) else config.trust
    if isinstance(names, list) and all(isinstance(name, str) and name.isidentifier() for name in names):
        return [str(name) for name in names]
    raise UserError(f"trust must be a list of names of packages, such as [timm], got {names!r}")


def _class(key: str, name: object, trust: Sequence[str]) -> type:
    """The class that a node names, imported only if its package is trusted."""
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{key}._target_ must be the full name of a class, got {name!r}")
    _check_package(key, name, trust)
    try:
        target = hydra.utils.get_object(name)
    except ImportError as error:
        raise UserError(f"{key}._target_ is no class: {' '.join(str(error).split())}") from error
    if not isinstance(target, type):
        raise UserError(f"{key}._target_ is no class: {name} is a {type(target).__name__}")
    wanted = GROUPS[key.partition(".")[0]]
    if (
        wanted not in target.__mro__
    ):  # not issubclass, which a class can bend, and to which every callable is a Protocol
        raise UserError(f"{key}._target_ must be a {wanted.__name__}, got {name}")
    _check_package(key, f"{target.__module__}.{target.__qualname__}", trust)  # 'torch.x.y' may be another's
    return target


def _check_package(key: str, name: str, trust: Sequence[str]) -> None:
    package = name.partition(".")[0]
    if package not in (*PACKAGES, *trust):
        raise UserError(
            f"{key}._target_ names {name}, whose package is not trusted; if you want its code to be run, "
            f"add trust=[{package}] to the command line"
        )


def _targets(value: object, key: str) -> Iterator[str]:
    """Full names of all keys ``_target_`` within a value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "_target_":
                yield f"{key}._target_"
            yield from _targets(inner, f"{key}.{name}")
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _targets(inner, f"{key}[{position}]")


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
