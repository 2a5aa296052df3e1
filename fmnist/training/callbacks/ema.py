"""Exponential moving average of the weights, used for validation, test and checkpoints."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA(WeightAveraging):
    """Averages weights and batch-norm statistics exponentially over the optimizer steps.

    Validation and test use the averages; a checkpoint's ``state_dict`` holds them, next to the trained weights from
    which a run resumes. Lightning's own EMAWeightAveraging would test the trained weights, and lets constant buffers,
    such as the mean of the pixels, drift by rounding.

    Args:
        decay: Share of the average that each step keeps, above 0 and below 1: the average covers about the last
            1 / (1 - decay) steps. It starts from the weights after the first step and needs several times as many
            steps to be useful.

    Raises:
        ValueError: The argument is out of range.
    """

    def __init__(self, *, decay: float = 0.99) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be above 0 and below 1, got {decay}")
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that is resumed after its last epoch trains nothing, so Lightning does not call on_train_end.
        self.on_train_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # For a test, Lightning would replace the averages by the trained weights as well.
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
