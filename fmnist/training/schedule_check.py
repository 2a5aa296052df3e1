"""Checks that a run may be resumed with more epochs."""

from fmnist.config.errors import UserError
from fmnist.training.classifier import Classifier


def check_more_epochs(module: Classifier, planned: int, wanted: int) -> None:
    """Checks that the learning rates so far do not depend on the number of epochs.

    Args:
        module: Its parameters do not change.
        planned: Number of epochs so far.
        wanted: Larger number of epochs.

    Raises:
        UserError: The learning-rate schedule would differ.
    """
    before, after = (_rates(module, total_steps=10 * epochs) for epochs in (planned, wanted))  # ten steps show it
    if before != after[: len(before)]:
        raise UserError(
            f"the scheduler was planned for {planned} epochs: with trainer.max_epochs={wanted}, the learning-rate "
            "schedule would differ; start a new run"
        )


def _rates(module: Classifier, *, total_steps: int) -> list[float]:
    """The learning rate of each step."""
    optimizer = module.make_optimizer()
    scheduler = module.scheduler(optimizer, total_steps=total_steps)
    rates = []
    for _ in range(total_steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()  # does nothing without gradients; torch warns if it is left out
        if len(rates) < total_steps:
            scheduler.step()
    return rates
