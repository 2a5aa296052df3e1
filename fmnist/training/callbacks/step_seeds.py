"""Seeds torch's global generators before each training step, so that a resumed run draws the same numbers."""

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from fmnist.data.seeding import Stream, derive_seed


class StepSeeds(Callback):
    """Makes the random numbers of a step, such as those of dropout, a function of (seed, epoch, rank, batch).

    Lightning does not restore generators on resume. This is the only callback that affects the weights:
    ``build.trainer`` always adds it. It costs 1 us per step; ``torch.manual_seed``, which visits every kind of device,
    costs 100 us.

    Args:
        seed: The run's seed.
    """

    def __init__(self, *, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        epoch_seed = derive_seed(Stream.TRAINING, self.seed, trainer.current_epoch, trainer.global_rank)
        seed = (epoch_seed + batch_idx) % 2**64
        torch.default_generator.manual_seed(seed)
        if pl_module.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif pl_module.device.type == "mps":
            torch.mps.manual_seed(seed)
