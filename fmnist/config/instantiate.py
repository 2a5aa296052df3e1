"""Builds the object that a config node describes: the only caller of Hydra's ``instantiate``.

Run directories, and the configurations in them, may come from somebody else. So a node may name only a class of its
group's kind, from a package of the allow-list; a node holds plain values only, and nothing nested is built.

Every key is checked against the constructor's signature and every plain value against its annotation before the call.
"""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fmnist.config.errors import UserError, one_line
from fmnist.config.settings import trusted
from fmnist.config.signature import check_arguments, parameters

logging.getLogger("hydra.utils").setLevel(logging.CRITICAL)  # it logs what it also raises

# Packages whose classes a node may name. Importing a module runs its code, so others need the user's trust=[package].
PACKAGES = ("fmnist", "torch", "torchvision", "torchmetrics", "lightning")
PARTIAL = ("optimizer", "scheduler")  # groups whose objects need an argument that is known only later

# Exceptions by which a constructor rejects an argument.
_REJECTIONS = (UserError, ValueError, OSError)


def instantiate(
    config: DictConfig, key: str, kind: type, *, offered: Mapping[str, object] | None = None, **arguments: object
) -> Any:
    """Builds the object of a node.

    Args:
        config: The run's configuration.
        key: The node's full name.
        kind: Class that the node's target must inherit from.
        offered: Properties of the data set, passed to a constructor that has such parameters.
        arguments: Arguments that only the program knows.

    Raises:
        UserError: The node names a class that it must not name, or an argument is unknown, missing or wrong.
    """
    target = check_node(config, key, kind)
    node = OmegaConf.select(config, key)
    for name, value in (offered or {}).items():
        if name in node:
            raise UserError(f"{key}.{name} cannot be set: it follows from the data set and is {value!r}")
        if name in parameters(target):
            arguments[name] = value
    with report_as_user_error(config, key):
        built = hydra.utils.instantiate(node, _convert_="all", _recursive_=False, **arguments)
    if inspect.isfunction(target) and not isinstance(built, kind):
        raise UserError(
            f"{key}._target_ must return a {kind.__name__}, {node._target_} returned {type(built).__name__}"
        )
    return built


def instantiate_each(config: DictConfig, group: str, kind: type) -> list[Any]:
    """Builds the objects of a group of named nodes, in their order.

    Raises:
        UserError: As ``instantiate``.
    """
    nodes = config[group]
    if not isinstance(nodes, DictConfig):
        raise UserError(f"{group} must hold named nodes, got {nodes!r}")
    return [instantiate(config, f"{group}.{name!s}", kind) for name in nodes]


def check_node(config: DictConfig, key: str, kind: type) -> Callable[..., Any]:
    """Checks a node without building its object, and returns its target.

    Raises:
        UserError: As ``instantiate``, except for what only the constructor knows.
    """
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
    target = _target(key, node._target_, kind, trusted(config))
    check_arguments(key, target, {str(name): value for name, value in given.items()})
    return target


@contextmanager
def report_as_user_error(config: DictConfig, key: str) -> Iterator[None]:
    """Turns a constructor's rejection of an argument into a ``UserError`` that names the node."""
    try:
        yield
    except (InstantiationException, *_REJECTIONS) as error:
        from lightning.fabric.utilities.exceptions import MisconfigurationException  # takes seconds to import

        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(cause, (*_REJECTIONS, MisconfigurationException)):
            raise cause or error from None  # a defect: keeps its own traceback
        message = " ".join(str(cause).split())
        names_argument = message.partition(" ")[0].rstrip(":") in OmegaConf.select(config, key)
        raise UserError(f"{key}.{message}" if names_argument else f"{key}: {message}") from error


def _target(key: str, name: object, kind: type, trust: Sequence[str]) -> Callable[..., Any]:
    """The class that a node names, or the function that builds a network; imported only if its package is trusted."""
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
        raise UserError(f"{key}._target_ must be the full name of a class, got {name!r}")
    _check_package(key, name, trust)
    try:
        target: Any = hydra.utils.get_object(name)
    except ImportError as error:
        module, _, attribute = name.rpartition(".")
        reason = f"{module} has no '{attribute}'" if module in sys.modules else one_line(error)
        raise UserError(f"{key}._target_ is not a class: {reason}") from error
    if kind is nn.Module and inspect.isfunction(target):
        if name.startswith("torchvision.models."):
            raise UserError(f"{key}._target_ names {name}: write model=torchvision model.name={target.__name__}")
        if target.__module__.partition(".")[0] in trust:  # torch's own functions read files and run code
            return target
    if not isinstance(target, type):
        raise UserError(f"{key}._target_ is not a class: {name} is a {type(target).__name__}")
    if kind not in target.__mro__:  # issubclass can be overridden, and is true of every callable for a Protocol
        raise UserError(f"{key}._target_ must be a {kind.__name__}, got {name}")
    _check_package(key, f"{target.__module__}.{target.__qualname__}", trust)  # 'torch.x.y' may be re-exported
    return target


def _check_package(key: str, name: str, trust: Sequence[str]) -> None:
    package = name.partition(".")[0]
    if package not in (*PACKAGES, *trust):
        raise UserError(
            f"{key}._target_ names {name}, whose package is not trusted; to run its code, add trust=[{package}] to the "
            "command line"
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
