"""Translates exceptions into one-line messages. Imported without torch, Ray and submitit."""

import errno
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import nullcontext

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fmnist.cli.hydra_internals import command_line_options
from fmnist.config.errors import UserError, one_line
from fmnist.config.paths import CONF, TRAIN_COMMAND
from fmnist.config.suggestion import did_you_mean, keys


def message_for(error: BaseException) -> str | None:
    """One line that says what the user did wrong and how to fix it; None for a defect of the program."""
    for translate in _TRANSLATORS:
        if message := translate(error):
            return message
    return None


def reject_unknown_options(arguments: Sequence[str]) -> None:
    """Rejects options that Hydra does not have, such as ``--lr`` and ``-lr``: its parser would print a page of usage.

    Raises:
        UserError: There is such an option.
    """
    known = command_line_options()
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("-") and not any(option.startswith(name) for option in known):
            config, groups = _compose([])
            hint = did_you_mean(name.strip("-").replace("-", "_"), [*keys(config), *groups])
            raise UserError(f"no option '{name}': write settings as key=value, without dashes{hint}")


def _user_error(error: BaseException) -> str | None:
    return str(error) if isinstance(error, UserError) else None


def _configuration_error(error: BaseException) -> str | None:
    """An override that Hydra or OmegaConf rejects."""
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return None
    message, overrides = one_line(error), sys.argv[1:]
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:  # optimizer=sdg
        group, _, name = error.missing_cfg_file.rpartition("/")
        hint = f"{did_you_mean(name, error.options)} (choices: {', '.join(error.options)})"
        if group.startswith("hydra/"):
            hint = f": no installed Hydra plugin provides it; run make setup-extras{hint}"
        return f"no '{name}' in group '{group}'{hint}"
    # A file of conf/hydra names a plugin's config.
    if isinstance(error, MissingConfigException) and str(error.missing_cfg_file).startswith("hydra/"):
        return f"'{error.missing_cfg_file}' belongs to a Hydra plugin that is not installed; run make setup-extras"
    if isinstance(error, OverrideParseException):
        key, equals, value = str(error.override).partition("=")
        if key and equals and value:  # ~ , [ { ( and the like have a meaning in Hydra's grammar
            return f"cannot read '{error.override}': quote the value twice: '{key}=\"{value}\"'"
        return f"cannot read '{error.override}': write overrides as key=value, without spaces around '='"
    if match := re.match(r"Ambiguous value for argument '([^=']+)=([^']*)'", message):  # optimizer.lr=1,2
        key, values = match.groups()
        return f"'{key}={values}': add -m to run each value, or write a list as '{key}=[{values}]'"
    if isinstance(error, ConfigCompositionException) and (match := re.search(r"Could not [^']+'([^']+?)'", message)):
        key = match[1].partition("=")[0]
        if choice := _choice_with(key, overrides):
            return f"no key '{key}' in the configuration; {choice} has it"
        config, groups = _compose(overrides)
        if key in keys(config):  # Hydra does not find a key that is null
            return f"{key} is null already, so '~{key}' has nothing to remove"
        hint = did_you_mean(key, [*keys(config), *groups]) or f"; {TRAIN_COMMAND} --help lists the keys"
        return f"no key '{key}' in the configuration{hint}"
    return message.partition(" full_key:")[0]


def _long_name(error: BaseException) -> str | None:
    """A name too long for any file. ``Path.exists`` raises this error instead of returning False."""
    if not isinstance(error, OSError) or error.errno != errno.ENAMETOOLONG:
        return None
    return f"{str(error.filename)[:60]}...: {error.strerror}"


def _killed_job(error: BaseException) -> str | None:
    if not isinstance(error, BrokenExecutor):  # includes joblib's
        return None
    return "a job was killed (probably out of memory); the remaining jobs were stopped"


def _plugin_error(error: BaseException) -> str | None:
    """A user's mistake for which Hydra raises a plain ValueError."""
    if not isinstance(error, ValueError):
        return None
    if str(error).startswith("Config group override must be"):
        return f"a group cannot be null; {TRAIN_COMMAND} --help lists the choices"
    return None


def _ray_error(error: BaseException) -> str | None:
    lines = _lines(error)
    if isinstance(error, ConnectionError) and "Ray" in lines[0]:
        return f"no Ray cluster answers: {lines[0].partition('. ')[0]}; see docs/distributed.md"
    if _package(type(error).__module__) == "ray":
        hint = ""
        if type(error).__name__ == "WorkerCrashedError":  # also raised if the process could not start
            hint = " One reason: the machine does not see the project's directory; see docs/distributed.md"
        return f"Ray lost a job ({type(error).__name__}): {lines[-1]}{hint}"
    # Ray raises plain exceptions about versions, options, and a machine that is not a node.
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if frames and _package(str(frames[-1].f_globals.get("__name__"))) == "ray":
        return f"Ray raised an error: {' '.join(lines)}; see docs/distributed.md"
    return None


def _slurm_error(error: BaseException) -> str | None:
    lines = _lines(error)
    if isinstance(error, RuntimeError) and "are you indeed on a slurm cluster" in lines[0]:
        return "Slurm is not available: the command srun was not found; see docs/distributed.md"
    if _package(type(error).__module__) == "submitit":
        return (
            f"Slurm rejected or lost a job ({type(error).__name__}): {lines[-1]}; wait for jobs that are still queued "
            "(squeue), or cancel them, before you resume the sweep"
        )
    return None


_TRANSLATORS: tuple[Callable[[BaseException], str | None], ...] = (
    _user_error,
    _long_name,
    _configuration_error,
    _killed_job,
    _plugin_error,
    _ray_error,
    _slurm_error,
)


def _lines(error: BaseException) -> list[str]:
    return [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]


def _package(module: str) -> str:
    return module.partition(".")[0]


def _choice_with(key: str, overrides: Sequence[str]) -> str | None:
    """The choice of a key's group, such as model=residual, that has the key; None if no choice has it."""
    group, dot, _ = key.partition(".")
    options = sorted(path.stem for path in (CONF / group).glob("*.yaml")) if dot and group.isidentifier() else []
    others = [override for override in overrides if not override.startswith(f"{group}=")]
    choices = (f"{group}={option}" for option in options)
    return next((choice for choice in choices if key in keys(_compose([*others, choice])[0])), None)


def _compose(overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """The configuration with only the user's choices of groups, and the names of all groups."""
    groups = sorted(path.name for path in CONF.iterdir() if path.is_dir())
    pairs = (override.partition("=") for override in overrides)
    choices = [f"{key}={value}" for key, equals, value in pairs if key in groups and equals and "," not in value]
    inside_main = GlobalHydra.instance().is_initialized()
    with nullcontext() if inside_main else initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", choices), groups
