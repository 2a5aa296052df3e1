"""Runs commands in processes forked from one that has imported torch and Lightning: seconds faster than a cold start.

``Popen`` is a small stand-in for ``subprocess.Popen``. Differences to a fresh interpreter: all modules are imported
already, and interpreter options such as ``-X`` do not apply. Tests for which these matter use ``cold=True`` in
``tests.helpers.run_command``.
"""

import atexit
import gc
import importlib
import io
import json
import os
import runpy
import select
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from hydra import compose, initialize_config_dir

from fmnist.config.paths import CONF

ADDRESS = "FMNIST_FORK_SERVER"  # environment variable: the socket of this session's server, for all its processes
_server: subprocess.Popen[bytes] | None = None  # in the process that has started it


def start() -> None:
    """Starts the server, which needs some seconds before it answers, for this process and those that it starts."""
    global _server
    os.environ[ADDRESS] = str(Path(tempfile.mkdtemp()) / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.environ[ADDRESS])
        listening.listen(64)
        command = [sys.executable, "-m", "tests.fork_server", str(listening.fileno())]
        root = Path(__file__).resolve().parents[1]
        _server = subprocess.Popen(command, cwd=root, pass_fds=[listening.fileno()], stdin=subprocess.PIPE)


def stop() -> None:
    """Ends the server if this process has started it. It also ends when this process does."""
    if _server is not None:
        _server.communicate()
        shutil.rmtree(Path(os.environ.pop(ADDRESS)).parent)


class Popen:
    """A command, ``python <arguments>``, in a forked process."""

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], stderr: int | None = None
    ) -> None:
        if ADDRESS not in os.environ:
            start()
        streams = [os.pipe(), os.pipe()]
        status, status_end = os.pipe()
        ends = [streams[0][1], streams[0][1] if stderr == subprocess.STDOUT else streams[1][1], status_end]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.environ[ADDRESS])
            socket.send_fds(connection, [b"."], ends)
            connection.sendall(json.dumps([list(arguments), str(cwd), dict(env)]).encode())
        for end in {*ends, streams[1][1]}:
            os.close(end)
        self.args = list(arguments)
        self.stdout: TextIO = open(streams[0][0])  # noqa: SIM115, PTH123
        self.stderr: TextIO = open(streams[1][0])  # noqa: SIM115, PTH123
        self.returncode: int | None = None
        self._status = open(status)  # noqa: SIM115, PTH123
        self.pid = int(self._status.readline())

    def poll(self) -> int | None:
        """The exit code, minus the number of the signal that killed the process; None while it runs."""
        if self.returncode is not None:
            return self.returncode
        with selectors.DefaultSelector() as selector:
            selector.register(self._status, selectors.EVENT_READ)
            if selector.select(0):
                self.returncode = int(self._status.readline())
                self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(0.01)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Reads both streams to their ends, then waits for the process."""
        if self.stdout.closed:
            return "", ""
        end = time.monotonic() + (timeout or 1e9)
        parts: dict[int, list[bytes]] = {stream.fileno(): [] for stream in (self.stdout, self.stderr)}
        with selectors.DefaultSelector() as selector:
            for descriptor in parts:
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                for key, _ in selector.select(max(0, min(1, end - time.monotonic()))):
                    if content := os.read(key.fd, 65536):
                        parts[key.fd].append(content)
                    else:
                        selector.unregister(key.fd)
                if time.monotonic() > end:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.stdout.close()
        self.stderr.close()
        self.wait(timeout)
        out, err = (b"".join(part).decode(errors="replace") for part in parts.values())
        return out, err

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _serve(listening: socket.socket) -> None:
    """Answers until standard input ends, which is when the process that has started the server ends."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the supervisors
    while sys.stdin not in select.select([sys.stdin, listening], [], [])[0]:
        connection, _ = listening.accept()
        _, ends, _, _ = socket.recv_fds(connection, 1, 3)
        with connection.makefile() as file:
            request = file.read()
        connection.close()
        if os.fork() == 0:
            listening.close()
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            _supervise(*json.loads(request), *ends)
        for end in ends:
            os.close(end)


def _supervise(arguments: list[str], cwd: str, env: dict[str, str], out: int, err: int, status: int) -> None:
    """Forks the command and reports its process id and exit code."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (pid := os.fork()) == 0:
        os.dup2(out, 1)
        os.dup2(err, 2)
        for end in (out, err, status):
            os.close(end)
        os._exit(_run(arguments, cwd, env))
    os.close(out)
    os.close(err)
    os.write(status, f"{pid}\n".encode())
    _, code = os.waitpid(pid, 0)
    os.write(status, f"{os.waitstatus_to_exitcode(code)}\n".encode())
    os._exit(0)


def _run(arguments: list[str], cwd: str, env: dict[str, str]) -> int:
    """Runs ``python <arguments>`` in this process, as the interpreter would; returns the exit code."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    encoding, _, errors = env.get("PYTHONIOENCODING", "utf-8").partition(":")
    sys.stdout = io.TextIOWrapper(io.FileIO(1, "w"), encoding, errors or "strict", write_through=True)
    sys.stderr = io.TextIOWrapper(io.FileIO(2, "w"), encoding, "backslashreplace", write_through=True)
    first, *rest = arguments
    path = [entry for entry in env.get("PYTHONPATH", "").split(os.pathsep) if entry]
    code: Any = 0
    try:
        if first in ("-m", "-c"):
            sys.path[:] = ["" if first == "-c" else cwd, *path, *sys.path[1:]]
            name, *rest = rest
            sys.argv = [name if first == "-m" else "-c", *rest]
            if first == "-m":
                sys.modules.pop(name, None)  # runpy warns of a module that is imported already
                runpy.run_module(name, run_name="__main__", alter_sys=True)
            else:
                exec(compile(name, "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.path[:] = [str(Path(first).parent), *path, *sys.path[1:]]
            sys.argv = [first, *rest]
            runpy.run_path(first, run_name="__main__")
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does: ends joblib's workers, for one
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or 120  # as the interpreter does
    return code or 0


if __name__ == "__main__":
    gc.disable()
    for module in ("audit", "build", "cli.preflight", "dashboard.figures", "evaluate", "predict", "results"):
        importlib.import_module(f"fmnist.{module}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose("train")  # so that Hydra has looked for its plugins
    gc.freeze()  # collections in the forked processes skip what is imported
    gc.enable()
    _serve(socket.socket(fileno=int(sys.argv[1])))
