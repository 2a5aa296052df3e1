"""How a program ends: a mistake prints one line, a defect its traceback, Ctrl-C one word."""

import os
import signal
import sys
from collections.abc import Callable

import pytest

from fmnist.cli import program
from fmnist.config.errors import UserError
from tests.helpers import Outcome, outcome_of


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
