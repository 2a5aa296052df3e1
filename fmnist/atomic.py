"""Files that are there whole or not at all."""

import json
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name in the same directory, syncs it, and renames it.

    A reader sees the old content or the new one, also after the process was killed or the power was cut. A killed write
    leaves a file that matches ``temporary_files``.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.chmod(temporary, 0o644)  # mkstemp makes it readable by its owner alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)  # the name, too, must survive a power cut
    finally:
        os.close(directory)


def write_json(path: Path, values: Mapping[str, float | int]) -> None:
    """Writes numbers by name. What is not finite becomes null, since JSON knows no NaN."""
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    write(path, (json.dumps(finite, indent=2, allow_nan=False) + "\n").encode())


def temporary_files(directory: Path) -> list[Path]:
    """What killed writes left behind in a directory."""
    return list(directory.glob(".*.tmp"))
