"""DistributedDataParallel that synchronises buffers once per validation instead of once per step."""

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import distributed


class DDP(DDPStrategy):
    """Lightning's strategy without its broadcast of buffers in each step; ``SyncBuffers`` does it before validation.

    Buffers are constants and the running averages of batch normalisation, which training does not read.

    Args:
        find_unused_parameters: Whether a step may leave out some of the network's parameters.
    """

    def __init__(self, *, find_unused_parameters: bool = False) -> None:
        super().__init__(
            forward_sync_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=find_unused_parameters
        )


class SyncBuffers(Callback):
    """Gives all processes the buffers of rank 0 before each validation.

    Must come after callbacks that swap weights for validation, such as EMA.
    """

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.world_size > 1:
            for buffer in pl_module.buffers():
                distributed.broadcast(buffer, src=0)
