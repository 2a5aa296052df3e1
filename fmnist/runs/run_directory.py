"""The run directory: the path of every file in it, its lock, and its JSON files."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fmnist.config.errors import UserError, one_line
from fmnist.config.paths import TRAIN_COMMAND
from fmnist.runs import atomic


def locate(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """The run directory that a path lies in, and the checkpoint, ``best`` or ``last``, if the path is one.

    A path that does not lie in a run is returned as it is.
    """
    path = Path(path)
    if not path.exists():
        return path, None
    parents = (path, *path.parents, *path.absolute().parents)  # a relative path stays relative where it can
    run = RunDirectory(next((parent for parent in parents if (parent / ".hydra").is_dir()), path))
    named = {run.best_checkpoint.absolute(): "best", run.last_checkpoint.absolute(): "last"}
    return run.path, named.get(path.absolute())


class RunDirectory:
    """The directory of one run, or of one sweep.

    Args:
        path: The directory, which need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.hydra = self.path / ".hydra"  # the composed configuration; create.py writes it, and it never changes
        self.sweep = self.path / ".sweep"  # overrides of a sweep; only in the directory of a sweep
        self.manifest = self.path / "manifest.json"  # commit, versions, machine, sessions: see fmnist.runs.manifest
        self.checkpoints = self.path / "checkpoints"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.export = self.path / "export"  # written by fmnist.export
        self.predictions = self.path / "predictions"  # written by fmnist.predict
        self.metrics = self.path / "metrics.json"  # written last: the run is finished if it exists

    @property
    def shown(self) -> Path:
        """The path, relative to the working directory if it lies below."""
        cwd = Path.cwd()  # the run directory itself with hydra.job.chdir=true
        return self.path.relative_to(cwd) if self.path.is_relative_to(cwd) and self.path != cwd else self.path

    @property
    def resume_command(self) -> str:
        """Shell command that resumes the run."""
        return f"{TRAIN_COMMAND} {self.override('resume')}"

    def override(self, key: str) -> str:
        """The path as the value of an override, quoted for a shell."""
        path = str(self.shown)
        needs_quotes = not re.fullmatch(r"[\w./+-]+", path)
        return shlex.quote(f'{key}="{path}"') if needs_quotes else f"{key}={path}"

    def evaluation(self, checkpoint: str, split: str, tta: str = "none") -> Path:
        """Directory for the results of ``fmnist.evaluate``."""
        suffix = "" if tta == "none" else f"-{tta}"
        return self.path / "evaluation" / f"{checkpoint}-{split}{suffix}"

    @property
    def finished(self) -> bool:
        return self.metrics.is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Locks the directory for this process. The system releases the lock when the process ends, even if killed.

        Raises:
            UserError: Another process holds the lock, or the directory cannot be written.
        """
        lock = self._lock()
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(f"{self.path} is being written by another process; wait until it ends") from error
        except OSError as error:
            raise UserError(f"cannot write the directory {self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    @property
    def running(self) -> bool:
        """Whether a process holds the lock now."""
        if not (self.path / ".lock").exists():
            return False
        try:
            self._lock().acquire()  # released when the object goes, at once
        except (Timeout, OSError):
            return True
        return False

    def _lock(self) -> FileLock:
        return FileLock(self.path / ".lock", timeout=0)

    def remove_leftovers(self) -> None:
        """Deletes the temporary files of killed processes. Safe while locked."""
        for leftover in [*atomic.temporary_files(self.path), *atomic.temporary_files(self.checkpoints)]:
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()

    def read_configuration(self) -> DictConfig:
        """The configuration that Hydra composed when the run was created.

        Raises:
            UserError: The directory holds no run, or the file is damaged.
        """
        path = self.hydra / "config.yaml"
        if not self.path.is_dir():
            raise UserError(f"no directory {self.path}; runs are under runs/train and runs/sweeps")
        if not path.is_file():
            raise UserError(f"{self.path} is not a run directory: it has no .hydra/config.yaml")
        try:
            config = OmegaConf.load(path)
        except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
            raise UserError(f"cannot read {path}: {one_line(error)}") from error
        if not isinstance(config, DictConfig):
            raise UserError(f"cannot read {path}: it holds no configuration")
        return config

    def write_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Writes metrics.json atomically."""
        atomic.write_json(self.metrics, metrics)

    def read_metrics(self) -> dict[str, float | int]:
        """Reads metrics.json.

        Raises:
            UserError: The file cannot be read.
        """
        return _read_json(self.metrics)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        atomic.write_json(self.manifest, manifest)

    def read_manifest(self) -> dict[str, Any] | None:
        """Reads manifest.json; None if it does not exist.

        Raises:
            UserError: The file cannot be read.
        """
        return _read_json(self.manifest) if self.manifest.exists() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {path}: {one_line(error)}") from error
    return values
