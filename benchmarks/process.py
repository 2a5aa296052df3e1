"""Runs a command as a user does, in a terminal, and says what it took."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROWS, COLUMNS = 40, 120


@dataclass(frozen=True)
class Outcome:
    """What a command took and printed."""

    seconds: float
    peak_memory: int  # bytes
    text: str


def python(*arguments: str, code: int = 0, interpreter: str = sys.executable, **environment: str) -> Outcome:
    """Runs ``python <arguments>`` in a terminal of its own, where progress bars are drawn.

    Linux counts what the calling process had in memory as the command's, if that is more: the caller must be small.

    Raises:
        RuntimeError: The command ended with another exit code.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    chunks: list[bytes] = []
    start = time.perf_counter()
    process = subprocess.Popen(
        [interpreter, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    reader = threading.Thread(target=_drain, args=(ours, chunks))
    reader.start()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    reader.join()
    os.close(ours)
    text = b"".join(chunks).decode(errors="replace").replace("\r\n", "\n")
    if process.returncode != code:
        raise RuntimeError(f"{arguments} ended with {process.returncode}: {text[-2000:]}")
    return Outcome(seconds, usage.ru_maxrss * 1024, text)


def _drain(terminal: int, chunks: list[bytes]) -> None:
    while True:
        try:
            chunk = os.read(terminal, 1 << 16)
        except OSError:  # how Linux says that nobody has the other end open any more
            return
        if not chunk:
            return
        chunks.append(chunk)
