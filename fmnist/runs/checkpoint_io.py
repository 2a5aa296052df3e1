"""Checkpoint files: written atomically, read as tensors and plain values only."""

import io
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from fmnist.config.errors import UserError, one_line
from fmnist.runs import atomic


def read(path: Path) -> dict[str, Any]:
    """Reads a checkpoint into CPU memory.

    Raises:
        UserError: The file is missing or damaged, or holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}: the run saves none, or stopped before its first")
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns before it raises
            checkpoint: dict[str, Any] = dict(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is rejected: it holds more than weights, and loading it could run its code") from error
    except Exception as error:  # torch raises almost any exception for a damaged file
        raise UserError(f"{path} is not a checkpoint, or is damaged: {one_line(error)[:200]}") from error
    return checkpoint


class CheckpointIO(TorchCheckpointIO):
    """Writes and reads Lightning's checkpoints.

    Lightning's own plugin writes through the system's temporary directory, without sync, and not atomically if that is
    another file system. Reading, it may fetch URLs and run code that a checkpoint names.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # saving to a file, torch replaces the OSError of a full disk by its own error
        torch.save(checkpoint, content)
        atomic.write(path, content.getbuffer())

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read(Path(path))
