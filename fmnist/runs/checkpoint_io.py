"""Lightning's plugin for checkpoint files: written atomically, read as tensors and plain values only."""

import io
import os
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from fmnist.runs import atomic, checkpoint_file


class CheckpointIO(TorchCheckpointIO):
    """Writes and reads Lightning's checkpoints.

    Lightning's own plugin writes through the system's temporary directory, without sync, and not atomically if that is
    another file system. Reading, it may fetch URLs and run code that a checkpoint names.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        path = Path(path)
        path.parent.mkdir(exist_ok=True)  # but not its parents: a run directory that disappeared must not come back
        content = io.BytesIO()  # saving to a file, torch replaces the OSError of a full disk by its own error
        torch.save(checkpoint, content)
        atomic.write(path, content.getbuffer())

    def load_checkpoint(
        self, path: str | os.PathLike[str], map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return checkpoint_file.read(Path(path))
