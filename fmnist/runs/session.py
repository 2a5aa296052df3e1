"""One process's work on a run: nobody else works on it meanwhile; however it ends, that is told and written down."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from fmnist.config.errors import UserError
from fmnist.runs import manifest, resume
from fmnist.runs.manifest import Manifest
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.signals import interruptible

log = logging.getLogger(__name__)

# What a disk does that is full, gone, or not to be written: the user can mend it, and nothing is lost.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ESTALE)


@contextmanager
def working_on(run: RunDirectory, config: DictConfig) -> Iterator[Manifest]:
    """Lets this process alone work on a run, and records it in the run's manifest, which it gives.

    A run that was finished is so no longer. SIGTERM and SIGHUP end the work as Ctrl-C does.

    Raises:
        UserError: Another process works on the run, or the disk takes no more.
        SystemExit: The work was interrupted.
    """
    with _explaining(run), run.locked():
        resume.check_same(run, config)
        run.remove_leftovers()
        run.metrics.unlink(missing_ok=True)
        with manifest.recording(run, config) as record, interruptible(lambda: _say(run)), _explaining(run):
            yield record


def _say(run: RunDirectory) -> None:
    log.warning("interrupted; to go on: %s", run.resume_command)


@contextmanager
def _explaining(run: RunDirectory) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        refusal = _refusal_of_disk(error)
        if refusal is None:
            raise
        raise UserError(
            f"cannot write {os.fsdecode(refusal.filename or run.path)}: {refusal.strerror}; nothing that was there is "
            f"lost: mend that, and to go on: {run.resume_command}"
        ) from error


def _refusal_of_disk(error: BaseException | None) -> OSError | None:
    """The disk's refusal that an exception is, or was made of: Lightning's loggers raise their own from it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            return error
        error = error.__cause__
    return None
