"""The run directory: the name of every file in it, and what it means that it is there."""

import json
import os
from collections.abc import Mapping
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
        self.metrics = self.path / "metrics.json"  # written last: its presence means 'finished'

    @property
    def finished(self) -> bool:
        return self.metrics.is_file()

    def check_free(self) -> None:
        """Makes sure that a run may start here.

        Raises:
            UserError: The path holds something already.
        """
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"run directory {self.path} is a file; name a directory with hydra.run.dir=<directory>")
        if not self.path.is_dir() or not any(self.path.iterdir()):
            return
        if self.finished:
            content = "a finished run"
        elif self.hydra.exists():
            content = "a run that did not finish"
        else:
            content = "files that are not a run's"
        raise UserError(
            f"{self.path} already holds {content}, and nothing in it was changed; "
            "choose another directory, or leave hydra.run.dir out to have one made"
        )

    def claim(self) -> None:
        """Takes the directory for a run. Of two processes that try at once, one succeeds.

        Raises:
            UserError: The path holds something already, or cannot be written.
        """
        self.check_free()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.hydra.mkdir()  # mkdir is atomic: this is the claim
        except FileExistsError as error:
            raise UserError(f"{self.path} was taken by another run just now; start again") from error
        except OSError as error:
            raise UserError(f"cannot write the run directory {self.path}: {error.strerror}") from error

    def write_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Writes metrics.json whole or not at all, also after a power cut."""
        atomic.write(self.metrics, (json.dumps(metrics, indent=2) + "\n").encode())

    def read_metrics(self) -> dict[str, float | int]:
        metrics: dict[str, float | int] = json.loads(self.metrics.read_text())
        return metrics
