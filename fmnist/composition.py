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

# Of Hydra's section: what it builds objects of, and which a file may name.
_HYDRAS = r"(hydra_plugins|hydra\._internal\.core_plugins)(\.\w+)+\."
_BUILT = {
    "callbacks": r"fmnist\.guard\.Guard",
    "launcher": rf"{_HYDRAS}(?!RayAWS)[A-Z]\w*Launcher",
    "sweeper": rf"{_HYDRAS}[A-Z]\w*Sweeper|optuna\.samplers\.[A-Z]\w*Sampler",  # which Hydra's Optuna sweeper builds
    "job_logging": "",
    "hydra_logging": "",
}
# What files may say there, where anything else would be imported, called or unpickled.
_VALUES = {
    "hydra.sweeper.custom_search_space": "None",
    "hydra.sweeper.storage": r"None|sqlite:///[^?]*",
    "hydra.launcher.submitit_folder": r"\$\{hydra\.sweep\.dir\}/\.submitit/%j",
}
# What files may set of a launcher. Of the rest, a shell on another machine would run some, or Python call it.
_JOBLIBS = "n_jobs backend prefer require verbose timeout pre_dispatch batch_size temp_folder max_nbytes mmap_mode"
_RAYS = "init.object_store_memory init.log_to_driver remote.num_cpus remote.num_gpus remote.memory remote.max_retries"
_SLURMS = """timeout_min signal_delay_s max_num_timeout array_parallelism name stderr_to_stdout nodes tasks_per_node
    cpus_per_task cpus_per_gpu gpus_per_node gpus_per_task mem_gb mem_per_gpu mem_per_cpu partition qos comment
    constraint exclude gres account"""
_LAUNCHERS = {"_target_", *_JOBLIBS.split(), *(f"ray.{key}" for key in _RAYS.split()), *_SLURMS.split()}
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
    section: Any = OmegaConf.to_container(config.hydra, resolve=False)
    for part in ("hydra", "task"):  # which Hydra takes for the command line of each job
        for override in section["overrides"][part]:
            if override not in overrides and not override.startswith("hydra.mode="):
                raise UserError(f"a file sets hydra.overrides.{part}, which is what the command line says; take it out")
    params = section["sweeper"].get("params") if isinstance(section["sweeper"], dict) else None
    swept = any(str(key).lstrip("+") == "trust" for key in params or ())
    if (config.get("trust") and "trust" not in typed) or swept:
        raise UserError("a file sets trust, which counts on the command line alone: say it there, or take it out")
    for name in section["job"]["env_set"]:
        if not {"hydra.job.env_set", f"hydra.job.env_set.{name}"} & typed and name not in section["job"]["env_copy"]:
            raise UserError(f"a file sets hydra.job.env_set.{name}, an environment variable; set it in the shell")
    for part in _BUILT:
        for key, value in _leaves(section[part], f"hydra.{part}"):
            _check_leaf(config, key, value, part)
            if not _file_may_say(key, str(value)) and not any(
                re.match(rf"{re.escape(name)}([.[]|$)", key) for name in typed
            ):
                told = " ".join(str(value).split())
                raise UserError(f"a file sets {key} to {told}; say it on the command line, or take it out")


def _file_may_say(key: str, value: str) -> bool:
    """Whether a file may set a key of Hydra's section to a value."""
    if key in _VALUES:
        return bool(re.fullmatch(_VALUES[key], value))
    name = key.removeprefix("hydra.launcher.")
    return name == key or name in _LAUNCHERS or value == "None"


def _leaves(value: object, key: str) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}")
    elif isinstance(value, list):
        for position, inner in enumerate(value):
            yield from _leaves(inner, f"{key}[{position}]")
    else:
        yield key, value


def _check_leaf(config: DictConfig, key: str, value: object, part: str) -> None:
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
        (name != "_target_" or re.fullmatch(_BUILT[part], str(value)))
        and (name != "class" or value in _HANDLERS)
        and (name != "()")
        and (not str(value).startswith("ext://") or value in _STREAMS)
    )
    if not allowed:
        raise UserError(f"{key} must be of Hydra, or of this project, got {value}")
