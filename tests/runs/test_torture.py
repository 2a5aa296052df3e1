"""Runs survive faults. ``make torture`` injects more of them."""

import re

import pytest

from tests.helpers import run_command
from tests.torture import KINDS


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("seed", "kills", "variants"),
    [(1, 2, 1), pytest.param(2, 3 * len(KINDS), 11, marks=pytest.mark.slow(minutes=1))],
)
def test_interrupted_runs_end_like_undisturbed_ones(seed: int, kills: int, variants: int) -> None:
    code = "from tests import torture as t; t.VARIANTS = t.VARIANTS[:{}]; t.main(t.Options(kills={}, seed={}))"
    outcome = run_command("-c", code.format(variants, kills, seed), timeout=1200)
    assert outcome.code == 0, outcome.err[-3000:]
    assert re.search(rf"^{kills} of {kills} survived", outcome.out, re.MULTILINE), outcome.out
