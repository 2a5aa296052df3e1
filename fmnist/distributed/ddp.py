"""How several processes agree on a step: Lightning's DDP strategy, with fewer messages."""

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, distributed
from torch.distributed import GradBucket  # type: ignore[attr-defined]
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel


class Ddp(DDPStrategy):
    """Has two processes on one machine's processor wait for each other once in each step, not three times.

    Training makes no use of buffers, which are batch norm's averages and constants: the classifier makes them the same
    before each validation.

    Args:
        find_unused_parameters: Whether a network may leave some of its parameters out of a step.
    """

    def __init__(self, *, find_unused_parameters: bool = False) -> None:
        super().__init__(
            forward_sync_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=find_unused_parameters
        )

    def configure_ddp(self) -> None:
        super().configure_ddp()
        assert isinstance(self.model, DistributedDataParallel)
        if self.root_device.type == "cpu" and self.world_size == 2:
            self.model.register_comm_hook(None, mean_of_two)


def leave_signals_alone(trainer: Trainer) -> None:
    """Has Lightning disregard SIGTERM, which is the business of ``fmnist.runs.signals``; members end with process 0.

    Else it would end a job that Slurm has warned, and will queue again only if it lives on; and several processes would
    ask each other before each step whether one of them has received it.
    """
    # Not public, and there is no public way.
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]


def mean_of_two(_state: None, bucket: GradBucket) -> Future[Tensor]:
    """The mean of two processes' gradients: they tell each other theirs.

    The all_reduce of gloo sends four messages, one after the other, and each wakes a processor core that has gone to
    sleep: 1.8 ms of two cores, where this takes 0.5 ms.
    """
    gradients = [torch.empty_like(bucket.buffer()) for _ in range(2)]
    told = distributed.all_gather(gradients, bucket.buffer(), async_op=True).get_future()

    def mean(done: Future[Tensor]) -> Tensor:
        done.value()  # raises if the other process has not answered
        return torch.add(*gradients).div_(2)

    result: Future[Tensor] = told.then(mean)
    return result
