"""Learning rate schedules against curves written by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from fmnist.scheduler import Constant, Cosine, OneCycle

STEPS = 100


def rates(make: Callable[[Optimizer], LRScheduler]) -> list[float]:
    """The learning rate at each of the steps, and after the last."""
    optimizer = SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    result = []
    for _ in range(STEPS):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["momentum"] == 0.9  # no schedule touches it
    return [*result, optimizer.param_groups[0]["lr"]]


def test_constant_stays() -> None:
    assert rates(lambda optimizer: Constant(optimizer, total_steps=STEPS)) == [0.1] * (STEPS + 1)


def test_cosine_goes_down_half_a_cosine() -> None:
    curve = [0.02 + 0.08 * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS + 1)]
    assert rates(lambda o: Cosine(o, total_steps=STEPS, final_lr=0.02)) == pytest.approx(curve)


def test_onecycle_goes_up_to_the_optimizers_rate_and_down_to_the_end() -> None:
    curve = rates(lambda o: OneCycle(o, total_steps=STEPS, warmup=0.3, start_factor=0.1, end_factor=0.01))
    peak = curve.index(max(curve))
    assert curve[0] == pytest.approx(0.01)
    assert curve[peak] == pytest.approx(0.1)
    assert peak == 29  # torch counts 0.3 * 100 steps from 1
    assert curve[STEPS - 1] == pytest.approx(0.001)
    assert curve[: peak + 1] == sorted(curve[: peak + 1])
    assert curve[peak:STEPS] == sorted(curve[peak:STEPS], reverse=True)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: Cosine(o, total_steps=STEPS, final_lr=-1.0), "final_lr must be at least 0, got -1.0"),
        (lambda o: OneCycle(o, total_steps=STEPS, warmup=0.0), "warmup must be above 0 and below 1, got 0.0"),
        (lambda o: OneCycle(o, total_steps=STEPS, warmup=1.0), "warmup must be above 0 and below 1, got 1.0"),
        (lambda o: OneCycle(o, total_steps=STEPS, start_factor=0.0), "start_factor must be above 0 and at most 1"),
        (lambda o: OneCycle(o, total_steps=STEPS, end_factor=2.0), "end_factor must be above 0 and at most 1"),
    ],
)
def test_an_argument_out_of_range_is_named(make: Callable[[Optimizer], LRScheduler], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rates(make)


@pytest.mark.parametrize("schedule", [Cosine, OneCycle])
def test_a_schedule_with_an_end_refuses_a_run_without_one(schedule: Callable[..., LRScheduler]) -> None:
    with pytest.raises(ValueError, match=r"must be finite: set trainer\.max_epochs"):
        rates(lambda o: schedule(o, total_steps=math.inf))
