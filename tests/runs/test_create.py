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


def contents(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.iterdir()}


@given(st.text(max_size=400))
def test_name_needs_no_quoting_and_is_short(name: str) -> None:
    assert re.fullmatch(r"[\w.+-]{0,159}", directory_name(name))


@given(st.text(max_size=20), st.text(max_size=20))
def test_different_overrides_give_different_names(first: str, second: str) -> None:
    assert (directory_name(first) == directory_name(second)) == (first == second)


def test_ordinary_name_is_unchanged() -> None:
    for name in ("optimizer.lr-0.001+seed-0", "a" * 150):
        assert directory_name(name) == name


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("metrics.json", "already holds a finished run, and nothing in it was changed"),
        (".hydra/config.yaml", r"already holds a run that did not finish \(resume=.*busy continues it\)"),
        (".sweep/overrides.yaml", "already holds a sweep"),
        ("holiday.jpg", "already holds other files"),
    ],
)
def test_used_directory_is_rejected(file: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "busy" / file
    path.parent.mkdir(parents=True)
    path.touch()
    for function in (create.create_run_directory, create.create_sweep_directory):
        with pytest.raises(UserError, match=f"busy {message}"):
            function(RunDirectory(tmp_path / "busy"), CONTENTS)


def test_impossible_directory_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "run/.hydra").mkdir(parents=True)
    for name, message in (
        ("file", "file is a file; a run or a sweep needs a directory"),
        ("file/below", "cannot write the directory .*below: Not a directory"),
        ("x" * 300, "cannot use the directory .*: File name too long"),
        ("run/a/b", "run/a/b lies within another run, .*/run; choose"),
    ):
        with pytest.raises(UserError, match=message):
            create.create_run_directory(RunDirectory(tmp_path / name), CONTENTS)


def test_empty_directory_may_be_used(tmp_path: Path) -> None:
    create.create_run_directory(RunDirectory(tmp_path), CONTENTS)
    assert contents(tmp_path / ".hydra") == CONTENTS
    assert [path.name for path in tmp_path.iterdir()] == [".hydra"]
    assert (tmp_path / ".hydra").stat().st_mode & 0o777 == 0o755


def test_job_directory_of_an_earlier_start_is_kept(tmp_path: Path) -> None:
    for values in (CONTENTS, {}):
        create.create_job_directory(RunDirectory(tmp_path / "job"), values)
        assert contents(tmp_path / "job/.hydra") == CONTENTS


def test_second_of_two_concurrent_runs_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "ensure_unused", lambda _run: None)  # both have checked, and found nothing
    create.create_run_directory(RunDirectory(tmp_path), CONTENTS)
    with pytest.raises(UserError, match="another run has just taken"):
        create.create_run_directory(RunDirectory(tmp_path), CONTENTS)
    assert [path.name for path in tmp_path.iterdir()] == [".hydra"]


class Killed(BaseException):
    pass


def test_process_killed_at_any_operation_leaves_the_whole_configuration_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills the process before each of its file operations; then another process creates the directory."""
    for last in range(1, 20):
        path = tmp_path / str(last)
        calls = 0
        with monkeypatch.context() as patch:
            for name in ("fsync", "replace", "rename", "chmod"):

                def call(*arguments: object, real: Any = getattr(os, name), last: int = last, **options: Any) -> None:  # noqa: B008
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
        assert contents(path / ".hydra") == CONTENTS
    raise AssertionError("the directory was never completed")
