"""Reads checkpoint files: tensors and plain values only. Imported without Lightning."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import torch

from fmnist.config.errors import UserError, one_line


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
