"""Creates run and sweep directories atomically: of two processes that want one directory, one gets it."""

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


def ensure_unused(run: RunDirectory) -> None:
    """Checks that a run or a sweep may start in a directory.

    Raises:
        UserError: The path already holds something, or lies within another run.
    """
    path = run.path
    try:
        outer = next((parent for parent in path.resolve().parents if (parent / ".hydra").is_dir()), None)
        # A process that was killed in create_run_directory leaves only temporary files.
        unused = not path.exists() or (path.is_dir() and set(path.iterdir()) <= set(atomic.temporary_files(path)))
    except OSError as error:
        raise UserError(f"cannot use the directory {path}: {error.strerror}") from error
    if outer:
        raise UserError(f"{path} lies within another run, {outer}; choose a directory outside of it")
    if unused:
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
        content = "other files"
    raise UserError(
        f"{path} already holds {content}, and nothing in it was changed; "
        "choose another directory, or omit the option to create a new one"
    )


def create_run_directory(run: RunDirectory, contents: Mapping[str, str]) -> None:
    """Creates the directory of a run together with ``.hydra``.

    Args:
        run: The directory, which need not exist.
        contents: Text of each file in ``.hydra``. All files appear at once, also if this process is killed, so that
            every run directory holds what resuming needs.

    Raises:
        UserError: The directory is in use, or cannot be written.
    """
    ensure_unused(run)
    _create(run.hydra, contents)


def create_sweep_directory(sweep: RunDirectory, contents: Mapping[str, str]) -> None:
    """Creates the directory of a sweep together with ``.sweep``, as ``create_run_directory`` does for a run."""
    ensure_unused(sweep)
    _create(sweep.sweep, contents)


def create_job_directory(run: RunDirectory, contents: Mapping[str, str]) -> None:
    """Creates the directory of a job within its sweep, unless an earlier start of the sweep did."""
    if not run.hydra.exists():
        _create(run.hydra, contents)


def _create(directory: Path, contents: Mapping[str, str]) -> None:
    """Creates a directory with files in it, by renaming a complete temporary one."""
    parent = directory.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=parent, prefix=f"{directory.name}.", suffix=".tmp"))
        try:
            for name, text in contents.items():
                atomic.write(temporary / name, text.encode())
            temporary.chmod(0o755)  # mkdtemp creates it readable by its owner only
            os.rename(temporary, directory)  # fails if another process was faster
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        atomic.sync_directory(parent)
    except OSError as error:
        if directory.exists():
            raise UserError(f"another run has just taken {parent}; start again") from error
        raise UserError(f"cannot write the directory {parent}: {error.strerror}") from error


def suffix(name: str | float | None) -> str:
    """The end of a directory's name: the user's ``name`` for the run, if there is one."""
    return "" if name in (None, "") else f"-{directory_name(str(name))}"


def directory_name(text: str) -> str:
    """Turns the overrides of a job into a directory name that needs no quoting in a shell or in Hydra's grammar.

    A replaced or shortened name ends with a hash, so that different texts give different names.
    """
    name = re.sub(r"[^\w.+-]", "_", text)[:150]
    return name if name == text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
