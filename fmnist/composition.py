"""What configuration files may not say to Hydra, whoever wrote them.

Hydra acts on its own section of a configuration as soon as that is composed, before any code of this project is asked:
it sets up logging, builds callbacks, launchers and sweepers, and sets environment variables. Each of these can be made
to run anything, by any file that the command line chooses, such as an experiment that somebody has sent. So what Hydra
composes is looked at before Hydra acts on it. What the nodes outside of this section may build, ``fmnist.node`` says.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmnist.errors import UserError

# Of Hydra's section: what it builds objects of.
_BUILT = ("callbacks", "launcher", "sweeper", "job_logging", "hydra_logging")
_TARGETS = re.compile(
    r"fmnist\.guard\.Guard|(hydra_plugins|hydra\._internal\.core_plugins)(\.\w+)+"
    r"|optuna\.samplers\.\w+Sampler"  # which Hydra's Optuna sweeper builds
)
# Of Optuna's sweeper: it imports and calls the one, and may unpickle what the other sends (as Redis does).
_OPTUNAS = {"hydra.sweeper.custom_search_space": "None", "hydra.sweeper.storage": r"None|sqlite:///[^?]*"}
_HANDLERS = ("fmnist.terminal.ConsoleHandler", "logging.StreamHandler", "logging.FileHandler", "logging.NullHandler")
_STREAMS = ("ext://sys.stdout", "ext://sys.stderr")


@contextmanager
def checked() -> Iterator[None]:
    """Checks whatever Hydra composes meanwhile: the command line's configuration, and that of each job of a sweep."""
    compose = ConfigLoaderImpl.load_configuration  # not public, but everything comes through here

    def compose_and_check(
        loader: ConfigLoaderImpl, config_name: str | None, overrides: list[str], *arguments: Any, **options: Any
    ) -> DictConfig:
        config = compose(loader, config_name, overrides, *arguments, **options)
        check(config, overrides)
        return config

    ConfigLoaderImpl.load_configuration = compose_and_check  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        ConfigLoaderImpl.load_configuration = compose  # type: ignore[method-assign]


def check(config: DictConfig, overrides: Sequence[str]) -> None:
    """Checks a configuration that has just been composed.

    Args:
        config: With Hydra's section.
        overrides: The command line that it was composed for.

    Raises:
        UserError: A file says what only the command line may say, or asks Hydra to build what is not Hydra's.
    """
    typed = {override.lstrip("+").partition("=")[0] for override in overrides}
    # Not held against hydra.overrides: a file can write there, too, and Hydra only appends to it.
    section: Any = OmegaConf.to_container(config.hydra, resolve=False)
    params = section["sweeper"].get("params") if isinstance(section["sweeper"], dict) else None
    swept = any(str(key).lstrip("+") == "trust" for key in params or ())
    if (config.get("trust") and "trust" not in typed) or swept:
        raise UserError("a file sets trust, which counts on the command line alone: say it there, or take it out")
    for name in section["job"]["env_set"]:
        if not {"hydra.job.env_set", f"hydra.job.env_set.{name}"} & typed and name not in section["job"]["env_copy"]:
            raise UserError(f"a file sets hydra.job.env_set.{name}, an environment variable; set it in the shell")
    for part in _BUILT:
        for key, value in _leaves(section[part], f"hydra.{part}"):
            _check_leaf(config, key, value)
            if key in _OPTUNAS and key not in typed and not re.fullmatch(_OPTUNAS[key], str(value)):
                raise UserError(f"a file sets {key} to {value}; say it on the command line, or take it out")


def _leaves(value: object, key: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _leaves(inner, f"{key}[{position}]")
    else:
        yield key, value


def _check_leaf(config: DictConfig, key: str, value: object) -> None:
    if isinstance(value, str) and re.fullmatch(r"\$\{.*\}", value, re.DOTALL):
        try:
            value = OmegaConf.select(config, key)
        except OmegaConfBaseException:
            value = config
        if OmegaConf.is_config(
            value
        ):  # a node from elsewhere, which nobody has looked at, or from what is not there yet
            raise UserError(f"{key} must say what it means, and not refer to another part of the configuration")
    name = key.rpartition(".")[2]
    allowed = (
        (name != "_target_" or _TARGETS.fullmatch(str(value)))
        and (name != "class" or value in _HANDLERS)
        and (name != "()")
        and (not str(value).startswith("ext://") or value in _STREAMS)
    )
    if not allowed:
        raise UserError(f"{key} must be of Hydra, or of this project, got {value}")
