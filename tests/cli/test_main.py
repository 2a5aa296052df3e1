"""``python -m fmnist``: the list of commands, and running one of them."""

import sys
from collections.abc import Callable

import pytest

from fmnist import __main__ as entry
from tests.conftest import Outcome, one_line, outcome_of, run_command


@pytest.fixture
def fmnist(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs ``fmnist <arguments>`` in this process."""

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["fmnist", *arguments])
        return outcome_of(entry.main, capsys)

    return call


def test_every_command_is_listed_with_a_help_line() -> None:
    commands = entry.commands()
    documented = {"audit", "demo", "doctor", "evaluate", "export", "fetch", "predict", "report", "reproduce", "results"}
    assert set(commands) == documented
    for name, line in commands.items():
        assert 20 < len(line) < 90, name
        assert line[0].isupper(), name
        assert "`" not in line, name


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_without_a_command_the_list_is_printed(arguments: list[str], fmnist: Callable[..., Outcome]) -> None:
    outcome = fmnist(*arguments)
    assert (outcome.code, outcome.err) == (0, "")
    for name, line in entry.commands().items():
        assert f"  {name:<10} {line}\n" in outcome.out


def test_listing_imports_no_other_package() -> None:
    code = "import sys; from fmnist.__main__ import main; main(); print({'torch', 'hydra', 'numpy'} & set(sys.modules))"
    assert run_command("-c", code, cold=True).out.endswith("\nset()\n")


def test_unknown_command_is_rejected_with_a_suggestion(fmnist: Callable[..., Outcome]) -> None:
    assert one_line(fmnist("predcit")).startswith("error: no command 'predcit'; did you mean 'predict'? (commands: ")
    assert one_line(fmnist("build")).startswith("error: no command 'build' (commands: ")  # a module, not a command
    assert one_line(fmnist("run=x")).startswith("error: no command 'run=x'")


def test_command_gets_its_arguments_and_its_own_help() -> None:
    outcome = run_command("-m", "fmnist", "predict", "--help", cold=True)
    assert outcome.code == 0
    assert outcome.out.startswith(entry.commands()["predict"])
    assert "index=" in outcome.out


def test_both_ways_to_call_a_command_are_the_same() -> None:
    arguments = "run=none", "imges=none.png"
    outcome = run_command("-m", "fmnist", "predict", *arguments, cold=True)
    assert one_line(outcome).startswith("error: unknown key 'imges'; did you mean 'images'?")
    assert outcome == run_command("-m", "fmnist.predict", *arguments, cold=True)
