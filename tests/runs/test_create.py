"""Creating run and sweep directories, and naming the directories of jobs."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

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


@given(st.text(max_size=400), st.text(max_size=20))
def test_name_needs_no_quoting_is_short_and_different_for_different_overrides(first: str, second: str) -> None:
    assert re.fullmatch(r"[\w.+-]{0,159}", directory_name(first))
    assert (directory_name(first) == directory_name(second)) == (first == second)


def test_suffix_is_the_users_name_if_there_is_one() -> None:
    assert [create.suffix(name) for name in (None, "", "wider", 0, "a/b")] == ["", "", "-wider", "-0", "-a_b-c14cddc0"]


def test_ordinary_name_is_unchanged() -> None:
    for name in ("optimizer.lr-0.001+seed-0", "a" * 150):
        assert directory_name(name) == name


@pytest.mark.parametrize(
    ("existing", "wanted", "message"),
    [
        ("a/metrics.json", "a", "a already holds a finished run, and nothing in it was changed"),
        ("a/.hydra/config.yaml", "a", r"a already holds a run that did not finish \(resume=.*a continues it\)"),
        ("a/.sweep/overrides.yaml", "a", "a already holds a sweep"),
        ("a/holiday.jpg", "a", "a already holds other files"),
        ("a", "a", "a is a file; a run or a sweep needs a directory"),
        ("a", "a/b", "cannot write the directory .*a/b: Not a directory"),
        ("a", 300 * "x", "cannot (use|write) the directory .*: File name too long"),
        ("a/.hydra/config.yaml", "a/b/c", "a/b/c lies within another run, .*/a; choose a directory outside"),
    ],
)
def test_directory_that_cannot_be_used_is_rejected(existing: str, wanted: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / existing
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    for function in (create.create_run_directory, create.create_sweep_directory):
        with pytest.raises(UserError, match=message):
            function(RunDirectory(tmp_path / wanted), CONTENTS)


def test_empty_directory_may_be_used_by_one_of_two_concurrent_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create.create_run_directory(RunDirectory(tmp_path), CONTENTS)
    monkeypatch.setattr(create, "ensure_unused", lambda _run: None)  # the other has checked before, and found nothing
    with pytest.raises(UserError, match="another run has just taken"):
        create.create_run_directory(RunDirectory(tmp_path), {})
    create.create_job_directory(RunDirectory(tmp_path), {})  # a resumed sweep keeps the existing files of a job
    assert contents(tmp_path / ".hydra") == CONTENTS
    assert [path.name for path in tmp_path.iterdir()] == [".hydra"]
    assert (tmp_path / ".hydra").stat().st_mode & 0o777 == 0o755


class Killed(BaseException):
    pass


def test_process_killed_at_any_operation_leaves_the_whole_configuration_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills the process before each of its file operations; then another process creates the directory."""

    def kill_after(operations: Iterator[int], real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            if next(operations, None) is None:
                raise Killed
            real(*arguments, **options)

        return call

    for count in range(20):
        run, operations = RunDirectory(tmp_path / str(count)), iter(range(count))
        with monkeypatch.context() as patch, suppress(Killed):
            for name in ("fsync", "replace", "rename", "chmod"):
                patch.setattr(os, name, kill_after(operations, getattr(os, name)))
            patch.setattr(os, "unlink", Mock())  # a killed process does not clean up
            create.create_run_directory(run, CONTENTS)
            break
        if not run.hydra.exists():
            create.create_run_directory(run, CONTENTS)
        assert contents(run.hydra) == CONTENTS
    assert count > 8
    assert contents(run.hydra) == CONTENTS
