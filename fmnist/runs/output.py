"""Output that survives a closed pipe or terminal and characters it cannot encode. Imports only the standard library."""

import errno
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _Output(io.FileIO):
    """A file descriptor that becomes /dev/null when nobody reads it any more."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # a closed pipe, a closed terminal
                raise
            with open(os.devnull, "wb") as null:  # noqa: PTH123
                os.dup2(null.fileno(), self.fileno())
            return memoryview(data).nbytes


def robust(stream: TextIO | None) -> Any:
    """The same stream, but nothing is written once it is closed, and ``?`` replaces what it cannot encode."""
    if not isinstance(stream, io.TextIOWrapper):  # a notebook
        return stream
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if not isinstance(raw, io.FileIO) or isinstance(raw, _Output):  # a console of Windows, or robust already
        return stream
    stream.flush()
    output: Any = _Output(raw.fileno(), "w", closefd=False)
    return io.TextIOWrapper(
        output if stream.write_through else io.BufferedWriter(output),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


@contextmanager
def robust_output() -> Iterator[None]:
    """Makes standard output and standard error robust while the block runs."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(robust, before)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        sys.stdout, sys.stderr = before
