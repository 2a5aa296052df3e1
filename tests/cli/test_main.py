"""``python -m fmnist``: the list of commands, and running one of them."""

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist import __main__ as entry
from tests.helpers import Outcome, one_line, outcome_of, run_command


@pytest.fixture
def fmnist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs ``fmnist <arguments>`` in this process."""

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fmnist", *arguments])
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.delitem(sys.modules, "fmnist.predict", raising=False)  # else runpy warns
        return outcome_of(entry.main, capsys)

    return call


def test_own_modules_are_found_in_the_working_directory(fmnist: Callable[..., Outcome], tmp_path: Path) -> None:
    with contextlib.chdir(tmp_path):
        assert fmnist("predict", "--help").code == 0
    assert sys.path[-1] == str(tmp_path)


def test_every_command_is_listed_with_a_help_line(fmnist: Callable[..., Outcome]) -> None:
    commands = entry.commands()
    documented = {
        "audit",
        "demo",
        "doctor",
        "evaluate",
        "export",
        "fetch",
        "predict",
        "report",
        "reproduce",
        "results",
        "train",
    }
    assert set(commands) == documented
    assert all(20 < len(line) < 90 and line[0].isupper() and "`" not in line for line in commands.values())
    outcome = fmnist()
    assert (outcome.code, outcome.err) == (0, "")
    assert all(f"  {name:<10} {line}\n" in outcome.out for name, line in commands.items())
    assert outcome == fmnist("--help") == fmnist("-h")


def test_listing_imports_no_other_package() -> None:
    code = "import sys; from fmnist.__main__ import main; main(); print({'torch', 'hydra', 'numpy'} & set(sys.modules))"
    assert run_command("-c", code, cold=True).out.endswith("\nset()\n")


def test_unknown_command_is_rejected_with_a_suggestion(fmnist: Callable[..., Outcome]) -> None:
    assert one_line(fmnist("predcit")).startswith("error: no command 'predcit'; did you mean 'predict'? (commands: ")
    assert one_line(fmnist("build")).startswith("error: no command 'build' (commands: ")  # a module, not a command


def test_command_gets_its_arguments_and_its_own_help(fmnist: Callable[..., Outcome]) -> None:
    assert one_line(fmnist("predict", "imges=a")).startswith("error: unknown key 'imges'; did you mean 'images'?")
    outcome = fmnist("predict", "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(entry.commands()["predict"])
    assert "index=" in outcome.out
