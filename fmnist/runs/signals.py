"""Ctrl-C, SIGTERM and SIGHUP, and processes that end with their parent. Imported without torch."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_PARENT = "FMNIST_PARENT"  # environment variable with the process id that exit_with_parent watches


@contextmanager
def interruptible(announce: Callable[[], object]) -> Iterator[None]:
    """Turns the signals into a ``SystemExit`` with the exit code that shells use, 128 plus the signal's number.

    Args:
        announce: Reports the interruption. Of nested blocks, the innermost one reports.
    """
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGHUP, *([] if in_slurm_job() else [signal.SIGTERM])):
            if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP
                previous[number] = signal.signal(number, interrupt)
    try:
        yield
    except BaseException:  # libraries turn a signal into any error
        if not received:
            raise
        announce()
        sys.exit(128 + received[0])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def in_slurm_job() -> bool:
    """Whether submitit started this process as a Slurm job.

    Slurm sends SIGTERM before it takes a machine away, and SIGKILL later. It does not requeue a job that ends on
    SIGTERM.
    """
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def parent_environment() -> dict[str, str]:
    """Environment variable for child processes that call :func:`exit_with_parent`."""
    return {_PARENT: str(os.getpid())}


def exit_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Ends this process soon after the process that set :func:`parent_environment` has died.

    Else the jobs of a killed sweep would keep running and block the sweep when it is resumed.

    Args:
        by: The signal that ends this process.
    """
    parent = int(os.environ[_PARENT])
    if os.getppid() != parent:  # it died while this job waited in a queue
        sys.exit(128 + signal.SIGTERM)
    if not any(thread.name == _PARENT for thread in threading.enumerate()):
        threading.Thread(target=_watch, args=(parent, by), name=_PARENT, daemon=True).start()


def _watch(parent: int, by: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    while True:  # the first signal may be lost in a destructor, or end only one of the jobs of this process
        os.kill(os.getpid(), by)
        time.sleep(5)
