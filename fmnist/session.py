"""One process's work on a run: nobody else works on it meanwhile; however it ends, that is told and written down."""

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from omegaconf import DictConfig

from fmnist import manifest, resumption
from fmnist.errors import UserError
from fmnist.run_directory import RunDirectory

log = logging.getLogger(__name__)

# What a disk does that is full, gone, or not to be written: the user can mend it, and nothing is lost.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG, errno.ESTALE)


@contextmanager
def working_on(run: RunDirectory, config: DictConfig) -> Iterator[None]:
    """Lets this process alone work on a run, and records it in the run's manifest.

    A run that was finished is so no longer. SIGTERM and SIGHUP end the work as Ctrl-C does.

    Raises:
        UserError: Another process works on the run, or the disk takes no more.
        SystemExit: The work was interrupted.
    """
    with _explaining(run), run.locked():
        resumption.check_same(run, config)
        run.remove_leftovers()
        run.metrics.unlink(missing_ok=True)
        with manifest.recording(run, config), _ending_on_signals(run), _explaining(run):
            yield


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


@contextmanager
def _ending_on_signals(run: RunDirectory) -> Iterator[None]:
    """Turns Ctrl-C, SIGTERM and SIGHUP into a ``SystemExit`` with the code that shells give them."""
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup, say, has set it
                previous[number] = signal.signal(number, end)
    try:
        yield
    except BaseException as error:
        if not received:
            raise
        if isinstance(error, Exception):  # library code that was interrupted may make of it what it likes
            log.warning("interrupted; to go on:  %s", run.resume_command)
        sys.exit(128 + received[0])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
