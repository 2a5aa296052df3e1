"""Checkpoint files."""

from pathlib import Path

import pytest
import torch

from fmnist.config.errors import UserError
from fmnist.runs import checkpoint_io
from tests.conftest import Hostile


def test_checkpoint_survives_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "made/for it/last.ckpt"
    checkpoint_io.CheckpointIO().save_checkpoint({"weights": torch.arange(3), "epoch": 2}, path)
    read = checkpoint_io.CheckpointIO().load_checkpoint(path)
    assert (read["weights"].tolist(), read["epoch"]) == ([0, 1, 2], 2)
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]


def test_unusable_checkpoint_is_rejected(tmp_path: Path) -> None:
    torch.save({"epoch": Hostile(tmp_path / "witness")}, tmp_path / "hostile")
    (tmp_path / "damaged").write_bytes((tmp_path / "hostile").read_bytes()[:300])
    for name, message in (
        ("missing", "no checkpoint .*missing: the run saves none, or stopped before its first"),
        ("damaged", "damaged is not a checkpoint, or is damaged: "),
        ("hostile", "hostile is rejected: it holds more than weights, and loading it could run its code"),
    ):
        with pytest.raises(UserError, match=message):
            checkpoint_io.read(tmp_path / name)
    assert not (tmp_path / "witness").exists()
