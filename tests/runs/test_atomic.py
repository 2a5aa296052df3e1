"""Atomic file writes."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist.runs import atomic


def test_file_is_written_and_replaced(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        atomic.write(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_failed_write_leaves_the_old_content_and_no_other_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.write(tmp_path / "file", b"old")

    def full(_descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_content_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    for name in ("fsync", "replace"):
        call = getattr(os, name)

        def noting(*arguments: object, name: str = name, call: Callable[..., None] = call) -> None:
            events.append(name)
            call(*arguments)

        monkeypatch.setattr(os, name, noting)
    atomic.write(tmp_path / "file", b"content")
    assert events == ["fsync", "replace", "fsync"]  # the last syncs the directory


def test_other_users_can_read_the_file(tmp_path: Path) -> None:
    atomic.write(tmp_path / "file", b"content")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_nan_and_infinity_become_null(tmp_path: Path) -> None:
    values = {"loss": float("nan"), "inner": {"list": [1, float("inf"), 0.5]}, "text": "nan", "none": None}
    atomic.write_json(tmp_path / "file", values)

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads((tmp_path / "file").read_text(), parse_constant=refuse)
    assert content == {"loss": None, "inner": {"list": [1, None, 0.5]}, "text": "nan", "none": None}


def test_full_disk_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as error:
        atomic.write(tmp_path / "file", b"new")
    assert error.value.filename == str(tmp_path / "file")
