"""Who may have a directory: a run or a sweep takes one that holds nothing, and nobody else gets it."""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from fmnist import atomic
from fmnist.errors import UserError
from fmnist.run_directory import RunDirectory


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
    elif (path / "multirun.yaml").exists():
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

    def make() -> None:
        temporary = Path(tempfile.mkdtemp(dir=run.path, prefix=".hydra.", suffix=".tmp"))
        try:
            for name, text in contents.items():
                atomic.write(temporary / name, text.encode())
            temporary.chmod(0o755)  # mkdtemp makes it readable by its owner alone
            os.rename(temporary, run.hydra)  # fails if somebody else has made it
        except OSError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            if run.hydra.exists():
                raise FileExistsError from error
            raise
        atomic.sync_directory(run.path)

    _claim(run, make)


def for_sweep(sweep: RunDirectory) -> None:
    """Takes the directory for the jobs of a sweep, as ``for_run`` does for a run."""
    _claim(sweep, lambda: (sweep.path / "multirun.yaml").touch(exist_ok=False))  # which Hydra fills


def _claim(run: RunDirectory, make_what_must_not_be_there: Callable[[], None]) -> None:
    check_free(run)
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        make_what_must_not_be_there()  # atomic: this is the claim
    except FileExistsError as error:
        raise UserError(f"{run.path} was taken by another run just now; start again") from error
    except OSError as error:
        raise UserError(f"cannot write the directory {run.path}: {error.strerror}") from error


def typeable(name: str) -> str:
    """Makes a directory's name that can be typed and passed back to Hydra, and that the file system takes.

    Whatever is replaced or cut leaves a hash behind, so that different names stay different.
    """
    result = re.sub(r"[^\w.+-]", "_", name)[:150]
    return result if result == name else f"{result}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
