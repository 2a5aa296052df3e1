"""The run directory: the name of every file in it, and what it means that it is there."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from fmnist.config.errors import UserError
from fmnist.runs import atomic

# Keys of the configuration that came after the first runs, and what runs do that know nothing of them.
LATER: dict[str, Any] = {"max_jobs": 1000, "resume": None, "trust": [], "label_smoothing": 0.0, "ensemble": 1}
# The same of the arguments of a class, where a key names it.
LATER_ARGUMENTS: dict[tuple[str, str], dict[str, Any]] = {
    ("model", "fmnist.networks.residual.ResidualCNN"): {"fixed_stem": False, "activation": "gelu"},
}


def add_later(config: MutableMapping[Any, Any]) -> None:
    """Gives a configuration that was read what came later, so that it can be compared with one of today."""
    for key, value in LATER.items():
        config.setdefault(key, value)
    for (key, target), arguments in LATER_ARGUMENTS.items():
        node = config.get(key)
        if isinstance(node, MutableMapping) and node.get("_target_") == target:
            for name, value in arguments.items():
                node.setdefault(name, value)


class RunDirectory:
    """One directory for one run; nobody else writes into it.

    Args:
        path: The directory, which need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.hydra = self.path / ".hydra"  # what Hydra composed; made by claim, and never changed
        self.sweep = self.path / ".sweep"  # what the jobs of a sweep are made of, in the directory of all its jobs
        self.manifest = self.path / "manifest.json"  # see fmnist.runs.manifest
        self.checkpoints = self.path / "checkpoints"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.tensorboard = self.path / "tensorboard"
        self.export = self.path / "export"  # what fmnist.export writes
        self.predictions = self.path / "predictions"  # what fmnist.predict draws
        self.metrics = self.path / "metrics.json"  # written last: its presence means 'finished'

    @property
    def shown(self) -> Path:
        """The path as one would type it here."""
        return self.path.relative_to(Path.cwd()) if self.path.is_relative_to(Path.cwd()) else self.path

    @property
    def resume_command(self) -> str:
        """What continues the run, to be typed into a shell."""
        return f"python train.py {self.override('resume')}"

    def override(self, key: str) -> str:
        """The path as the value of an override, to be typed into a shell."""
        path = str(self.shown)
        typeable = re.fullmatch(r"[\w./+-]+", path)
        return f"{key}={path}" if typeable else shlex.quote(f'{key}="{path}"')

    def evaluation(self, checkpoint: str, split: str, tta: str = "none") -> Path:
        """Directory of what ``fmnist.evaluate`` finds out about a checkpoint on a split."""
        variants = "" if tta == "none" else f"-{tta}"
        return self.path / "evaluation" / f"{checkpoint}-{split}{variants}"

    @property
    def finished(self) -> bool:
        return self.metrics.is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps every other process from running here; the system ends it with the process, however that ends.

        Raises:
            UserError: Another process runs here, or the directory cannot be written.
        """
        lock = self._lock()
        try:
            lock.acquire()
        except Timeout as error:
            raise UserError(f"{self.path} is being written by another process; wait until it has ended") from error
        except OSError as error:
            raise UserError(f"cannot write the directory {self.path}: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    @property
    def running(self) -> bool:
        """Whether a process runs here now."""
        if not (self.path / ".lock").exists():
            return False
        try:
            self._lock().acquire()  # and released at once, with the object
        except (Timeout, OSError):
            return True
        return False

    def _lock(self) -> FileLock:
        return FileLock(self.path / ".lock", timeout=0)

    def remove_leftovers(self) -> None:
        """Deletes what killed processes left behind. Safe while locked."""
        for leftover in [*atomic.temporary_files(self.path), *atomic.temporary_files(self.checkpoints)]:
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()

    def read_configuration(self) -> DictConfig:
        """What Hydra composed, with the keys that came later.

        Raises:
            UserError: There is no run, or the file is damaged.
        """
        path = self.hydra / "config.yaml"
        if not self.path.is_dir():
            raise UserError(f"no directory {self.path}; runs are under runs/train and runs/sweeps")
        if not path.is_file():
            raise UserError(f"{self.path} is no run directory: it has no .hydra/config.yaml")
        try:
            config = OmegaConf.load(path)
            if isinstance(config, DictConfig):
                add_later(config)
        except (YAMLError, OmegaConfBaseException, UnicodeDecodeError, OSError) as error:
            raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error
        if not isinstance(config, DictConfig):
            raise UserError(f"cannot read {path}: it holds no configuration")
        return config

    def write_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Writes metrics.json whole or not at all, also after a power cut."""
        atomic.write_json(self.metrics, metrics)

    def read_metrics(self) -> dict[str, float | int]:
        """What ``write_metrics`` has written.

        Raises:
            UserError: It cannot be read.
        """
        return _read_json(self.metrics)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        atomic.write_json(self.manifest, manifest)

    def read_manifest(self) -> dict[str, Any] | None:
        """What ``write_manifest`` has written; None if there is nothing.

        Raises:
            UserError: It cannot be read.
        """
        return _read_json(self.manifest) if self.manifest.exists() else None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    return values
