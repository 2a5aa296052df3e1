"""Learning-rate schedules against curves written by hand."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from fmnist.training.scheduler import Constant, Cosine, Linear, OneCycle

STEPS = 100
Make = Callable[[Optimizer], LRScheduler]


def rates(make: Make, steps: int = STEPS) -> list[float]:
    """The learning rate at each of the steps, and after the last."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "weight_decay": decay} for decay in (0.1, 0.0)]
    optimizer = SGD(groups, lr=0.1, momentum=0.9)
    scheduler = make(optimizer)
    result = [optimizer.param_groups[0]["lr"]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        first, second = optimizer.param_groups
        assert first["lr"] == second["lr"]
        assert first["momentum"] == 0.9
        result.append(first["lr"])
    return result


def test_constant_stays() -> None:
    assert rates(lambda o: Constant(o, total_steps=STEPS)) == [0.1] * (STEPS + 1)


def test_cosine_goes_down_half_a_cosine() -> None:
    curve = [0.02 + 0.08 * (1 + math.cos(math.pi * step / STEPS)) / 2 for step in range(STEPS + 1)]
    assert rates(lambda o: Cosine(o, total_steps=STEPS, final_lr=0.02)) == pytest.approx(curve)
    assert rates(lambda o: Cosine(o, total_steps=STEPS))[-1] == pytest.approx(0)


FRACTIONS = st.floats(0, 1)
WARMUPS = st.floats(0, 1, exclude_min=True, exclude_max=True)


@given(steps=st.integers(1, 2 * STEPS), warmup=WARMUPS | st.integers(2, 2 * STEPS).map(lambda number: 1 / number))
@example(steps=1, warmup=0.3)
@example(steps=10, warmup=0.1)  # a warmup of one step
@example(steps=1000, warmup=0.001)
def test_onecycle_goes_half_a_cosine_up_and_half_a_cosine_down_whatever_its_warmup(steps: int, warmup: float) -> None:
    peak, last = warmup * steps - 1, steps - 1  # torch counts from 1; a warmup of less than a step is none

    def rate(step: int) -> float:
        if step < peak:
            return 0.01 + (0.1 - 0.01) * (1 - math.cos(math.pi * step / peak)) / 2
        return 0.001 + (0.1 - 0.001) * (1 + math.cos(math.pi * (step - peak) / (last - peak))) / 2

    found = rates(lambda o: OneCycle(o, total_steps=steps, warmup=warmup, start_factor=0.1, end_factor=0.01), steps)
    assert found[:steps] == pytest.approx([rate(step) for step in range(steps)])
    assert 0 < found[steps] <= 0.1  # after the last step


def test_onecycle_has_the_defaults_of_torch_and_may_be_flat() -> None:
    torchs = rates(lambda o: OneCycleLR(o, max_lr=0.1, total_steps=STEPS + 1, cycle_momentum=False))
    assert rates(lambda o: OneCycle(o, total_steps=STEPS + 1)) == pytest.approx(torchs)
    flat = rates(lambda o: OneCycle(o, total_steps=STEPS, start_factor=1.0, end_factor=1.0))
    assert flat == pytest.approx([0.1] * (STEPS + 1))


@given(warmup=st.integers(0, STEPS - 1), start_factor=FRACTIONS, end_factor=FRACTIONS)
def test_linear_goes_straight_up_and_straight_down(warmup: int, start_factor: float, end_factor: float) -> None:
    curve = 0.1 * np.interp(range(STEPS + 1), [warmup, STEPS], [1, end_factor])
    curve[:warmup] = 0.1 * np.interp(range(warmup), [0, warmup], [start_factor, 1])
    factors = {"start_factor": start_factor, "end_factor": end_factor}
    found = rates(lambda o: Linear(o, total_steps=STEPS, warmup=warmup / STEPS, **factors))
    assert found == pytest.approx(curve.tolist())
    assert max(found) == found[warmup] == 0.1


def test_linear_peaks_before_the_end_and_stays_at_the_end() -> None:
    default = rates(lambda o: Linear(o, total_steps=STEPS))
    up = rates(lambda o: Linear(o, total_steps=STEPS, warmup=0.999))
    down = rates(lambda o: Linear(o, total_steps=STEPS - 1, warmup=0.0, end_factor=0.25))
    assert [default[step] for step in (0, 20, 60, 100)] == pytest.approx([0.02, 0.1, 0.05, 0.0])
    assert up[-2:] == [0.1, 0.0]
    assert down[-2:] == pytest.approx([0.025, 0.025])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: Cosine(o, total_steps=STEPS, final_lr=-1.0), "final_lr must be at least 0, got -1.0"),
        (lambda o: OneCycle(o, total_steps=STEPS, warmup=0.0), "warmup must be above 0 and below 1, got 0.0"),
        (lambda o: OneCycle(o, total_steps=STEPS, warmup=1.0), "warmup must be above 0 and below 1, got 1.0"),
        (lambda o: OneCycle(o, total_steps=STEPS, start_factor=0.0), "start_factor must be above 0 and at most 1"),
        (lambda o: OneCycle(o, total_steps=STEPS, end_factor=2.0), "end_factor must be above 0 and at most 1"),
        (lambda o: Linear(o, total_steps=STEPS, warmup=-0.1), "warmup must be at least 0 and below 1, got -0.1"),
        (lambda o: Linear(o, total_steps=STEPS, warmup=1.0), "warmup must be at least 0 and below 1, got 1.0"),
        (lambda o: Linear(o, total_steps=STEPS, start_factor=1.1), "start_factor must be from 0 to 1, got 1.1"),
        (lambda o: Linear(o, total_steps=STEPS, start_factor=-0.1), "start_factor must be from 0 to 1, got -0.1"),
        (lambda o: Linear(o, total_steps=STEPS, end_factor=math.nan), "end_factor must be from 0 to 1, got nan"),
        *((partial(kind, total_steps=math.inf), "must be finite: set trainer") for kind in (Cosine, Linear, OneCycle)),
    ],
)
def test_argument_out_of_range_is_named(make: Make, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rates(make)
