"""The benchmark works, and its peers do the work that they are compared by. It is no test of speed."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks.peer import Settings
from tests.conftest import run_command

pytestmark = pytest.mark.real_data

TINY = Settings(epochs=1, images=300, batch_size=100, threads=1)


@pytest.mark.parametrize("module", ["floor", "notebook", "usual"])
def test_every_peer_takes_one_step_for_each_batch_of_the_lessons_network(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    cross_entropy = F.cross_entropy

    def noting_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            assert logits.shape == (len(targets), 10)
            sizes.append(len(targets))
        return cross_entropy(logits, targets)

    monkeypatch.setattr(F, "cross_entropy", noting_cross_entropy)
    steps: list[int] = []
    step = torch.optim.Adam.step

    def noting_step(self: torch.optim.Adam, closure: Any = None) -> Any:
        steps.append(1)
        return step(self, closure)

    monkeypatch.setattr(torch.optim.Adam, "step", noting_step)
    peer = __import__(f"benchmarks.{module}", fromlist=["epochs"])
    with pytest.warns() if module == "usual" else contextlib.nullcontext():  # its defaults give advice
        seconds = peer.epochs(TINY)
    assert sizes == [100] * 3
    assert len(steps) == 3
    assert len(seconds) == 1


@pytest.mark.slow
def test_the_benchmark_runs_in_a_tiny_size(tmp_path: Path) -> None:
    arguments = ["--rounds=1", "--epochs=1", "--images=4000", f"--output={tmp_path}"]
    outcome = run_command("-m", "benchmarks.bench", *arguments, timeout=600)
    assert outcome.code == 0, outcome.err
    (path,) = tmp_path.glob("bench-*.json")
    result = json.loads(path.read_text())
    assert torch.__version__.startswith(result["machine"]["torch"])
    for figure in ("this project / floor", "notebook / this project", "usual Lightning project / this project"):
        assert len(result["ratios"][figure]) == 1
        assert result["ratios"][figure][0] > 0
        assert re.search(rf"^\| {figure} \|", outcome.out, re.MULTILINE)
