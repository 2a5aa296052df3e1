"""How a program ends: a mistake of the user's with one line that helps, a defect with its traceback.

Imported before torch is, so that a mistyped override is answered at once.
"""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from fmnist.config.errors import UserError
from fmnist.config.suggestion import did_you_mean, keys
from fmnist.distributed import remote
from fmnist.runs.signals import interruptible

CONF = Path(__file__).resolve().parents[2] / "conf"
TRACEBACK = "HYDRA_FULL_ERROR"  # the environment variable that asks for tracebacks, Hydra's own

_last_acts: list[Callable[[], None]] = []
_tracebacks = False  # whether the user asked for them: run sets the variable itself


def run(main: Callable[[], object]) -> None:
    """Calls the program; ends it with one line for a mistake of the user's.

    A defect of the project keeps its traceback, and so does a mistake when ``HYDRA_FULL_ERROR=1`` asks for it.
    """
    # Hydra's parser takes no override before -m: 'train.py experiment=smoke -m seed=1,2' must work, too.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    global _tracebacks
    _tracebacks = os.environ.get(TRACEBACK, "0") != "0"
    os.environ[TRACEBACK] = "1"  # else Hydra prints its own text and leaves
    try:
        with refusing(), interruptible(say_interrupted):
            check_options(sys.argv[1:])
            main()
    finally:
        while _last_acts:
            _last_acts.pop()()
        if not _tracebacks:
            del os.environ[TRACEBACK]


def check_options(arguments: Sequence[str]) -> None:
    """Refuses options that Hydra does not have, such as ``--lr``: its own parser would print a page about its options.

    Raises:
        UserError: There is one.
    """
    known = get_args_parser()._option_string_actions  # argparse does not tell otherwise
    for argument in arguments:
        name = argument.partition("=")[0]
        if name.startswith("--") and not any(option.startswith(name) for option in known):
            key = name.strip("-").replace("-", "_")
            config, groups = _compose([])
            hint = did_you_mean(key, [*keys(config), *groups])
            raise UserError(f"no option '{name}': a setting is written key=value, without dashes{hint}")


def say_interrupted() -> None:
    print("interrupted", file=sys.stderr)


def at_end(act: Callable[[], None]) -> None:
    """Has something done when the program ends, however it does, before the line that says why."""
    _last_acts.append(act)


# Mistakes of the user's that Hydra, or a plugin of it, raises as what defects are raised as: how the text begins.
_VALUE_ERRORS = {
    "Config group override must be": "a group cannot be null; python train.py --help lists the files to choose from",
    "No trials are completed yet": "no trial of the search has finished",  # Optuna, with a study in memory
    "Record does not exist": "no trial of the search has finished",  # and in a file
}


@contextmanager
def refusing() -> Iterator[None]:
    """Ends the program with one line for a mistake of the user's."""
    try:
        yield
    except (UserError, HydraException, OmegaConfBaseException) as error:
        end(error)
    except BrokenExecutor:  # joblib's is one
        end(UserError("a job was killed, most often for want of memory; the others were stopped"))
    except ValueError as error:
        message = next((known for text, known in _VALUE_ERRORS.items() if str(error).startswith(text)), None)
        if message is None:
            raise
        end(UserError(message))
    except Exception as error:
        if (message := remote.explain(error)) is None:
            raise
        end(UserError(message))


def end(error: BaseException) -> NoReturn:
    """Leaves the program with exit code 1, with one line or, if the user asked for it, the traceback."""
    if _tracebacks:
        traceback.print_exception(error)
        sys.exit(1)
    sys.exit(f"error: {error if isinstance(error, UserError) else explain(error, sys.argv[1:])}")


def explain(error: BaseException, overrides: Sequence[str]) -> str:
    """Says in one line what is wrong with the overrides that made Hydra raise."""
    message = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        known = f"{did_you_mean(name, error.options)} (there are: {', '.join(error.options)})"
        if group.startswith("hydra/"):
            known = f": no plugin of Hydra that is installed has it; try make setup-extras{known}"
        return f"no '{name}' in group '{group}'{known}"
    # A file of conf/hydra names what a plugin brings.
    if isinstance(error, MissingConfigException) and str(error.missing_cfg_file).startswith("hydra/"):
        return f"'{error.missing_cfg_file}' is of a plugin of Hydra that is not installed; try make setup-extras"
    if isinstance(error, OverrideParseException):
        key, equals, value = str(error.override).partition("=")
        if key and equals and value:  # Hydra's grammar reads ~ , [ { ( and the like as its own
            return f"cannot read '{error.override}': put the value in double quotes, all in single: '{key}=\"{value}\"'"
        return f"cannot read '{error.override}': an override is written key=value, without spaces around '='"
    if match := re.match(r"Ambiguous value for argument '([^=']+)=([^']*)'", message):
        key, values = match.groups()
        return f"'{key}={values}': for one run after another add -m, for a list write '{key}=[{values}]'"
    if isinstance(error, ConfigCompositionException) and (match := re.search(r"Could not [^']+'([^']+?)'", message)):
        key = match[1].partition("=")[0]
        if choice := _choice_with(key, overrides):
            return f"no key '{key}' in the configuration; with {choice} there is"
        config, groups = _compose(overrides)
        return f"no key '{key}' in the configuration{did_you_mean(key, [*keys(config), *groups])}"
    return message.partition(" full_key:")[0]


def _choice_with(key: str, overrides: Sequence[str]) -> str | None:
    """The choice of a key's group, such as model=residual, that brings the key; None if there is none."""
    group, dot, _ = key.partition(".")
    options = sorted(path.stem for path in (CONF / group).glob("*.yaml")) if dot and group.isidentifier() else []
    others = [override for override in overrides if not override.startswith(f"{group}=")]
    choices = (f"{group}={option}" for option in options)
    return next((choice for choice in choices if key in keys(_compose([*others, choice])[0])), None)


def _compose(overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """The configuration with only the user's choices of groups, and the names of the groups."""
    groups = sorted(path.name for path in CONF.iterdir() if path.is_dir())
    pairs = (override.partition("=") for override in overrides)
    choices = [f"{key}={value}" for key, equals, value in pairs if key in groups and equals and "," not in value]
    inside_main = GlobalHydra.instance().is_initialized()
    with nullcontext() if inside_main else initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", choices), groups
