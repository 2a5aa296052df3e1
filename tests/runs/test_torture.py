"""Runs survive whatever befalls them. ``make torture`` has more of it."""

import re

import pytest

from tests.conftest import run_command
from tests.torture import KINDS


@pytest.mark.real_data
@pytest.mark.parametrize("seed", [pytest.param(1), pytest.param(2, marks=pytest.mark.slow)])
def test_runs_that_something_befalls_end_as_if_nothing_had(seed: int) -> None:
    kills = len(KINDS) * (1 if seed == 1 else 5)
    outcome = run_command("-m", "tests.torture", f"kills={kills}", f"seed={seed}", timeout=580)
    assert outcome.code == 0, outcome.err[-3000:]
    assert re.search(rf"^{kills} of {kills} survived", outcome.out, re.MULTILINE), outcome.out
