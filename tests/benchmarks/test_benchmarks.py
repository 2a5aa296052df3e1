"""The benchmark works, its peers do the same work, and the documents show its results. No test of speed."""

import contextlib
import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks import bench, process, report
from benchmarks.peer import Settings
from tests.helpers import run_command

TINY = Settings(epochs=1, images=300, batch_size=100, threads=1)


@pytest.mark.real_data
@pytest.mark.parametrize("module", ["floor", "notebook", "usual"])
def test_every_peer_takes_one_step_for_each_batch_of_the_lessons_network(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    steps: list[int] = []
    cross_entropy, step = F.cross_entropy, torch.optim.Adam.step

    def noting_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            shapes.append((len(targets), *logits.shape))
        return cross_entropy(logits, targets)

    def noting_step(self: torch.optim.Adam, closure: Any = None) -> Any:
        steps.append(sum(parameter.numel() for group in self.param_groups for parameter in group["params"]))
        return step(self, closure)

    monkeypatch.setattr(F, "cross_entropy", noting_cross_entropy)
    monkeypatch.setattr(torch.optim.Adam, "step", noting_step)
    peer = importlib.import_module(f"benchmarks.{module}")
    with pytest.warns() if module == "usual" else contextlib.nullcontext():  # its defaults give advice
        seconds = peer.epochs(TINY)
    assert shapes == [(100, 100, 10)] * 3
    assert steps == [32_998] * 3
    assert len(seconds) == 1


def test_command_runs_in_a_terminal_and_a_failure_is_an_error() -> None:
    script = "import sys, os, time; print(sys.stdout.isatty(), os.get_terminal_size().columns); time.sleep(0.2)"
    outcome = process.python("-c", script)
    assert outcome.text == f"True {process.COLUMNS}\n"
    assert 0.2 < outcome.seconds < 20
    with pytest.raises(RuntimeError, match=r"ended with 3: so long"):
        process.python("-c", "print('so long'); raise SystemExit(3)")
    assert process.python("-c", "raise SystemExit(3)", code=3).text == ""


def test_peak_memory_is_that_of_the_command() -> None:
    script = "from benchmarks.process import python; print(*(python('-c', f'x = {x}').peak_memory for x in {values}))"
    outcome = run_command("-c", script.replace("{values}", "(0, 'bytearray(b\\'1\\') * 200_000_000')"), cold=True)
    small, large = map(int, outcome.out.split())
    assert large - small == pytest.approx(200_000_000, rel=0.05)


def test_table_has_median_and_range_and_says_whether_a_goal_was_reached() -> None:
    result: report.Result = {
        "date": "2020-02-03T00:00:00+00:00",
        "machine": {"processor": "P", "threads": 2, "torch": "1", "lightning": "2"},
        "settings": {"rounds": 3, "images": 55_000},
        "figures": {
            "floor": {"unit": "s", "values": [2.0, 1.0, 4.0]},
            "this project / floor": {"unit": "", "values": [1.3, 1.2, 1.24]},
            "notebook / this project": {"unit": "", "values": [1.5, 1.7, 1.5]},
            "whole command, 5 epochs": {"unit": "s", "values": [20.0, 10.0, 1000.0]},
        },
    }
    rows = report.table(result).splitlines()[2:]
    assert rows[0] == "| floor | 2.00 s | 1.00 s to 4.00 s |  |"
    assert report.table(result, short=True).splitlines()[2:] == rows[1:]
    assert rows[1:] == [
        "| this project / floor | 1.24 | 1.20 to 1.30 | at most 1.15: **missed** |",
        "| notebook / this project | 1.50 | 1.50 to 1.70 | at least 1.60: **missed** |",
        "| whole command, 5 epochs | 20.00 s | 10.00 s to 1000.00 s |  |",
    ]


def test_filling_replaces_the_text_between_the_comments_alone() -> None:
    text = "above\n<!-- benchmark: x -->\nold\n<!-- end of benchmark -->\nbelow"
    once = report.fill(text, "new")
    assert once == "above\n<!-- benchmark: x -->\n\nnew\n\n<!-- end of benchmark -->\nbelow"
    assert report.fill(once, "new") == once
    with pytest.raises(ValueError, match="no '<!-- benchmark"):
        report.fill("above", "new")


def test_documents_show_the_newest_result() -> None:
    for path, text in report.documents(report.newest()).items():
        assert path.read_text() == text, f"{path.name} differs from the newest result: make bench-report"


def test_newest_result_is_of_a_clean_commit_and_has_every_goal() -> None:
    result = report.newest()
    assert not result["machine"]["commit"].endswith("-dirty")
    assert set(report.GOALS) <= set(result["figures"])
    for name, figure in result["figures"].items():
        once = "eight jobs" in name or name in ("one after the other / beside each other", "the same of the floor")
        times = 1 if once else result["settings"]["rounds"]
        assert len(figure["values"]) == times, name


@pytest.mark.slow(minutes=3)
@pytest.mark.real_data
def test_benchmark_runs_in_a_tiny_size(tmp_path: Path) -> None:
    code = "from benchmarks import bench; bench.SWEEP = 'seed=0,1'; bench.main()"
    arguments = ["--rounds=1", "--epochs=1", "--images=11000", f"--output={tmp_path}"]
    outcome = run_command("-c", code, *arguments, timeout=1200)
    assert outcome.code == 0, outcome.err
    (path,) = tmp_path.glob("bench-*.json")
    result: report.Result = json.loads(path.read_text())
    assert torch.__version__.startswith(result["machine"]["torch"])
    goals = {goal.replace("60,000", "12,000").replace("15,000", "3,000") for goal in report.GOALS}
    goals = {goal for goal in goals if "Keras" not in goal or bench.PEERS.exists()}
    assert goals <= set(result["figures"])
    for name, figure in result["figures"].items():
        assert len(figure["values"]) == 1
        assert name.startswith(("memory", "start-up beyond")) or figure["values"][0] > 0
        assert re.search(rf"^\| {re.escape(name)} \|", outcome.out, re.MULTILINE)
