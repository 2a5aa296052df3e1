"""The names of run directories, and who may have one."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.errors import UserError
from fmnist.run_directory import RunDirectory, typeable


@given(st.text(max_size=400))
def test_a_name_can_be_typed_and_is_not_too_long(name: str) -> None:
    result = typeable(name)
    assert re.fullmatch(r"[\w.+-]*", result)
    assert len(result) < 170


@given(st.text(max_size=20), st.text(max_size=20))
def test_different_names_stay_different(first: str, second: str) -> None:
    assert (typeable(first) == typeable(second)) == (first == second)


def test_an_ordinary_name_stays_as_it_is() -> None:
    assert typeable("optimizer.lr-0.001+seed-0") == "optimizer.lr-0.001+seed-0"


def test_a_directory_is_claimed_once(tmp_path: Path) -> None:
    RunDirectory(tmp_path / "a").claim()
    with pytest.raises(UserError, match="a run that did not finish"):
        RunDirectory(tmp_path / "a").claim()
    RunDirectory(tmp_path / "b").claim_for_sweep()
    with pytest.raises(UserError, match="already holds a sweep"):
        RunDirectory(tmp_path / "b").claim_for_sweep()


def test_an_empty_directory_is_free(tmp_path: Path) -> None:
    RunDirectory(tmp_path).claim()
    assert (tmp_path / ".hydra").is_dir()


def test_of_two_that_looked_at_once_the_second_to_claim_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RunDirectory, "check_free", lambda _run: None)  # both have looked, and found nothing
    RunDirectory(tmp_path).claim()
    with pytest.raises(UserError, match="taken by another run just now"):
        RunDirectory(tmp_path).claim()


def test_metrics_come_back_as_they_were_written(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert not run.finished
    run.write_metrics({"test/acc": 0.8733000159263611, "epochs": 10})
    assert run.finished
    assert run.read_metrics() == {"test/acc": 0.8733000159263611, "epochs": 10}
