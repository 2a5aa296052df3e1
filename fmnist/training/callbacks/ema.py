"""A moving average of the weights, which is what is validated, tested and kept."""

from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class EMA(WeightAveraging):
    """Averages the weights, and the statistics of batch normalisation, exponentially over the optimizer steps.

    Validation and test see the averages, and they are a checkpoint's ``state_dict``. The weights that are trained, from
    which a run goes on, stand beside them there.

    Lightning's own EMAWeightAveraging would test the weights that are trained. It also lets buffers that never change
    drift by rounding, such as the mean of the pixels.

    Args:
        decay: Share of the average that each step keeps, above 0 and below 1: the average is over about the last
            1 / (1 - decay) steps. It starts with the weights after the first step, and is of little use before it has
            seen several times as many.

    Raises:
        ValueError: The argument is out of range.
    """

    def __init__(self, *, decay: float = 0.99) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"decay must be above 0 and below 1, got {decay}")
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # A run that is resumed after its last epoch trains nothing, and ends no training.
        self.on_train_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        # Lightning would put the weights that are trained in the place of the averages for a test, too.
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
