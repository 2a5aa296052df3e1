"""Who may have a directory: a run or a sweep takes one that holds nothing, and nobody else gets it."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from fmnist.config.errors import UserError
from fmnist.runs import atomic
from fmnist.runs.run_directory import RunDirectory


def check_free(run: RunDirectory) -> None:
    """Makes sure that a run or a sweep may start here.

    Raises:
        UserError: The path holds something already.
    """
    path = run.path
    try:
        within = next((parent for parent in path.resolve().parents if (parent / ".hydra").is_dir()), None)
        # A process that was killed while it took the directory has left nothing that anybody could miss.
        free = not path.exists() or (path.is_dir() and set(path.iterdir()) <= set(atomic.temporary_files(path)))
    except OSError as error:
        raise UserError(f"cannot use the directory {path}: {error.strerror}") from error
    if within:
        raise UserError(f"{path} lies within another run, {within}; name a directory outside of it")
    if free:
        return
    if not path.is_dir():
        raise UserError(f"{path} is a file; a run or a sweep needs a directory")
    if run.finished:
        content = "a finished run"
    elif run.hydra.exists():
        content = f"a run that did not finish (resume={path} continues it)"
    elif run.sweep.exists():
        content = "a sweep"
    else:
        content = "files that are not a run's"
    raise UserError(
        f"{path} already holds {content}, and nothing in it was changed; "
        "choose another directory, or leave the option out to have one made"
    )


def for_run(run: RunDirectory, contents: Mapping[str, str]) -> None:
    """Takes the directory for a run, by making ``.hydra``. Of two processes that try at once, one succeeds.

    Args:
        run: The directory, which need not exist.
        contents: Text of each file in ``.hydra``. They are there all or none, also when this process is killed, so that
            a directory that was taken holds what it takes to continue.

    Raises:
        UserError: The path holds something already, or cannot be written.
    """
    check_free(run)
    _make(run.hydra, contents)


def for_sweep(sweep: RunDirectory, contents: Mapping[str, str]) -> None:
    """Takes the directory for the jobs of a sweep, by making ``.sweep``, as ``for_run`` does for a run."""
    check_free(sweep)
    _make(sweep.sweep, contents)


def for_job(run: RunDirectory, contents: Mapping[str, str]) -> None:
    """Takes a directory within that of a sweep for a job, unless that has been done before."""
    if not run.hydra.exists():
        _make(run.hydra, contents)


def _make(directory: Path, contents: Mapping[str, str]) -> None:
    """Makes a directory with files in it, at once."""
    path = directory.parent
    try:
        path.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path, prefix=f"{directory.name}.", suffix=".tmp"))
        try:
            for name, text in contents.items():
                atomic.write(temporary / name, text.encode())
            temporary.chmod(0o755)  # mkdtemp makes it readable by its owner alone
            os.rename(temporary, directory)  # fails if somebody else has made it
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        atomic.sync_directory(path)
    except OSError as error:
        if directory.exists():
            raise UserError(f"{path} was taken by another run just now; start again") from error
        raise UserError(f"cannot write the directory {path}: {error.strerror}") from error


def typeable(name: str) -> str:
    """Makes a directory's name that can be typed and passed back to Hydra, and that the file system takes.

    Whatever is replaced or cut leaves a hash behind, so that different names stay different.
    """
    result = re.sub(r"[^\w.+-]", "_", name)[:150]
    return result if result == name else f"{result}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
