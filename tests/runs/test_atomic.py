"""Files that are there whole or not at all."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist.runs import atomic


def test_a_file_is_written_and_replaced(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        atomic.write(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    atomic.write(tmp_path / "file", b"old")

    def full(_descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_content_is_synced_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)

        def noting(*arguments: object, name: str = name, call: Callable[..., None] = call) -> None:
            events.append(name)
            call(*arguments)

        monkeypatch.setattr(os, name, noting)
    atomic.write(tmp_path / "file", b"content")
    assert events == ["fsync", "replace", "fsync"]  # the last is the directory's


def test_the_file_can_be_read_by_others(tmp_path: Path) -> None:
    atomic.write(tmp_path / "file", b"content")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_what_is_not_finite_is_null_since_json_knows_no_nan(tmp_path: Path) -> None:
    values = {"loss": float("nan"), "inner": {"list": [1, float("inf"), 0.5]}, "text": "nan", "none": None}
    atomic.write_json(tmp_path / "file", values)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((tmp_path / "file").read_text(), parse_constant=refuse)
    assert content == {"loss": None, "inner": {"list": [1, None, 0.5]}, "text": "nan", "none": None}


def test_a_disk_that_is_full_is_told_with_the_files_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as error:
        atomic.write(tmp_path / "file", b"new")
    assert error.value.filename == str(tmp_path / "file")
