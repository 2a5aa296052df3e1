"""The run directory: the name of every file in it, and what it means that it is there."""

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from fmnist import atomic
from fmnist.errors import UserError


class RunDirectory:
    """One directory for one run; nobody else writes into it.

    Args:
        path: The directory, which need not exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.hydra = self.path / ".hydra"  # what Hydra composed; made by claim
        self.checkpoints = self.path / "checkpoints"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.tensorboard = self.path / "tensorboard"
        self.export = self.path / "export"  # what fmnist.export writes
        self.predictions = self.path / "predictions"  # what fmnist.predict draws
        self.metrics = self.path / "metrics.json"  # written last: its presence means 'finished'

    def evaluation(self, checkpoint: str, split: str) -> Path:
        """Directory of what ``fmnist.evaluate`` finds out about a checkpoint on a split."""
        return self.path / "evaluation" / f"{checkpoint}-{split}"

    @property
    def finished(self) -> bool:
        return self.metrics.is_file()

    def check_free(self) -> None:
        """Makes sure that a run may start here.

        Raises:
            UserError: The path holds something already.
        """
        try:
            within = next((parent for parent in self.path.resolve().parents if (parent / ".hydra").is_dir()), None)
            free = not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))
        except OSError as error:
            raise UserError(f"cannot use the directory {self.path}: {error.strerror}") from error
        if within:
            raise UserError(f"{self.path} lies within another run, {within}; name a directory outside of it")
        if free:
            return
        if not self.path.is_dir():
            raise UserError(f"{self.path} is a file; a run or a sweep needs a directory")
        if self.finished:
            content = "a finished run"
        elif self.hydra.exists():
            content = "a run that did not finish"
        elif (self.path / "multirun.yaml").exists():
            content = "a sweep"
        else:
            content = "files that are not a run's"
        raise UserError(
            f"{self.path} already holds {content}, and nothing in it was changed; "
            "choose another directory, or leave the option out to have one made"
        )

    def claim(self) -> None:
        """Takes the directory for a run. Of two processes that try at once, one succeeds.

        Raises:
            UserError: The path holds something already, or cannot be written.
        """
        self._claim(self.hydra.mkdir)

    def claim_for_sweep(self) -> None:
        """Takes the directory for the jobs of a sweep, as ``claim`` does for a run."""
        self._claim(lambda: (self.path / "multirun.yaml").touch(exist_ok=False))  # which Hydra fills

    def _claim(self, make_what_must_not_be_there: Callable[[], None]) -> None:
        self.check_free()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            make_what_must_not_be_there()  # atomic: this is the claim
        except FileExistsError as error:
            raise UserError(f"{self.path} was taken by another run just now; start again") from error
        except OSError as error:
            raise UserError(f"cannot write the directory {self.path}: {error.strerror}") from error

    def write_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Writes metrics.json whole or not at all, also after a power cut."""
        atomic.write_json(self.metrics, metrics)

    def read_metrics(self) -> dict[str, float | int]:
        """What ``write_metrics`` has written.

        Raises:
            UserError: It cannot be read.
        """
        try:
            metrics: dict[str, float | int] = dict(json.loads(self.metrics.read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"cannot read {self.metrics}: {' '.join(str(error).split())}") from error
        return metrics


def typeable(name: str) -> str:
    """Makes a directory's name that can be typed and passed back to Hydra, and that the file system takes.

    Whatever is replaced or cut leaves a hash behind, so that different names stay different.
    """
    result = re.sub(r"[^\w.+-]", "_", name)[:150]
    return result if result == name else f"{result}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
