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
from benchmarks.measure import KEPT, Job
from fmnist.cli import options
from fmnist.runs import create
from fmnist.runs.provenance import source
from fmnist.sweeps.measurement import Measurement
from fmnist.training import speed
from tests.conftest import ROOT, Outcome, one_line, outcome_of, run_command

Call = Callable[..., Outcome]


@pytest.fixture
def trained() -> list[Job]:
    """The jobs that were measured, or would have been."""
    return []


@pytest.fixture
def given() -> list[str]:
    """Their overrides."""
    return []


@pytest.fixture
def call(
    trained: list[Job],
    given: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> Call:
    """Runs the program in this process, without the training."""

    def pretend(job: Job, overrides: Sequence[str], *_: Any) -> Measurement:
        trained.append(job)
        given.extend(overrides)
        return Measurement([f"experiment={job[0]}"], job[1], 1000, 10.0, {"test/acc": 0.9}, {"data": {}}, {})

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["measure", *arguments])
        return outcome_of(lambda: options.run(measure.main, measure.Options), capfd)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(measure, "NEW", tmp_path / "runs/kept")
    monkeypatch.setattr(measure, "source", lambda: {"dirty": False})
    monkeypatch.setattr(measure, "measure", pretend)
    monkeypatch.setattr(speed, "has_bf16", lambda: True)
    return run


def test_committed_runs_are_skipped(call: Call, trained: list[Job]) -> None:
    outcome = call("experiments=record_93", "seeds=2")
    assert (outcome.code, outcome.err, trained) == (0, "", [])
    assert outcome.out.splitlines() == [
        "record_93: skipping seeds 0, 1, which benchmarks/results/runs already holds",
        'record_93: to measure it again:  make measure ARGS="experiments=record_93 kept=<new directory> '
        'runs=<new directory>"',
    ]


def test_missing_seeds_are_measured_for_all_experiments_in_turn(call: Call, trained: list[Job], tmp_path: Path) -> None:
    committed = len(list(KEPT.glob("record_93-seed*.json")))
    outcome = call("experiments=[record_93,smoke]", f"seeds={committed + 1}")
    assert trained == [*(("smoke", seed) for seed in range(committed)), ("record_93", committed), ("smoke", committed)]
    assert "record_93: skipping seeds" in outcome.out
    assert "again" not in outcome.out
    assert f"smoke seed {committed}: 90.00 % on the test set, 10.0 s\n" in outcome.out
    assert (tmp_path / f"runs/kept/record_93-seed{committed}.json").is_file()


def test_with_another_directory_only_its_runs_are_skipped(call: Call, trained: list[Job]) -> None:
    assert call("experiments=record_93", "kept=measured", "seeds=1").code == 0
    assert trained == [("record_93", 0)]
    outcome = call("experiments=record_93", "kept=measured", "seeds=2")
    assert trained == [("record_93", 0), ("record_93", 1)]
    assert "record_93: skipping seeds 0, which measured already holds\n" in outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["experiments=[smoke,srong]"], "no 'srong' in group 'experiment'; did you mean 'strong'?"),
        (["experiments=smoke", "seeds=0"], "seeds must be at least 1, got 0"),
        (["overrides=trainer=auto"], "experiments=<...> is missing"),
        (["experiments=smoke", "overrides=trainer=auto"], "overrides=trainer=auto makes another recipe"),
        (["experiments=smoke", "overrides=trainer=auto", "kept=runs/kept"], "makes another recipe"),
        (["experiments=smoke", "overrides=optimizer.lr=x", "kept=k"], "optimizer.lr must be a number, got 'x'"),
        (["experiments=smoke", "kept=file/below"], "cannot write kept=file/below: "),
        (
            ["experiments=smoke", "runs=changed"],
            "changed/smoke/seed1 was started with another configuration: model changed",
        ),
    ],
)
def test_mistake_ends_in_one_line_before_anything_is_measured(
    arguments: list[str], message: str, call: Call, trained: list[Job], composed: Callable[..., DictConfig]
) -> None:
    Path("file").touch()
    changed = OmegaConf.to_yaml(composed("experiment=smoke", "seed=1", "model.pixel_mean=7.0"))
    create.create_run_directory(measure.run_directory(("smoke", 1), Path("changed")), {"config.yaml": changed})
    assert message in one_line(call(*arguments))
    assert trained == []


def test_overrides_apply_to_all_experiments(call: Call, trained: list[Job], given: list[str], tmp_path: Path) -> None:
    arguments = ["experiments=[record_93,smoke]", "overrides=trainer=auto", "kept=measured", "seeds=1"]
    outcome = call(*arguments)
    assert outcome.code == 0, outcome.err
    assert (trained, given) == ([("record_93", 0), ("smoke", 0)], ["trainer=auto"] * 2)
    assert (tmp_path / "measured/record_93-seed0.json").is_file()


def test_processor_without_bf16_ends_in_one_line_before_anything_is_measured(
    call: Call, trained: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "has_bf16", lambda: False)
    assert "this processor has no bf16 instructions" in one_line(call("experiments=record_93", "kept=measured"))
    assert trained == []


def test_uncommitted_changes_are_rejected(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "source", lambda: {"dirty": True})
    assert "commit your changes first" in one_line(call("experiments=smoke"))


def test_git_ignores_the_directory_of_the_json_files(call: Call, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert call("experiments=smoke", "kept=measured", "seeds=1").code == 0
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
