"""Times a run from within: a callback that is added to the real ``train.py`` on the command line."""

import json
import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Stopwatch(Callback):
    """Writes down when the first training step began and when training had ended, checkpoints and figures included.

    Args:
        path: JSON file with ``first_step`` and ``end`` in seconds since the epoch of ``time.time``.
    """

    def __init__(self, *, path: str) -> None:
        self.path = Path(path)
        self.first_step = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.first_step = self.first_step or time.time()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.path.write_text(json.dumps({"first_step": self.first_step, "end": time.time()}))
