"""One process's work on a run: locks the directory, records the session, and handles signals and disk errors."""

import errno
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from fmnist.config.errors import UserError, one_line
from fmnist.runs import manifest, resume
from fmnist.runs.manifest import Manifest
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.signals import interruptible

log = logging.getLogger(__name__)

# A disk that is full, gone or read-only: the user can fix that, and nothing is lost.
_DISK_ERRORS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.EFBIG,
    errno.ESTALE,
)


@contextmanager
def working_on(run: RunDirectory, config: DictConfig, *, data: Mapping[str, Any]) -> Iterator[Manifest]:
    """Locks a run for this process and records the session in its manifest.

    A finished run counts as unfinished from here on. SIGTERM and SIGHUP end the work as Ctrl-C does.

    Args:
        run: The run directory.
        config: Its configuration.
        data: Identity of the data set, for the manifest.

    Yields:
        The manifest, to add results to.

    Raises:
        UserError: Another process works on the run, a file cannot be written, or Lightning rejects an option.
        SystemExit: A signal interrupted the work.
    """
    with _translate_errors(run), _quiet_threads(run), run.locked():
        resume.check_same(run, config)
        run.remove_leftovers()
        run.metrics.unlink(missing_ok=True)
        with (
            manifest.record_session(run, config, data) as record,
            interruptible(lambda: _announce_interruption(run)),
            _translate_errors(run),  # here as well, so that the manifest records the translated message
        ):
            yield record


def _announce_interruption(run: RunDirectory) -> None:
    kept = f"kept {run.shown / 'checkpoints/last.ckpt'}, of the last finished epoch"
    if not run.last_checkpoint.is_file():
        kept = f"no epoch was finished, so there is no checkpoint in {run.shown}"
    log.warning("interrupted: %s; to resume:  %s", kept, run.resume_command)


@contextmanager
def _translate_errors(run: RunDirectory) -> Iterator[None]:
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(one_line(error)) from error
    except Exception as error:
        if not run.path.is_dir():
            raise UserError(f"the run directory {run.path} has disappeared: deleted, or its drive is gone") from error
        disk_error = _disk_error(error)
        if disk_error is None:
            raise
        raise UserError(
            f"cannot write {os.fsdecode(disk_error.filename or run.path)}: {disk_error.strerror}; existing files are "
            f"intact. Fix the problem, then resume with: {run.resume_command}"
        ) from error


@contextmanager
def _quiet_threads(run: RunDirectory) -> Iterator[None]:
    """Hides disk errors of TensorBoard's writer thread. The main thread raises them again at its next write."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if run.path.is_dir() and not _disk_error(arguments.exc_value):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def _disk_error(error: BaseException | None) -> OSError | None:
    """The disk error behind an exception: Lightning's loggers raise their own exceptions from it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            return error
        error = error.__cause__
    return None
