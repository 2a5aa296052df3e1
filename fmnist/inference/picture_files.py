"""Finds picture files: by name, in directories, by pattern."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from fmnist.config.errors import UserError, printable
from fmnist.data import pictures


def find(names: Iterable[str]) -> list[Path]:
    """The files that names, directories and patterns stand for, each once. An existing name is never a pattern.

    Raises:
        UserError: A directory holds no picture, or a pattern matches nothing.
    """
    found: list[Path] = []
    for text in names:
        if not text:
            raise UserError("images contains an empty name")
        name = os.path.expanduser(text)  # noqa: PTH111 (Path.expanduser rejects a file called ~a.png)
        path = Path(name)
        try:
            if path.is_dir():
                found += _in_directory(path)
            elif glob.has_magic(name) and not path.exists():
                found += _matching(name)
            else:
                found.append(path)
        except OSError as error:
            raise UserError(f"cannot read {printable(text)}: {error.strerror}") from error
    return list(dict.fromkeys(found))


def _in_directory(directory: Path) -> list[Path]:
    found = sorted(
        path
        for path in directory.iterdir()
        if path.suffix.lower() in pictures.SUFFIXES and not path.name.startswith(".")
    )
    if not found:
        below = f"; for those in its directories write '{directory}/*/*'"
        deeper = any(path.is_dir() for path in directory.iterdir())
        raise UserError(f"{directory} holds no picture file ({' '.join(pictures.SUFFIXES)}){below if deeper else ''}")
    return found


def _matching(pattern: str) -> list[Path]:
    matches = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207 (Path.glob rejects absolute patterns)
    found = [path for path in matches if not path.is_dir()]
    if not found:
        raise UserError(f"no file matches {printable(pattern)}")
    return found
