"""Atomic file writes: a reader sees the old content or the new one, never a part."""

import io
import json
import math
import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write(path: Path, content: bytes | memoryview) -> None:
    """Writes a temporary file in the same directory, syncs it and renames it.

    This survives a killed process and a power cut. A killed write leaves a file that ``temporary_files`` finds.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.chmod(temporary, 0o644)  # mkstemp creates it readable by its owner only
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):  # report the first error
            os.unlink(temporary)
        if isinstance(error, OSError) and error.errno is not None and error.filename is None:
            error.filename = str(path)  # a full disk does not name the file
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Syncs the names in a directory, so that they survive a power cut."""
    directory = os.open(path, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a JSON object. NaN and infinity become null, since JSON has neither."""
    write(path, (json.dumps(_finite(values), indent=2, allow_nan=False) + "\n").encode())


def write_figure(path: Path, figure: "Figure") -> None:
    """Writes a figure as PNG."""
    content = io.BytesIO()
    figure.savefig(content, format="png")
    write(path, content.getvalue())


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def temporary_files(directory: Path) -> list[Path]:
    """Files that killed writes left behind in a directory."""
    return list(directory.glob(".*.tmp"))
