"""Sweeps: their jobs, and resuming them."""

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import sweep_directory
from fmnist.sweeps.jobs import sample_jobs
from tests.helpers import ROOT, TINY, Start, TrainHere, one_line, run_command, wait_until
from tests.sweep_fixtures import everything_in

pytestmark = pytest.mark.real_data

SWEEP = "-m", *TINY, "hydra.sweep.dir=sweep", "seed=1,2,3"


def jobs(sweep: Path) -> dict[str, RunDirectory]:
    return {path.parent.name: RunDirectory(path.parent) for path in sorted(sweep.glob("*/.hydra"))}


def metrics(sweep: Path) -> dict[str, bytes]:
    return {name: job.metrics.read_bytes() for name, job in jobs(sweep).items()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep over three seeds. Only for reading."""
    cwd = tmp_path_factory.mktemp("finished")
    outcome = run_command(ROOT / "train.py", *SWEEP, cwd=cwd)
    assert (outcome.code, outcome.err) == (0, "")
    return cwd / "sweep"


@pytest.fixture
def sweep(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "sweep"))


def sweep_config(*task: str, **sweeper: Any) -> DictConfig:
    return OmegaConf.create({"max_jobs": 1000, "hydra": {"sweeper": sweeper, "overrides": {"task": list(task)}}})


def test_sample_jobs_contain_each_value_once() -> None:
    task = ["a=1,2,3", "b=range(0,9)", "c=interval(0.5,2)", "d=x", "e=5", "e=6", "max_jobs=27"]
    found = list(sample_jobs(sweep_config(*task, params={"a": "7,8", "d": "y,z"})))
    assert all({"d=x", "e=6", "max_jobs=27"} < set(job) for job in found)
    assert [[text.partition("=")[2] for text in sorted(job) if text[0] in "abc"] for job in found] == [
        ["1", "0", "0.5"],
        ["2", "0", "0.5"],
        ["3", "0", "0.5"],
        ["1", "8", "0.5"],
        ["1", "0", "2.0"],
    ]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (["seed=range(0,0)"], r"seed=range\(0,0\) has no values to sweep over, so the sweep would have no job"),
        (["seed=range(0,500)", "a=1,2,3"], "the sweep would have 1,500 jobs; if you mean it, add max_jobs=1500"),
        (["seed=1,2,1"], "seed has the value 1 twice; name each value once"),
    ],
)
def test_impossible_plan_is_rejected(task: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        list(sample_jobs(sweep_config(*task)))


def test_sweep_of_as_many_jobs_as_allowed_is_accepted() -> None:
    assert len(list(sample_jobs(sweep_config("seed=range(0,1000)")))) == 2
    config = sweep_config("seed=1")
    config.max_jobs = "many"
    with pytest.raises(UserError, match="max_jobs must be a whole number, got 'many'"):
        list(sample_jobs(config))


def test_sweep_over_a_key_that_names_no_job_is_rejected(train_here: TrainHere, tmp_path: Path) -> None:
    assert "name cannot be swept: the directories of the jobs" in one_line(train_here("-m", *TINY, "name=a,b"))
    assert list(tmp_path.iterdir()) == []


def test_mistake_in_a_sweep_file_ends_a_sweep_before_its_first_job(train_here: TrainHere, tmp_path: Path) -> None:
    path = tmp_path / "own/sweep/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      optimizer.lr: 0.1,-2\n"
    )
    line = one_line(train_here(f"--config-dir={tmp_path / 'own'}", *TINY, "hydra.sweep.dir=sweep", "sweep=mine"))
    assert "Invalid learning rate: -2" in line
    assert not (tmp_path / "sweep").exists()


def test_sweep_group_is_a_multirun_whose_values_the_command_line_can_override(
    train_here: TrainHere, tmp_path: Path
) -> None:
    overrides = "sweep=lr", "optimizer.lr=0.001,0.01", "seed=4"
    outcome = train_here(*TINY[1:], "experiment=smoke", *overrides)
    assert outcome.code == 0, outcome
    (sweep,) = tmp_path.glob("runs/sweeps/*/*")
    configurations = [job.read_configuration() for job in jobs(sweep).values()]
    assert [(config.optimizer.lr, config.seed) for config in configurations] == [(0.001, 4), (0.01, 4)]
    assert [*jobs(sweep)] == ["optimizer.lr-0.001", "optimizer.lr-0.01"]  # the names leave out what all jobs share
    for job in jobs(sweep).values():
        assert not any(metric.startswith("test/") for metric in job.read_metrics())
    assert "sweep of optimizer.lr: 2 of 2 runs finished" in outcome.out
    assert (sweep / "report.png").is_file()


def test_resumed_sweep_runs_missing_jobs_and_leaves_finished_ones_unchanged(
    sweep: Path, finished: Path, train_here: TrainHere
) -> None:
    first, second, third = jobs(sweep).values()
    before = everything_in(first.path)
    second.metrics.unlink()  # killed at its end
    shutil.rmtree(third.path)  # never started
    outcome = train_here(*SWEEP)
    assert outcome.code == 0
    assert "resuming the sweep in sweep" in outcome.out
    assert metrics(sweep) == metrics(finished)
    after = everything_in(first.path)
    log = str(first.path / "train.log")
    assert after[log].startswith(before[log])
    assert after | {log: b""} == before | {log: b""}


def test_directory_of_another_sweep_or_of_a_running_one_is_rejected_and_stays_unchanged(
    sweep: Path, train_here: TrainHere
) -> None:
    before = everything_in(sweep)
    line = one_line(train_here(*SWEEP[:-1], "seed=1,2"))
    assert "sweep holds another sweep and stays unchanged: experiment=smoke" in line
    assert "already holds a sweep" in one_line(train_here(*TINY, "hydra.run.dir=sweep"))
    with RunDirectory(sweep).locked():
        assert "sweep is being written by another process" in one_line(train_here(*SWEEP))
    assert everything_in(sweep) == before


def test_sweep_whose_recipe_has_changed_is_rejected_and_stays_unchanged(train_here: TrainHere, tmp_path: Path) -> None:
    recipe = tmp_path / "own/experiment/mine.yaml"
    recipe.parent.mkdir(parents=True)
    content = "# @package _global_\ndefaults:\n  - smoke\noptimizer:\n  lr: 0.01\ntrainer:\n  max_epochs: 1\n"
    recipe.write_text(content)
    tiny = [override for override in TINY if "epochs" not in override]
    command = f"--config-dir={tmp_path / 'own'}", "-m", *tiny, "hydra.sweep.dir=sweep", "experiment=mine", "seed=1"
    assert train_here(*command).code == 0
    before = everything_in(tmp_path / "sweep")
    for change in (("lr: 0.01", "lr: 0.02"), ("max_epochs: 1", "max_epochs: 2")):
        recipe.write_text(content.replace(*change))
        line = one_line(train_here(*command))
        assert "was started with another configuration: " in line
        assert "changed since; undo the change, or start again in another directory" in line
        assert everything_in(tmp_path / "sweep") == before
    recipe.write_text(content)
    assert train_here(*command).code == 0


def test_failed_job_does_not_stop_the_others(train_here: TrainHere, tmp_path: Path) -> None:
    given = tmp_path / "given"  # only a running job notices that the files are damaged
    given.mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (given / f"{name}-ubyte").write_bytes(b"rubbish")
    outcome = train_here("-m", *TINY, f"data.data_dir={given},null", "hydra.sweep.dir=sweep")
    assert outcome.code == 1
    assert "job #0 failed" in outcome.out
    assert "is not the official file" in outcome.out
    assert outcome.err.splitlines()[-1] == "error: job #0 failed, see above"
    assert len(list((tmp_path / "sweep").rglob("metrics.json"))) == 1


PARALLEL = *SWEEP, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"


def test_parallel_jobs_equal_sequential_ones_share_the_cores_and_number_their_lines(
    finished: Path, tmp_path: Path
) -> None:
    outcome = run_command(ROOT / "train.py", *PARALLEL, "seed=1,2", "threads=1,null", cwd=tmp_path)
    assert (outcome.code, outcome.err) == (0, "")
    suffix = "+threads-1"
    found = {
        name.removesuffix(suffix): content
        for name, content in metrics(tmp_path / "sweep").items()
        if name.endswith(suffix)
    }
    assert len(found) == 2
    assert found.items() < metrics(finished).items()
    for path in (tmp_path / "sweep").glob("*threads-null*/manifest.json"):
        manifest = json.loads(path.read_text())
        assert manifest["threads"] == max(1, manifest["cores"] // 2)
    lines = outcome.out.splitlines()
    for text in ("epoch 1/1", "finished: train/acc"):
        starts = sorted(line.partition("  ")[0] for line in lines if f"  {text}" in line)
        assert starts == [f"#{number}" for number in range(4)]


def wait_for_checkpoints(sweep: Path) -> None:
    wait_until(lambda: len(list(sweep.glob("*/checkpoints/last.ckpt"))) >= 2, "two checkpoints")


@pytest.mark.slow
def test_jobs_end_and_resume_with_their_sweep(start: Start, tmp_path: Path) -> None:
    command = *PARALLEL, "trainer.max_epochs=100"
    process = start(*command)
    wait_for_checkpoints(tmp_path / "sweep")
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not any(job.running for job in jobs(tmp_path / "sweep").values()), "the jobs to end")
    assert {job.state for job in sweep_directory.read(tmp_path / "sweep").jobs if job.run} == {"interrupted"}
    outcome = run_command(ROOT / "train.py", *command, cwd=tmp_path)
    assert outcome.code == 0
    assert outcome.out.count("resuming after epoch") == 2
    assert "3 of 3 runs finished" in outcome.out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the jobs' processes in /proc")
def test_job_that_the_system_kills_ends_the_sweep_with_one_line(start: Start, tmp_path: Path) -> None:
    process = start(*PARALLEL, "trainer.max_epochs=1000")
    wait_for_checkpoints(tmp_path / "sweep")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    workers = [child for child in children if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes()]
    os.kill(int(workers[0]), signal.SIGKILL)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in out + err
    assert "error: a job was killed (probably out of memory); the remaining jobs were stopped" in err.splitlines()
    assert "0 of 3 runs finished" in out
    assert "to resume            python train.py -m experiment=smoke" in out


@pytest.mark.slow
def test_sweep_killed_ten_times_equals_uninterrupted_sweep(start: Start, tmp_path: Path) -> None:
    command = *SWEEP, "optimizer.lr=0.001,0.01", "trainer.max_epochs=3"
    assert run_command(ROOT / "train.py", *command, "hydra.sweep.dir=whole", cwd=tmp_path).code == 0
    chance = random.Random(0)
    for _ in range(10):
        process = start(*command, "hydra.sweep.dir=killed")
        time.sleep(chance.uniform(0.5, 3))
        process.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        process.communicate(timeout=60)
    assert start(*command, "hydra.sweep.dir=killed").wait(timeout=120) == 0
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")


@pytest.mark.slow(minutes=1)
def test_jobs_one_after_the_other_keep_no_memory() -> None:
    """25 more jobs took 30 MB more when Hydra kept their configurations and torch the types of their graphs."""
    program = (
        "import resource, runpy, sys\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "finally:\n    print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )

    def peak(jobs: int, directory: str) -> int:
        with tempfile.TemporaryDirectory() as sweep:
            overrides = "-m", *TINY, f"seed=range(0,{jobs})", f"hydra.sweep.dir={sweep}/{directory}"
            outcome = run_command("-c", program, *overrides, cold=True)
        assert outcome.code == 0, outcome.err
        return int(outcome.out.splitlines()[-1].split()[1]) // 1024  # MB

    assert peak(30, "many") - peak(5, "few") < 15
