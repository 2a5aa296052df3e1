"""Creating run and sweep directories, and naming the directories of jobs."""

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fmnist.config.errors import UserError
from fmnist.runs import create
from fmnist.runs.create import directory_name
from fmnist.runs.run_directory import RunDirectory

CONTENTS = {"config.yaml": "seed: 0\n", "overrides.yaml": "[]\n"}


@given(st.text(max_size=400))
def test_name_needs_no_quoting_and_is_short(name: str) -> None:
    result = directory_name(name)
    assert re.fullmatch(r"[\w.+-]*", result)
    assert len(result) < 170


@given(st.text(max_size=20), st.text(max_size=20))
def test_different_overrides_give_different_names(first: str, second: str) -> None:
    assert (directory_name(first) == directory_name(second)) == (first == second)


def test_ordinary_name_is_unchanged() -> None:
    assert directory_name("optimizer.lr-0.001+seed-0") == "optimizer.lr-0.001+seed-0"


def test_directory_is_created_once(tmp_path: Path) -> None:
    create.create_run_directory(RunDirectory(tmp_path / "a"), CONTENTS)
    with pytest.raises(UserError, match="a run that did not finish"):
        create.create_run_directory(RunDirectory(tmp_path / "a"), CONTENTS)
    create.create_sweep_directory(RunDirectory(tmp_path / "b"), CONTENTS)
    with pytest.raises(UserError, match="already holds a sweep"):
        create.create_sweep_directory(RunDirectory(tmp_path / "b"), CONTENTS)


def test_empty_directory_may_be_used(tmp_path: Path) -> None:
    create.create_run_directory(RunDirectory(tmp_path), CONTENTS)
    assert {path.name: path.read_text() for path in (tmp_path / ".hydra").iterdir()} == CONTENTS
    assert [path.name for path in tmp_path.iterdir()] == [".hydra"]


def test_second_of_two_concurrent_runs_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "ensure_unused", lambda _run: None)  # both have checked, and found nothing
    create.create_run_directory(RunDirectory(tmp_path), CONTENTS)
    with pytest.raises(UserError, match="another run has just taken"):
        create.create_run_directory(RunDirectory(tmp_path), CONTENTS)


def test_process_killed_at_any_operation_leaves_the_whole_configuration_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills the process before each of its file operations; then another process creates the directory."""

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
            patch.setattr(os, "unlink", lambda _path: None)  # a killed process does not clean up
            try:
                create.create_run_directory(RunDirectory(path), CONTENTS)
            except Killed:
                assert not (path / ".hydra").exists() or calls > 8
            else:
                assert last > 8
                return
        if not (path / ".hydra").exists():
            create.create_run_directory(RunDirectory(path), CONTENTS)
        assert {file.name: file.read_text() for file in (path / ".hydra").iterdir()} == CONTENTS
    raise AssertionError("the directory was never completed")
