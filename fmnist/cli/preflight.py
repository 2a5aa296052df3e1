"""The Hydra callback that checks a command before it creates a directory. Imported without torch."""

import gc
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hydra import compose
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from fmnist.cli import program, worker
from fmnist.cli.hydra_internals import job_error, register
from fmnist.cli.program import exit_stack, exit_with, print_interrupted, report_user_errors
from fmnist.config.cores import usable_cores
from fmnist.config.errors import Pruned, UserError
from fmnist.config.paths import TRAIN_COMMAND
from fmnist.distributed import remote, workers
from fmnist.distributed.process_info import ProcessInfo
from fmnist.runs import create, manifest, resume, terminal
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.signals import exit_with_parent, interruptible, parent_environment
from fmnist.sweeps import jobs, search, sweep_directory

log = logging.getLogger(__name__)

OmegaConf.register_new_resolver("directory_name", create.directory_name, replace=True)  # see conf/train.yaml
OmegaConf.register_new_resolver("suffix", create.suffix, replace=True)


class PreflightCallback(Callback):
    """Checks runs and sweeps, and creates their directories, before Hydra writes a file."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _exit_on_error():
            me = ProcessInfo.from_environment()
            if me.rank:
                logging.getLogger().setLevel(logging.ERROR)  # rank 0 logs
                worker.run(me)
                sys.exit(0)
            if me.launcher:
                exit_stack.callback(_release_workers, me)
            if config.resume is not None:
                run, max_epochs = resume.take_over(config)
                _check(config, run, max_epochs)
                return
            run = RunDirectory(config.hydra.run.dir)
            create.ensure_unused(run)
            _check(config, run)
            create.create_run_directory(run, _hydra_files(config, run))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        with _exit_on_error():
            subdir = OmegaConf.to_container(config.hydra.sweep, resolve=False)["subdir"]  # type: ignore[call-overload, index]
            if "${hydra.job." not in str(subdir):
                raise UserError(f"hydra.sweep.subdir={subdir} would give all jobs the same directory; omit it")
            if config.resume is not None:
                raise UserError("resume continues one run and cannot be combined with a sweep")
            if launcher := ProcessInfo.from_environment().launcher:
                raise UserError(
                    f"{launcher} started several processes, and each would start the sweep. Start it once without "
                    f"launcher; each job starts its workers: {TRAIN_COMMAND} -m trainer=ddp trainer.devices=2 ..."
                )
            remote.check_launcher(config)
            directory = RunDirectory(config.hydra.sweep.dir)
            if not directory.sweep.exists():
                create.ensure_unused(directory)
            searching = search.is_search(config)
            if searching:
                search.check(config)
            for overrides in jobs.sample_jobs(config):
                _check(compose("train", overrides), directory, here=not remote.is_remote(config))
            resumed = jobs.create_or_resume(directory, config)
            if not searching:  # on which several processes may work
                exit_stack.enter_context(directory.locked())
            if resumed:
                jobs.check_same(directory)
                jobs.write_hydra_config(directory, config)
            os.environ |= parent_environment()
            os.environ.setdefault("LOKY_MAX_CPU_COUNT", str(usable_cores()))  # joblib's default number of jobs
            jobs.shorten_names(config)
            remote.prepare_jobs(config, directory)
            if searching:
                from fmnist.sweeps.optuna_sweeper import OptunaSweeper  # imports Optuna

                register(OptunaSweeper, search.TARGET)
        gc.freeze()  # else the collection before each job would visit all that has been imported: 0.3 seconds
        if resumed:
            log.info("resuming the sweep in %s", directory.shown)
        exit_stack.callback(_print_report, directory)  # before the stack releases the lock

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        # For the launchers and sweepers that return after a failed job. Hydra's own sweeper raises instead.
        jobs = sweep_directory.read(RunDirectory(config.hydra.sweep.dir).path).jobs
        if any(job.state == manifest.FAILED for job in jobs):
            sys.exit(1)

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN:
            return
        gc.set_threshold(program.GC_THRESHOLD)  # the launcher may have started this process
        gc.collect()  # the previous job's trainer, data and network refer to each other
        launcher = str(config.hydra.launcher._target_)
        if not launcher.endswith(".BasicLauncher"):
            terminal.set_job(f"#{config.hydra.job.num}")
        if launcher.endswith(".JoblibLauncher"):
            exit_with_parent()
            program.skip_teardown(0)
        run = RunDirectory(config.hydra.runtime.output_dir)
        with _exit_on_error():  # a disk error would hit the next jobs as well
            create.create_job_directory(run, _hydra_files(config, run))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        job_return.cfg = job_return.hydra_cfg = None  # Hydra keeps them to the end of a sweep: 1.3 MB per job
        if job_return.status != JobStatus.FAILED:
            return
        error = job_error(job_return)
        if isinstance(error, Pruned):
            log.info(str(error))
            job_return.status, job_return.return_value = JobStatus.COMPLETED, error  # for the sweeper
            return
        is_mistake = isinstance(error, UserError)
        if config.hydra.mode == RunMode.MULTIRUN:  # Hydra runs the other jobs, then raises
            log.error("job #%s failed: %s", config.hydra.job.num, error, exc_info=None if is_mistake else error)
            # Everything is logged here, and the report repeats it.
            job_return.return_value = UserError(f"job #{config.hydra.job.num} failed, see above")
        elif is_mistake:
            exit_with(error, str(error))
        else:
            traceback.print_exception(error)
            sys.exit(1)


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Turns every exception into a ``SystemExit``, the only one that Hydra does not catch in a callback.

    A mistake prints one line, a defect its traceback.
    """
    try:
        with report_user_errors(), interruptible(print_interrupted):
            yield
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _check(config: DictConfig, run: RunDirectory, max_epochs: int | None = None, *, here: bool = True) -> None:
    from fmnist import build  # imports torch, which takes seconds: only after the command line has been read

    config = _without_hydra(config)
    build.check(config, run, here=here)
    if max_epochs is not None and config.trainer.max_epochs != max_epochs:
        from fmnist.training.schedule_check import check_more_epochs

        check_more_epochs(build.classifier(config), max_epochs, config.trainer.max_epochs)


def _hydra_files(config: DictConfig, run: RunDirectory) -> dict[str, str]:
    """The files that Hydra would write to ``.hydra``, by name."""
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


def _release_workers(me: ProcessInfo) -> None:
    """Releases the workers at the end of rank 0, unless a signal ended it, which ends all processes."""
    error = sys.exc_info()[1]
    if not (isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > 128):
        workers.release_workers(me)


def _print_report(sweep: RunDirectory) -> None:
    from fmnist.sweeps import report  # imports pandas

    print(report.write(sweep.path))
