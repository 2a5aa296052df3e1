"""Learning-rate schedules with one signature.

The learning rate of ``optimizer`` is the peak; ``total_steps`` is the number of optimizer steps of the run.
"""

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR


class Constant(LRScheduler):
    """Keeps the learning rate constant."""

    def __init__(self, optimizer: Optimizer, *, total_steps: float) -> None:
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        return [group["lr"] for group in self.optimizer.param_groups]


class Cosine(CosineAnnealingLR):
    """Half a cosine from the optimizer's learning rate to ``final_lr`` (https://arxiv.org/abs/1608.03983).

    Args:
        final_lr: Learning rate at the end, at least 0.
    """

    def __init__(self, optimizer: Optimizer, *, total_steps: float, final_lr: float = 0.0) -> None:
        if not final_lr >= 0:
            raise ValueError(f"final_lr must be at least 0, got {final_lr}")
        super().__init__(optimizer, T_max=_end(total_steps), eta_min=final_lr)


class OneCycle(OneCycleLR):
    """Up to the optimizer's learning rate and down again (https://arxiv.org/abs/1708.07120).

    Unlike torch's default, the momentum stays constant.

    Args:
        warmup: Fraction of the steps that go up, above 0 and below 1. The last of them is at the peak.
        start_factor: First learning rate as a fraction of the peak, above 0 and at most 1.
        end_factor: Last learning rate as a fraction of the peak, above 0 and at most 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: float,
        warmup: float = 0.3,
        start_factor: float = 0.04,
        end_factor: float = 4e-6,
    ) -> None:
        if not 0 < warmup < 1:
            raise ValueError(f"warmup must be above 0 and below 1, got {warmup}")
        for name, factor in (("start_factor", start_factor), ("end_factor", end_factor)):
            if not 0 < factor <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, got {factor}")
        steps = _end(total_steps)
        if warmup * steps == 1:  # the first step is the peak: torch would divide by zero
            warmup *= 1 - 1e-9
        super().__init__(
            optimizer,
            max_lr=[group["lr"] for group in optimizer.param_groups],
            total_steps=steps,
            pct_start=warmup,
            div_factor=1 / start_factor,
            final_div_factor=start_factor / end_factor,  # torch divides the first rate, not the peak
            cycle_momentum=False,
        )


class Linear(LambdaLR):
    """Straight up to the optimizer's learning rate and straight down again.

    Args:
        warmup: Fraction of the steps that go up, at least 0 and below 1.
        start_factor: First learning rate as a fraction of the peak, from 0 to 1.
        end_factor: Learning rate after the last step as a fraction of the peak, from 0 to 1.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        *,
        total_steps: float,
        warmup: float = 0.2,
        start_factor: float = 0.2,
        end_factor: float = 0.0,
    ) -> None:
        if not 0 <= warmup < 1:
            raise ValueError(f"warmup must be at least 0 and below 1, got {warmup}")
        for name, factor in (("start_factor", start_factor), ("end_factor", end_factor)):
            if not 0 <= factor <= 1:
                raise ValueError(f"{name} must be from 0 to 1, got {factor}")
        end = _end(total_steps)
        peak = min(round(warmup * end), end - 1)

        def factor_at(step: int) -> float:
            if step < peak:
                return start_factor + (1 - start_factor) * step / peak
            return 1 + (end_factor - 1) * min((step - peak) / (end - peak), 1)

        super().__init__(optimizer, factor_at)


def _end(total_steps: float) -> int:
    if total_steps == float("inf"):
        raise ValueError("total_steps must be finite: set trainer.max_epochs or trainer.max_steps")
    return int(total_steps)
