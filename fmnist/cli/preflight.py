"""The Hydra callback that refuses what must not start. Imported before torch is."""

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from hydra import compose
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fmnist.cli import worker
from fmnist.cli.command_line import at_end, end, refusing, say_interrupted
from fmnist.config.errors import UserError
from fmnist.distributed import process_info, remote, workers
from fmnist.runs import create, manifest, resume, terminal
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.signals import as_parent, end_with_parent, interruptible
from fmnist.sweeps import jobs, search, sweep_directory

log = logging.getLogger(__name__)

# Names each job's directory in conf/train.yaml.
OmegaConf.register_new_resolver("typeable", create.typeable, replace=True)


_until_the_end = ExitStack()  # of the process; not the guard's own, which launchers send to other processes


class PreflightCallback(Callback):
    """Refuses what must not start, before Hydra makes a directory or writes a file.

    Of what is raised here Hydra lets through a ``SystemExit`` alone; everything else it turns into a warning.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _stopping():
            if (me := process_info.this()).rank:
                logging.getLogger().setLevel(logging.ERROR)  # process 0 says it
                worker.serve(me)
                sys.exit(0)
            if me.launcher:
                at_end(lambda: _dismiss_members(me))
            if config.resume is not None:
                run, max_epochs = resume.take_over(config)
                _check(config, run, max_epochs)
                return
            run = RunDirectory(config.hydra.run.dir)
            create.check_free(run)
            _check(config, run)
            create.for_run(run, _contents(config, run))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _stopping():
            subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[call-overload, index]
            if "${hydra.job." not in str(subdir):
                raise UserError(f"hydra.sweep.subdir={subdir} would give all jobs one directory; leave it out")
            if config.resume is not None:
                raise UserError("resume continues one run, and does not go with a sweep")
            if starter := process_info.this().launcher:
                raise UserError(
                    f"{starter} has started several processes, each of which would start the sweep: start it once, "
                    "without, and each job starts its own: python train.py -m trainer=ddp trainer.devices=2 ..."
                )
            remote.check(config)
            directory = RunDirectory(config.hydra.sweep.dir)
            if not directory.sweep.exists():
                create.check_free(directory)
            for overrides in jobs.trial_jobs(config):
                _check(compose("train", overrides), directory, here=not remote.elsewhere(config))
            if search.is_search(config):
                search.take_direction(config)
            goes_on = jobs.take(directory, config)
            at_end(_until_the_end.close)
            _until_the_end.enter_context(directory.locked())
            if goes_on:
                jobs.check_same(directory)
                jobs.record(directory, config)
            os.environ |= as_parent()
            remote.prepare(config, directory)
            if search.is_search(config):
                search.quieten()
                if goes_on:
                    search.go_on(config)
        if goes_on:
            log.info("going on with the sweep in %s", directory.shown)
        at_end(lambda: _report(directory))  # before the lock is given back

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        # Hydra's own sweeper raises after the last job if one has failed, and comes by here only if none has.
        jobs = sweep_directory.read(RunDirectory(config.hydra.sweep.dir).path).jobs
        if any(job.state == manifest.FAILED for job in jobs):
            sys.exit(1)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode == RunMode.MULTIRUN:
            process_info = str(config.hydra.launcher._target_)
            if not process_info.endswith(".BasicLauncher"):
                terminal.share(f"#{config.hydra.job.num}")  # as Hydra numbers them
            if process_info.endswith(".JoblibLauncher"):
                end_with_parent()
            run = RunDirectory(config.hydra.runtime.output_dir)
            with _stopping():  # if the disk refuses this job's directory, it would refuse the next one's, too
                create.for_job(run, _contents(config, run))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        if job_return.status != JobStatus.FAILED:
            return
        error = job_return._return_value  # the property would raise it
        mistake = isinstance(error, _mistakes())
        if config.hydra.mode == RunMode.MULTIRUN:  # Hydra goes on with the other jobs and raises after the last
            log.error("job #%s failed: %s", config.hydra.job.num, error, exc_info=None if mistake else error)
            # All has been told here, and the report says it again.
            job_return.return_value = UserError(f"job #{config.hydra.job.num} failed, see above")
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
        with refusing(), interruptible(say_interrupted):
            yield
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _check(config: DictConfig, run: RunDirectory, max_epochs: int | None = None, *, here: bool = True) -> None:
    from fmnist import build  # imports torch, which takes seconds: only now, when the command line has been read

    config = _without_hydra(config)
    build.check(config, run, here=here)
    if max_epochs is not None and config.trainer.max_epochs != max_epochs:
        build.check_longer(config, max_epochs)


def _contents(config: DictConfig, run: RunDirectory) -> dict[str, str]:
    """What Hydra writes about a run, by the names of its files."""
    hydra = OmegaConf.masked_copy(config, "hydra")
    with read_write(hydra.hydra.runtime), open_dict(hydra.hydra.runtime):
        hydra.hydra.runtime.output_dir = str(run.path.resolve())
    contents = {
        "config.yaml": _without_hydra(config),
        "hydra.yaml": hydra,
        "overrides.yaml": config.hydra.overrides.task,
    }
    return {name: OmegaConf.to_yaml(content) for name, content in contents.items()}


def _without_hydra(config: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])


def _dismiss_members(me: process_info.Member) -> None:
    """Called at the end of a process 0 that something else has started, along with the others."""
    ended_by = sys.exc_info()[1]
    interrupted = isinstance(ended_by, SystemExit) and isinstance(ended_by.code, int) and ended_by.code > 128
    if not interrupted:  # whoever interrupts one interrupts all
        workers.dismiss(me)


def _report(directory: RunDirectory) -> None:
    """Says what has come of a sweep, however it ended."""
    from fmnist import report

    print(report.write(directory.path))
