"""Files are written atomically; checkpoints are read as tensors and plain values only."""

import errno
import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from fmnist.config.errors import UserError
from fmnist.runs import atomic, checkpoint_file, checkpoint_io
from tests.helpers import Hostile


def test_file_is_replaced_and_other_users_can_read_it(tmp_path: Path) -> None:
    for content in (b"old", b"new"):
        atomic.write(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_full_disk_leaves_the_old_content_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.write(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space") as error:
        atomic.write(tmp_path / "file", b"new")
    assert error.value.filename == str(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_content_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Mock(wraps=os)
    for name in ("fsync", "replace"):
        monkeypatch.setattr(os, name, getattr(system, name))
    atomic.write(tmp_path / "file", b"content")
    assert [name for name, *_ in system.mock_calls] == ["fsync", "replace", "fsync"]  # the last syncs the directory


def test_nan_and_infinity_become_null(tmp_path: Path) -> None:
    values = {"loss": float("nan"), "inner": {"list": [1, float("inf"), 0.5]}, "text": "nan", "none": None}
    atomic.write_json(tmp_path / "file", values)
    content = json.loads((tmp_path / "file").read_text())
    assert content == {"loss": None, "inner": {"list": [1, None, 0.5]}, "text": "nan", "none": None}


def test_figure_is_written_as_png(tmp_path: Path) -> None:
    atomic.write_figure(tmp_path / "figure", Figure(figsize=(2, 1), dpi=50))
    with Image.open(tmp_path / "figure") as image:
        assert (image.format, image.size) == ("PNG", (100, 50))


def test_checkpoint_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints/last.ckpt"
    checkpoint_io.CheckpointIO().save_checkpoint({"weights": torch.arange(3), "epoch": 2}, path)
    read = checkpoint_io.CheckpointIO().load_checkpoint(path)
    assert (read["weights"].tolist(), read["epoch"]) == ([0, 1, 2], 2)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_checkpoint_does_not_bring_back_a_run_directory_that_disappeared(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint_io.CheckpointIO().save_checkpoint({}, tmp_path / "run/checkpoints/last.ckpt")
    assert not (tmp_path / "run").exists()


def test_unusable_checkpoint_is_rejected(tmp_path: Path) -> None:
    torch.save({"epoch": Hostile(tmp_path / "witness")}, tmp_path / "hostile")
    (tmp_path / "damaged").write_bytes((tmp_path / "hostile").read_bytes()[:300])
    for name, message in (
        ("missing", "no checkpoint .*missing: the run saves none, or stopped before its first"),
        ("damaged", "damaged is not a checkpoint, or is damaged: "),
        ("hostile", "hostile is rejected: it holds more than weights, and loading it could run its code"),
    ):
        with pytest.raises(UserError, match=message):
            checkpoint_file.read(tmp_path / name)
    assert not (tmp_path / "witness").exists()
