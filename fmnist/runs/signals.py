"""Signals that ask a program to end: Ctrl-C, SIGTERM, SIGHUP. Imported before torch is."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def interruptible(say: Callable[[], object]) -> Iterator[None]:
    """Turns the signals into a ``SystemExit`` with the code that shells give them.

    Args:
        say: Tells of the interruption, where nobody has done so yet.
    """
    received: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGHUP, *([] if in_slurm_job() else [signal.SIGTERM])):
            if signal.getsignal(number) != signal.SIG_IGN:  # as nohup, say, has set it
                previous[number] = signal.signal(number, end)
    try:
        yield
    except BaseException as error:
        if not received:
            raise
        # Library code may turn a signal into any error. Who ends with an exit code, as Lightning does, has told of it.
        if not isinstance(error, SystemExit) or isinstance(error.code, str):
            say()
        sys.exit(128 + received[0])
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def in_slurm_job() -> bool:
    """Whether this is a job that submitit has started: one that ends upon SIGTERM, Slurm does not queue again.

    Slurm sends it before it takes a machine away, and kills what is left after a while.
    """
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def end_with_parent(by: signal.Signals = signal.SIGTERM) -> None:
    """Ends this process soon after the one has died that started it with what :func:`as_parent` gives.

    Else the jobs of a sweep that was killed would work on, and be in the way of the sweep when it goes on.

    Args:
        by: The signal that this process is to end by.
    """
    parent = int(os.environ[_PARENT])
    if os.getppid() != parent:  # it died before: what called this was left in a queue
        sys.exit(128 + signal.SIGTERM)
    if not any(thread.name == _PARENT for thread in threading.enumerate()):
        threading.Thread(target=_end_after, args=(parent, by), name=_PARENT, daemon=True).start()


def as_parent() -> dict[str, str]:
    """The environment variable that tells processes whom :func:`end_with_parent` is about, however late they ask."""
    return {_PARENT: str(os.getpid())}


_PARENT = "FMNIST_PARENT"


def _end_after(parent: int, by: signal.Signals) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    while True:  # the first may be lost in a destructor, or end a job in a process that then waits for its next
        os.kill(os.getpid(), by)
        time.sleep(5)
