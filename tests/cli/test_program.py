"""How a program ends: a mistake prints one line, a defect its traceback, Ctrl-C one word."""

import os
import signal
import sys
from collections.abc import Callable

import pytest

from fmnist.cli import program
from fmnist.config.errors import UserError
from tests.helpers import Outcome, outcome_of, run_command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    monkeypatch.setattr(sys, "argv", ["train.py", "a=1", "-m", "b=2"])
    monkeypatch.setattr(program, "_show_tracebacks", False)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    return lambda main: outcome_of(lambda: program.run(main), capsys)


def mistaken() -> None:
    assert os.environ["HYDRA_FULL_ERROR"] == "1"  # so that Hydra prints nothing itself
    assert sys.argv == ["train.py", "-m", "a=1", "b=2"]  # as Hydra's parser wants it
    raise UserError("no luck")


def test_mistake_prints_one_line(run: Callable[..., Outcome]) -> None:
    assert run(mistaken) == Outcome(1, "", "error: no luck\n")
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_mistake_prints_its_traceback_on_request(run: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    outcome = run(mistaken)
    assert (outcome.code, outcome.err.splitlines()[0]) == (1, "Traceback (most recent call last):")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_defect_is_raised(run: Callable[..., Outcome]) -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: 1 / 0)


def test_interrupt_prints_one_word(run: Callable[..., Outcome]) -> None:
    assert run(lambda: signal.raise_signal(signal.SIGINT)) == Outcome(130, "", "interrupted\n")


@pytest.mark.parametrize(
    ("ending", "code", "error"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit('a reason')", 1, "a reason\n"),
        ("raise ValueError('defect')", 1, "ValueError: defect\n"),
    ],
)
def test_process_ends_after_its_exit_handlers_without_taking_the_interpreter_apart(
    ending: str, code: int, error: str
) -> None:
    program = f"""
import atexit, multiprocessing, sys, threading, time, weakref
from fmnist.cli.program import quick_process
class Kept:
    def __del__(self): print("taken apart")
kept = Kept()
atexit.register(print, "earliest handler")
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
with quick_process():
    atexit.register(print, "later handler", end=", ")
    threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
    {ending}
"""
    outcome = run_command("-c", program, cold=True, timeout=30)
    assert (outcome.code, outcome.out) == (code, "thread\nlater handler, earliest handler\n")
    assert outcome.err.endswith(error)
