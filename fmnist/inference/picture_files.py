"""Which picture files a command line means: files, directories of them, patterns."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from fmnist.config.errors import UserError
from fmnist.inference import pictures
from fmnist.inference.prediction import printable


def find(images: Iterable[str]) -> list[Path]:
    """The files that are meant, each once. What exists by its name is not taken for a pattern.

    Raises:
        UserError: A directory holds no picture, or a pattern matches nothing.
    """
    found: list[Path] = []
    for text in images:
        if not text:
            raise UserError("images has an empty name in it")
        # Path's own refuses a file that is called ~a.png.
        name = os.path.expanduser(text)  # noqa: PTH111
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
    shown = (path for path in directory.iterdir() if not path.name.startswith("."))
    found = sorted(path for path in shown if path.suffix.lower() in pictures.SUFFIXES)
    if not found:
        raise UserError(f"{directory} holds no file that is called like a picture ({' '.join(pictures.SUFFIXES)})")
    return found


def _matching(pattern: str) -> list[Path]:
    # Path's own takes no absolute pattern.
    matches = map(Path, sorted(glob.glob(pattern, recursive=True)))  # noqa: PTH207
    found = [path for path in matches if not path.is_dir()]
    if not found:
        raise UserError(f"no file matches {printable(pattern)}")
    return found
