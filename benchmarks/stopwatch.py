"""Times a run from within: a callback that is added to the real ``train.py`` on the command line."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Stopwatch(Callback):
    """Writes down the moments of a run, in seconds of ``time.time``.

    ``first_step``, ``trained`` (checkpoints and figures included), and, if there is a test, ``test_start`` and
    ``tested`` (its batches alone).

    Args:
        path: JSON file to write them to.
    """

    def __init__(self, *, path: str) -> None:
        self.path = Path(path)
        self.moments: dict[str, float] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if not self.moments:
            self._note("first_step")

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note("trained")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note("test_start")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._note("tested")

    def _note(self, name: str) -> None:
        self.moments[name] = time.time()
        self.path.write_text(json.dumps(self.moments))
