"""Checkpoint files: written whole or not at all, read as tensors and plain values alone."""

import io
import os
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from fmnist.config.errors import UserError
from fmnist.runs import atomic


def read(path: Path) -> dict[str, Any]:
    """Reads a checkpoint to the processor's memory.

    Raises:
        UserError: There is no such file, it is damaged, or it holds more than tensors and plain values.
    """
    if not path.is_file():
        raise UserError(f"no checkpoint {path}: the run was made without, or was stopped before its first")
    try:
        with warnings.catch_warnings(action="ignore"):  # of what makes it raise next
            checkpoint: dict[str, Any] = dict(torch.load(path, map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:
        raise UserError(f"{path} is refused: it holds more than weights, and reading it could run its code") from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        raise UserError(f"{path} is no checkpoint, or is damaged: {' '.join(str(error).split())[:200]}") from error
    return checkpoint


class CheckpointIO(TorchCheckpointIO):
    """How Lightning writes and reads checkpoints here.

    Its own writes go by way of the system's temporary directory, unsynced, and are not atomic if that is another file
    system; its own reads may fetch addresses, and run code that a checkpoint names.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = io.BytesIO()  # to a file, torch would make an error of its own of what the disk says
        torch.save(checkpoint, content)
        atomic.write(path, content.getbuffer())

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return read(Path(path))
