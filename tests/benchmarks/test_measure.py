"""``make measure``: which runs it trains and which it skips."""

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from benchmarks import measure
from benchmarks.measure import Job
from fmnist.cli import options
from fmnist.runs import create
from fmnist.runs.provenance import source
from fmnist.sweeps.measurement import Measurement
from fmnist.training import speed
from tests.helpers import ROOT, Outcome, one_line, outcome_of, run_command


class Program:
    """Runs the program in this process, without the training."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capture = capture
        self.trained: list[Job] = []
        self.overrides: set[str] = set()

    def measure(self, job: Job, overrides: Sequence[str], *_: Any) -> Measurement:
        self.trained.append(job)
        self.overrides.update(overrides)
        return Measurement([f"experiment={job[0]}"], job[1], 1000, 10.0, {"test/acc": 0.9}, {"data": {}}, {})

    def __call__(self, *arguments: str) -> Outcome:
        self.monkeypatch.setattr(sys, "argv", ["measure", *arguments])
        return outcome_of(lambda: options.run(measure.main, measure.Options), self.capture)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Program:
    made = Program(monkeypatch, capfd)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "NEW", tmp_path / "runs/kept")
    monkeypatch.setattr(measure, "source", lambda: {"dirty": False})
    monkeypatch.setattr(measure, "measure", made.measure)
    monkeypatch.setattr(speed, "has_bf16", lambda: True)
    return made


def test_committed_runs_are_skipped(program: Program) -> None:
    outcome = program("experiments=record_93", "seeds=2")
    assert (outcome.code, outcome.err, program.trained) == (0, "", [])
    assert outcome.out.splitlines() == [
        "record_93: skipping seeds 0, 1, which benchmarks/results/runs already holds",
        'record_93: to measure it again:  make measure ARGS="experiments=record_93 kept=<new directory> '
        'runs=<new directory>"',
    ]


def test_missing_seeds_are_measured_for_all_experiments_in_turn(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "KEPT", tmp_path)
    (tmp_path / "record_93-seed0.json").touch()
    outcome = program("experiments=[record_93,smoke]", "seeds=2")
    assert program.trained == [("smoke", 0), ("record_93", 1), ("smoke", 1)]
    assert "record_93: skipping seeds 0, which" in outcome.out
    assert "again" not in outcome.out
    assert "smoke seed 1: 90.00 % on the test set, 10.0 s\n" in outcome.out
    assert (tmp_path / "runs/kept/record_93-seed1.json").is_file()


def test_with_another_directory_its_runs_alone_are_skipped_and_overrides_are_allowed(program: Program) -> None:
    arguments = ["experiments=[record_93,smoke]", "overrides=trainer=auto", "kept=measured"]
    assert program(*arguments, "seeds=1").code == 0
    assert (program.trained, program.overrides) == ([("record_93", 0), ("smoke", 0)], {"trainer=auto"})
    outcome = program("experiments=record_93", "kept=measured", "seeds=2")
    assert program.trained[2:] == [("record_93", 1)]
    assert "record_93: skipping seeds 0, which measured already holds\n" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiments=[smoke,srong]"], "no 'srong' in group 'experiment'; did you mean 'strong'?"),
        (["experiments=smoke", "seeds=0"], "seeds must be at least 1, got 0"),
        (["overrides=trainer=auto"], "experiments=<...> is missing"),
        (["experiments=smoke", "overrides=trainer=auto", "kept=runs/kept"], "trainer=auto makes another recipe"),
        (["experiments=smoke", "overrides=optimizer.lr=x", "kept=k"], "optimizer.lr must be a number, got 'x'"),
        (["experiments=smoke", "kept=file/below", "seeds=1"], "cannot write kept=file/below: "),
    ],
)
def test_mistake_ends_in_one_line_before_anything_is_measured(
    arguments: list[str], message: str, program: Program
) -> None:
    Path("file").touch()
    assert message in one_line(program(*arguments))
    assert program.trained == []


def test_run_with_another_configuration_is_rejected(program: Program, composed: Callable[..., DictConfig]) -> None:
    changed = OmegaConf.to_yaml(composed("experiment=smoke", "seed=1", "model.pixel_mean=7.0"))
    create.create_run_directory(measure.run_directory(("smoke", 1), Path("runs")), {"config.yaml": changed})
    message = "runs/smoke/seed1 was started with another configuration: model changed"
    assert message in one_line(program("experiments=smoke", "runs=runs", "seeds=2"))
    assert program.trained == []


def test_unsuitable_processor_and_uncommitted_changes_are_rejected(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "has_bf16", lambda: False)
    assert "this processor has no bf16 instructions" in one_line(program("experiments=record_93", "kept=measured"))
    monkeypatch.setattr(measure, "source", lambda: {"dirty": True})
    assert "commit your changes first" in one_line(program("experiments=smoke"))
    assert program.trained == []


def test_git_ignores_the_directory_of_the_json_files(program: Program, tmp_path: Path) -> None:
    assert program("experiments=smoke", "kept=measured", "seeds=1").code == 0
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert status.stdout == ""


def test_make_record_passes_the_directory_on() -> None:
    command = ["make", "--dry-run", "record", "ARGS=kept=measured"]
    planned = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    experiments = "[record_90,record_91,record_92,record_93,record_94]"
    assert f"benchmarks.measure experiments={experiments} kept=measured\n" in planned


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.skipif(bool(source()["dirty"]), reason="only what is committed is measured")
def test_measuring_again_trains_only_the_missing_run(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    command = ["-m", "benchmarks.measure", "experiments=smoke", "seeds=2", f"kept={kept}", f"runs={tmp_path / 'runs'}"]
    command += ["images=1000"]
    outcome = run_command(*command)
    assert outcome.code == 0, outcome.err
    first = {path.name: json.loads(path.read_text()) for path in kept.glob("*.json")}
    assert sorted(first) == ["smoke-seed0.json", "smoke-seed1.json"]
    assert all(content["floor"] > 0 and content["seconds"] > 0 for content in first.values())
    (kept / "smoke-seed1.json").unlink()
    assert run_command(*command).out.count("% on the test set") == 1
