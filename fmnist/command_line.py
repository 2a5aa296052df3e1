"""What happens around ``train.py``'s main: refuse before anything is written, and tell a mistake in one line.

Imported before torch is, so that a mistyped override is answered at once.
"""

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fmnist.errors import UserError
from fmnist.run_directory import RunDirectory
from fmnist.suggestion import did_you_mean, keys

log = logging.getLogger(__name__)

CONF = Path(__file__).resolve().parents[1] / "conf"
TRACEBACK = "HYDRA_FULL_ERROR"  # the environment variable that asks for tracebacks, Hydra's own
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it


def run(main: Callable[[], object]) -> None:
    """Calls the program; ends it with one line for a mistake of the user's.

    A defect of the project keeps its traceback, and so does a mistake when ``HYDRA_FULL_ERROR=1`` asks for it.
    """
    # Hydra's parser takes no override before -m: 'train.py experiment=smoke -m seed=1,2' must work, too.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    if os.environ.get(TRACEBACK, "0") != "0":
        main()
        return
    os.environ[TRACEBACK] = "1"  # else Hydra prints its own text and leaves
    try:
        main()
    except UserError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {explain(error, sys.argv[1:])}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    finally:
        del os.environ[TRACEBACK]


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Says in one line what is wrong with the overrides that made Hydra raise."""
    message = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        return (
            f"no '{name}' in group '{group}'{did_you_mean(name, error.options)} (there are: {', '.join(error.options)})"
        )
    if isinstance(error, OverrideParseException):
        return f"cannot read '{error.override}': an override is written key=value, without spaces around '='"
    if isinstance(error, ConfigCompositionException) and (match := re.search(r"Could not \w+ '([^']*?)'", message)):
        key = match[1].partition("=")[0]
        config, groups = _compose(overrides)
        return f"no key '{key}' in the configuration{did_you_mean(key, [*keys(config), *groups])}"
    return message


def _compose(overrides: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """The configuration with only the user's choices of groups, and the names of the groups."""
    groups = sorted(path.name for path in CONF.iterdir() if path.is_dir())
    choices = [override for override in overrides if override.partition("=")[0] in groups and "," not in override]
    inside_main = GlobalHydra.instance().is_initialized()
    with nullcontext() if inside_main else initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", choices), groups


class Guard(Callback):
    """Refuses what must not start, before Hydra makes a directory or writes a file."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _refusing():
            run = RunDirectory(config.hydra.run.dir)
            run.check_free()
            _check(config, run)
            run.claim()

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _refusing():
            sweep = Path(config.hydra.sweep.dir)
            if sweep.exists() and (not sweep.is_dir() or any(sweep.iterdir())):
                raise UserError(
                    f"{sweep} already holds files, and nothing in it was changed; "
                    "choose another directory, or leave hydra.sweep.dir out to have one made"
                )
            for overrides in _trial_jobs(list(config.hydra.overrides.task)):
                _check(compose("train", overrides), RunDirectory(sweep))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if job_return.status != JobStatus.FAILED:
            return
        error = job_return._return_value  # the property would raise it
        if config.hydra.mode == RunMode.MULTIRUN:
            log.error("job %s failed: %s", config.hydra.job.num, error)  # Hydra itself tells after the last job
        elif isinstance(error, UserError):
            sys.exit(f"error: {error}")  # without Hydra's own line before it


@contextmanager
def _refusing() -> Iterator[None]:
    """Turns a user's mistake into a ``SystemExit``, the only exception that Hydra lets through from a callback."""
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {error}")
    except (HydraException, OmegaConfBaseException) as error:
        sys.exit(f"error: {explain(error, sys.argv[1:])}")


def _check(config: DictConfig, run: RunDirectory) -> None:
    from fmnist import build  # imports torch, which takes seconds: only now, when the command line has been read

    build.check(OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"]), run)


def _trial_jobs(overrides: list[str]) -> Iterator[list[str]]:
    """Jobs among which each value of a sweep comes once, so that a wrong one is found before the first job starts.

    Raises:
        UserError: A value stands twice. Jobs are named by their overrides, and two would share a directory.
    """
    sweeps: dict[str, list[str]] = {}
    fixed = []
    for override in OverridesParser.create().parse_overrides(overrides):
        if not override.is_sweep_override():
            fixed.append(str(override.input_line))
        elif override.is_choice_sweep() or override.is_range_sweep():
            values = list(override.sweep_string_iterator())
            if twice := [value for value, times in Counter(values).items() if times > 1]:
                raise UserError(f"{override.key_or_group} is to be swept over {twice[0]} twice; name each value once")
            key = override.get_key_element()
            sweeps[key] = [f"{key}={value}" for value in values]
    first = {key: jobs[0] for key, jobs in sweeps.items()}
    yield [*fixed, *first.values()]
    for key, jobs in sweeps.items():
        for job in jobs[1:]:
            yield [*fixed, *(first | {key: job}).values()]
