"""Helpers for the tests: run commands, wait for events, check messages."""

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from tests import fork_server

ROOT = Path(__file__).resolve().parents[1]

# The smallest run: one epoch of four batches.
TINY = (
    *("experiment=smoke", "threads=1", "dashboard=none", "trainer.max_epochs=1", "trainer.limit_train_batches=4"),
    *("trainer.limit_val_batches=1", "trainer.limit_test_batches=1"),
)


@dataclass
class Outcome:
    """How a command ended."""

    code: int | None
    out: str
    err: str


def run_command(
    *arguments: str | Path, cwd: Path = ROOT, timeout: float = 300, cold: bool = False, **environment: str
) -> Outcome:
    """Runs ``python <arguments>`` in its own process.

    Args:
        arguments: Of the interpreter.
        cwd: Working directory.
        timeout: Seconds.
        cold: Starts a fresh interpreter: for interpreter options, and where it matters what is imported when.
        environment: Added to this process's environment variables.
    """
    command, environ = list(map(str, arguments)), {**os.environ, **environment}
    if cold:
        result = subprocess.run(
            [sys.executable, *command],
            cwd=cwd,
            env=environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(result.returncode, result.stdout, result.stderr)
    process = fork_server.Popen(command, cwd=cwd, env=environ)
    try:
        out, err = process.communicate(timeout)
    finally:
        process.kill()
    return Outcome(process.returncode, out, err)


# What the fixtures `train_here` and `start` give.
TrainHere = Callable[..., Outcome]
Start = Callable[..., fork_server.Popen]


def outcome_of(program: Callable[[], object], capture: pytest.CaptureFixture[str]) -> Outcome:
    """Calls a program in this process and returns its exit code and output, as for a separate process."""
    capture.readouterr()
    code: int | str | None = 0
    try:
        program()
    except SystemExit as stop:
        code = stop.code
    captured = capture.readouterr()
    if isinstance(code, str):  # what the interpreter does with a message that sys.exit was given
        return Outcome(1, captured.out, f"{captured.err}{code}\n")
    return Outcome(code, captured.out, captured.err)


def wait_until(true: Callable[[], object], what: str, *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.05)


class Hostile:
    """Runs code when it is unpickled: it leaves a file behind."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return (exec, (f"open({str(self.witness)!r}, 'w').close()",))


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def one_line(outcome: Outcome) -> str:
    """The single line that a refused command prints."""
    assert outcome.code not in (0, None), outcome
    assert outcome.err.startswith("error: "), outcome.err
    assert len(outcome.err.splitlines()) == 1, outcome.err
    return outcome.err


IDX_CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C}


def encode_idx(values: NDArray[Any]) -> bytes:
    """An IDX file."""
    head = bytes([0, 0, IDX_CODES[values.dtype.name], values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    return head + values.astype(values.dtype.newbyteorder(">")).tobytes()
