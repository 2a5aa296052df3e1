"""The Hydra callback that refuses what must not start. Imported before torch is."""

import logging
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra import compose
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fmnist import claim, resumption
from fmnist.command_line import end, refusing
from fmnist.errors import UserError
from fmnist.run_directory import RunDirectory

log = logging.getLogger(__name__)

# Names each job's directory in conf/train.yaml.
OmegaConf.register_new_resolver("typeable", claim.typeable, replace=True)


class Guard(Callback):
    """Refuses what must not start, before Hydra makes a directory or writes a file.

    Of what is raised here Hydra lets through a ``SystemExit`` alone; everything else it turns into a warning.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _stopping():
            if config.resume is not None:
                run, max_epochs = resumption.take_over(config)
                _check(config, run, max_epochs)
                return
            run = RunDirectory(config.hydra.run.dir)
            claim.check_free(run)
            _check(config, run)
            claim.for_run(run, _contents(config, run))
            with read_write(config):
                config.hydra.output_subdir = None  # Hydra would write the same once more, and might be killed half-way

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _stopping():
            subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[call-overload, index]
            if "${hydra.job." not in str(subdir):
                raise UserError(f"hydra.sweep.subdir={subdir} would give all jobs one directory; leave it out")
            if config.resume is not None:
                raise UserError("resume continues one run, without -m")
            sweep = RunDirectory(config.hydra.sweep.dir)
            claim.check_free(sweep)
            for overrides in _trial_jobs(list(config.hydra.overrides.task)):
                _check(compose("train", overrides), sweep)
            claim.for_sweep(sweep)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if job_return.status != JobStatus.FAILED:
            return
        error = job_return._return_value  # the property would raise it
        mistake = isinstance(error, _mistakes())
        if config.hydra.mode == RunMode.MULTIRUN:  # Hydra goes on with the other jobs and raises after the last
            log.error("job %s failed: %s", config.hydra.job.num, error, exc_info=None if mistake else error)
        elif mistake:
            end(UserError(" ".join(str(error).split())))
        else:
            traceback.print_exception(error)
            sys.exit(1)


def _mistakes() -> tuple[type[Exception], ...]:
    """What a job raises if its user made a mistake that only shows while it runs."""
    from lightning.fabric.utilities.exceptions import MisconfigurationException  # loaded long before a job ends

    return UserError, MisconfigurationException


@contextmanager
def _stopping() -> Iterator[None]:
    """Turns whatever is raised into a ``SystemExit``: with one line for a mistake, with a traceback for a defect."""
    try:
        with refusing():
            yield
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _check(config: DictConfig, run: RunDirectory, max_epochs: int | None = None) -> None:
    from fmnist import build  # imports torch, which takes seconds: only now, when the command line has been read

    config = _without_hydra(config)
    build.check(config, run)
    if max_epochs is not None and config.trainer.max_epochs != max_epochs:
        build.check_longer(config, max_epochs)


def _contents(config: DictConfig, run: RunDirectory) -> dict[str, str]:
    """What Hydra writes about a run, by the names of its files."""
    hydra = OmegaConf.masked_copy(config, "hydra")
    with read_write(hydra), open_dict(hydra):
        hydra.hydra.runtime.output_dir = str(run.path.resolve())
    contents = {
        "config.yaml": _without_hydra(config),
        "hydra.yaml": hydra,
        "overrides.yaml": config.hydra.overrides.task,
    }
    return {name: OmegaConf.to_yaml(content) for name, content in contents.items()}


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


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
            if override.is_range_sweep():
                values = list(dict.fromkeys([values[0], values[-1]]))  # what lies between is as right as its ends
            key = override.get_key_element()
            sweeps[key] = [f"{key}={value}" for value in values]
    first = {key: jobs[0] for key, jobs in sweeps.items()}
    yield [*fixed, *first.values()]
    for key, jobs in sweeps.items():
        for job in jobs[1:]:
            yield [*fixed, *(first | {key: job}).values()]
