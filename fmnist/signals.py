"""Signals that ask a program to end: Ctrl-C, SIGTERM, SIGHUP. Imported before torch is."""

import ctypes
import os
import signal
import sys
import threading
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
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
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


def end_with_parent() -> None:
    """Has Linux send SIGTERM to this process when the one that started it has died; other systems are left as they are.

    Else the jobs of a sweep that was killed would work on, and be in the way of the sweep when it goes on.
    """
    global _parent
    _parent = _parent or os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != _parent:  # it died before: what called this was left in a queue
            sys.exit(128 + signal.SIGTERM)


_PR_SET_PDEATHSIG = 1  # from Linux's prctl.h
_parent = 0
