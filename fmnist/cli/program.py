"""Runs a program: a user's mistake ends it with one line, a defect with its traceback. Imported without torch."""

import atexit
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from fmnist.cli.error_messages import message_for, reject_unknown_options
from fmnist.config.paths import CHECKOUT
from fmnist.runs.output import robust_output
from fmnist.runs.signals import interruptible

GC_THRESHOLD = 50_000  # new objects between two searches for garbage; Python's default is 700
TRACEBACK = "HYDRA_FULL_ERROR"  # Hydra's environment variable to request tracebacks

# Closed when the program ends, before it prints the line that says why. Not a member of the Hydra callback that fills
# it, since launchers send callbacks to other processes.
exit_stack = ExitStack()
_show_tracebacks = False  # what the user requested: run() changes the environment variable


def run(main: Callable[[], object]) -> None:
    """Calls a Hydra program.

    Defects keep their traceback. With ``HYDRA_FULL_ERROR=1`` the user's mistakes do as well.
    """
    # Hydra's parser takes no override before -m, but 'train.py experiment=smoke -m seed=1,2' must work.
    sys.argv[1:] = sorted(sys.argv[1:], key=lambda argument: argument not in ("-m", "--multirun"))
    has_directory = any(argument.startswith(("--config-dir", "-cd")) for argument in sys.argv)
    if not CHECKOUT and Path("conf").is_dir() and not has_directory:
        sys.argv += ["--config-dir", "conf"]  # the user's experiments, beside those of the installed package
    global _show_tracebacks
    _show_tracebacks = os.environ.get(TRACEBACK, "0") != "0"
    os.environ[TRACEBACK] = "1"  # else Hydra prints its own text and exits
    try:
        with quick_process(), robust_output(), exit_stack, report_user_errors(), interruptible(print_interrupted):
            reject_unknown_options(sys.argv[1:])
            main()
    finally:
        if not _show_tracebacks:
            del os.environ[TRACEBACK]


@contextmanager
def quick_process() -> Iterator[None]:
    """Makes a command start and end sooner.

    Importing torch and Lightning creates half a million objects that stay. Looking for garbage among them as often as
    Python does by default makes the imports take a third longer.
    """
    gc.set_threshold(GC_THRESHOLD)
    code = 1
    try:
        yield
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise
    finally:
        skip_teardown(code)


def skip_teardown(code: int) -> None:
    """Makes this process exit right after its threads and exit handlers.

    The interpreter would otherwise spend more than a second tearing down the imported modules.

    Args:
        code: The exit code.
    """
    if not sys.modules.keys() & {"pytest", "IPython"}:  # a test or a notebook, which ends by its own rules
        atexit.register(_end_process, code)  # of the exit handlers, the latest is called first


def _end_process(code: int) -> None:
    atexit.unregister(_end_process)
    atexit._run_exitfuncs()  # the others
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


@contextmanager
def report_user_errors() -> Iterator[None]:
    """Exits with one line for a user's mistake. Other exceptions pass."""
    try:
        yield
    except Exception as error:
        if message := message_for(error):
            exit_with(error, message)
        raise


def exit_with(error: BaseException, message: str) -> NoReturn:
    """Exits with code 1 and the message, or with the traceback if the user requested tracebacks."""
    if _show_tracebacks:
        traceback.print_exception(error)
        sys.exit(1)
    sys.exit(f"error: {message}")


def print_interrupted() -> None:
    print("interrupted", file=sys.stderr)
