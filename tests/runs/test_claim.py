"""Who may have a directory, and how the directories of jobs are named."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.config.errors import UserError
from fmnist.runs import create
from fmnist.runs.create import typeable
from fmnist.runs.run_directory import RunDirectory

CONTENTS = {"config.yaml": "seed: 0\n", "overrides.yaml": "[]\n"}


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
    create.for_run(RunDirectory(tmp_path / "a"), CONTENTS)
    with pytest.raises(UserError, match="a run that did not finish"):
        create.for_run(RunDirectory(tmp_path / "a"), CONTENTS)
    create.for_sweep(RunDirectory(tmp_path / "b"), CONTENTS)
    with pytest.raises(UserError, match="already holds a sweep"):
        create.for_sweep(RunDirectory(tmp_path / "b"), CONTENTS)


def test_an_empty_directory_is_free(tmp_path: Path) -> None:
    create.for_run(RunDirectory(tmp_path), CONTENTS)
    assert {path.name: path.read_text() for path in (tmp_path / ".hydra").iterdir()} == CONTENTS
    assert [path.name for path in tmp_path.iterdir()] == [".hydra"]


def test_of_two_that_looked_at_once_the_second_to_claim_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(create, "check_free", lambda _run: None)  # both have looked, and found nothing
    create.for_run(RunDirectory(tmp_path), CONTENTS)
    with pytest.raises(UserError, match="taken by another run just now"):
        create.for_run(RunDirectory(tmp_path), CONTENTS)


def test_a_directory_that_was_taken_holds_the_configuration_whenever_the_process_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each write and each rename once is the last that the process does; then another process takes the directory."""

    class Killed(BaseException):
        pass

    for last in range(1, 20):
        path = tmp_path / str(last)
        calls = 0
        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "rename", "chmod"):
                real = getattr(os, name)

                def call(*arguments: object, real: Any = real, last: int = last, **options: object) -> None:
                    nonlocal calls
                    calls += 1
                    if calls == last:
                        raise Killed
                    real(*arguments, **options)

                patch.setattr(os, name, call)
            patch.setattr(os, "unlink", lambda _path: None)  # a killed process does not clear up
            try:
                create.for_run(RunDirectory(path), CONTENTS)
            except Killed:
                assert not (path / ".hydra").exists() or calls > 8
            else:
                assert last > 8
                return
        if not (path / ".hydra").exists():
            create.for_run(RunDirectory(path), CONTENTS)
        assert {file.name: file.read_text() for file in (path / ".hydra").iterdir()} == CONTENTS
    raise AssertionError("the claim never came to its end")
