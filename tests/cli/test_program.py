"""How a program ends: a mistake prints one line, a defect its traceback, Ctrl-C one word."""

import os
import signal
import sys

import pytest

from fmnist.cli import program
from fmnist.config.errors import UserError
from tests.conftest import Outcome, outcome_of


def mistaken() -> None:
    raise UserError("no luck")


def test_mistake_prints_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "a=1", "-m", "b=2"])
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    assert outcome_of(lambda: program.run(mistaken), capsys) == Outcome(1, "", "error: no luck\n")
    assert sys.argv == ["train.py", "-m", "a=1", "b=2"]  # as Hydra's parser wants it
    assert "HYDRA_FULL_ERROR" not in os.environ


def test_mistake_prints_its_traceback_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    monkeypatch.setattr(program, "_show_tracebacks", False)  # set back after the test
    outcome = outcome_of(lambda: program.run(mistaken), capsys)
    assert outcome.code == 1
    assert outcome.err.startswith("Traceback")
    assert os.environ["HYDRA_FULL_ERROR"] == "1"


def test_defect_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with pytest.raises(ZeroDivisionError):
        program.run(lambda: 1 / 0)


def test_interrupt_prints_one_word(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py"])
    outcome = outcome_of(lambda: program.run(lambda: signal.raise_signal(signal.SIGINT)), capsys)
    assert outcome == Outcome(130, "", "interrupted\n")
