"""Sweeps: their jobs, and resuming them."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import sweep_directory
from tests import fork_server
from tests.cli.test_command_line import everything_in
from tests.conftest import ROOT, Outcome, one_line, run_command, wait_until

pytestmark = pytest.mark.real_data

TrainHere = Callable[..., Outcome]
Start = Callable[..., fork_server.Popen]
SMALL = ["experiment=smoke", "trainer.max_epochs=1", "threads=1", "dashboard=none", "hydra.sweep.dir=sweep"]


def jobs(sweep: Path) -> dict[str, RunDirectory]:
    return {path.name: RunDirectory(path) for path in sorted(sweep.iterdir()) if (path / ".hydra").is_dir()}


def metrics(sweep: Path) -> dict[str, bytes]:
    return {name: job.metrics.read_bytes() for name, job in jobs(sweep).items()}


def test_sweep_group_is_a_multirun_whose_values_the_command_line_can_override(
    train_here: TrainHere, tmp_path: Path
) -> None:
    assert train_here(*SMALL, "sweep=lr", "optimizer.lr=0.001,0.01", "seed=4").code == 0
    configurations = [job.read_configuration() for job in jobs(tmp_path / "sweep").values()]
    assert [(config.optimizer.lr, config.seed) for config in configurations] == [(0.001, 4), (0.01, 4)]
    for job in jobs(tmp_path / "sweep").values():
        assert "sweep-lr" not in job.path.name
        assert not any(name.startswith("test/") for name in job.read_metrics())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sweep=lr", "optimizer.lrr=0.1,0.2"], "no key 'optimizer.lrr'"),
        (["sweep=lr", "seed=range(0,0)"], "seed=range(0,0) has no values to sweep over"),
        (["-m", "seed=range(0,1001)"], "the sweep would have 1,001 jobs; if you mean it, add max_jobs=1001"),
        (["sweep=lr", "seed=range(0,500)"], "the sweep would have 2,500 jobs"),
        (["sweep=lr", "max_jobs=many"], "max_jobs must be a whole number, got 'many'"),
        (["sweep=lr", "seed=1,1"], "seed has the value 1 twice"),
        (["sweep=lr_bach"], "no 'lr_bach' in group 'sweep'; did you mean 'lr_batch'?"),
        (
            ["-m", "seed=1,2", "hydra/launcher=nothing"],
            "no 'nothing' in group 'hydra/launcher': no installed Hydra plugin provides it",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistake_ends_a_sweep_before_its_first_job(
    overrides: list[str], message: str, train_here: TrainHere, tmp_path: Path
) -> None:
    assert message in one_line(train_here(*SMALL, *overrides))
    assert everything_in(tmp_path) == {}


@pytest.mark.parametrize(
    ("params", "message"),
    [("optimizer.lrr: 0.1,0.2", "no key 'optimizer.lrr'"), ("optimizer.lr: 0.1,-2", "Invalid learning rate: -2")],
)
def test_mistake_in_a_sweep_file_ends_a_sweep_before_its_first_job(
    params: str, message: str, train_here: TrainHere, tmp_path: Path
) -> None:
    path = tmp_path / "own/sweep/mine.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(
        f"# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      {params}\n      seed: 1,2\n"
    )
    assert message in one_line(train_here(f"--config-dir={tmp_path / 'own'}", *SMALL, "sweep=mine"))
    assert not (tmp_path / "sweep").exists()


def test_resumed_sweep_runs_missing_jobs_and_leaves_finished_ones_unchanged(
    train_here: TrainHere, tmp_path: Path
) -> None:
    command = ["-m", *SMALL, "seed=1,2,3", "trainer.max_epochs=2"]
    assert train_here(*command).code == 0
    sweep = tmp_path / "sweep"
    whole = metrics(sweep)
    first, second, third = jobs(sweep).values()
    before = everything_in(first.path)
    second.metrics.unlink()  # killed at its end
    subprocess.run(["rm", "-r", str(third.path)], check=True)  # never started
    outcome = train_here(*command)
    assert outcome.code == 0
    assert "resuming the sweep in sweep" in outcome.out
    assert metrics(sweep) == whole
    after = everything_in(first.path)
    log = str(first.path / "train.log")
    assert {path: content for path, content in after.items() if path != log} == {
        path: content for path, content in before.items() if path != log
    }
    assert after[log].startswith(before[log])


def test_directory_of_another_sweep_is_rejected_and_stays_unchanged(train_here: TrainHere, tmp_path: Path) -> None:
    assert train_here("-m", *SMALL, "seed=1").code == 0
    before = everything_in(tmp_path)
    line = one_line(train_here("-m", *SMALL, "seed=1,2"))
    assert "sweep holds another sweep and stays unchanged: experiment=smoke" in line
    for name in ("run", "sweep"):
        line = one_line(train_here(*SMALL[:-1], f"hydra.{name}.dir=sweep", *(["-m"] if name == "sweep" else [])))
        assert "already holds a sweep" in line or "another sweep" in line
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("change", [("lr: 0.01", "lr: 0.02"), ("max_epochs: 1", "max_epochs: 2")])
def test_sweep_whose_recipe_has_changed_is_rejected_and_stays_unchanged(
    change: tuple[str, str], train_here: TrainHere, tmp_path: Path
) -> None:
    recipe = tmp_path / "own/experiment/mine.yaml"
    recipe.parent.mkdir(parents=True)
    recipe.write_text("# @package _global_\noptimizer:\n  lr: 0.01\ntrainer:\n  max_epochs: 1\n")
    command = [f"--config-dir={tmp_path / 'own'}", "-m", "experiment=smoke,mine", "seed=1", *SMALL[2:]]
    command += ["trainer.limit_train_batches=2", "trainer.limit_val_batches=2", "trainer.limit_test_batches=2"]
    assert train_here(*command).code == 0
    before = everything_in(tmp_path / "sweep")
    recipe.write_text(recipe.read_text().replace(*change))
    line = one_line(train_here(*command))
    assert "experiment-mine" in line
    assert " was started with another configuration: " in line
    assert "changed since; undo the change, or start again in another directory" in line
    assert everything_in(tmp_path / "sweep") == before
    recipe.write_text(recipe.read_text().replace(change[1], change[0]))
    assert train_here(*command).code == 0


def test_second_sweep_in_a_directory_in_use_is_rejected(start: Start, tmp_path: Path) -> None:
    command = ["-m", *SMALL, "seed=1,2", "trainer.max_epochs=200"]  # longer than the second takes to start
    first = start(*command)
    while not jobs(tmp_path / "sweep") if (tmp_path / "sweep").exists() else True:
        time.sleep(0.05)
    second = run_command(ROOT / "train.py", *command, cwd=tmp_path)
    assert "sweep is being written by another process" in one_line(second)
    assert first.poll() is None


def test_parallel_jobs_have_the_same_metrics_as_sequential_ones(tmp_path: Path) -> None:
    command = ["-m", *SMALL[:-1], "seed=1,2"]
    for launcher in ("basic", "joblib"):
        outcome = run_command(
            ROOT / "train.py", *command, f"hydra/launcher={launcher}", f"hydra.sweep.dir={launcher}", cwd=tmp_path
        )
        assert (outcome.code, outcome.err) == (0, "")
    assert metrics(tmp_path / "basic") == metrics(tmp_path / "joblib")


def test_parallel_jobs_share_the_cores(tmp_path: Path) -> None:
    command = ["-m", "experiment=smoke", "trainer.max_epochs=1", "dashboard=none", "seed=1,2"]
    assert (
        run_command(ROOT / "train.py", *command, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", cwd=tmp_path).code
        == 0
    )
    for path in (tmp_path / "runs/sweeps").rglob("manifest.json"):
        manifest = json.loads(path.read_text())
        assert manifest["threads"] == max(1, manifest["cores"] // 2)


PARALLEL = ["-m", "experiment=smoke", "dashboard=none", "seed=1,2,3", "hydra/launcher=joblib", "hydra.sweep.dir=sweep"]


def test_lines_of_parallel_jobs_start_with_their_number(tmp_path: Path) -> None:
    lines = run_command(ROOT / "train.py", *PARALLEL, "trainer.max_epochs=1", cwd=tmp_path).out.splitlines()
    for number in range(3):
        assert sum(line.startswith(f"#{number}  epoch 1/1") for line in lines) == 1
        assert sum(line.startswith(f"#{number}  finished: train/acc") for line in lines) == 1


@pytest.mark.slow
def test_jobs_end_and_resume_with_their_sweep(start: Start, tmp_path: Path) -> None:
    command = [*PARALLEL, "trainer.max_epochs=20", "hydra.launcher.n_jobs=2"]
    process = start(*command)
    wait_for_checkpoints(tmp_path / "sweep", 2)
    process.kill()
    process.communicate(timeout=60)
    wait_until(lambda: not any(job.running for job in jobs(tmp_path / "sweep").values()), "the jobs to end")
    assert {job.state for job in sweep_directory.read(tmp_path / "sweep").jobs if job.run} == {"interrupted"}
    outcome = run_command(ROOT / "train.py", *command, cwd=tmp_path)
    assert outcome.code == 0
    assert outcome.out.count("going on after epoch") == 2
    assert "3 of 3 runs finished" in outcome.out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the jobs' processes in /proc")
def test_job_that_the_system_kills_ends_the_sweep_with_one_line(start: Start, tmp_path: Path) -> None:
    process = start(*PARALLEL, "trainer.max_epochs=1000", "hydra.launcher.n_jobs=2")
    wait_for_checkpoints(tmp_path / "sweep", 2)
    workers = f"/proc/{process.pid}/task/{process.pid}/children"
    for child in Path(workers).read_text().split():
        if b"popen_loky" in Path(f"/proc/{child}/cmdline").read_bytes():
            os.kill(int(child), signal.SIGKILL)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "Traceback" not in out + err
    assert "error: a job was killed (probably out of memory); the remaining jobs were stopped" in err.splitlines()
    assert "0 of 3 runs finished" in out
    assert "to resume            python train.py -m experiment=smoke" in out


def wait_for_checkpoints(sweep: Path, count: int) -> None:
    wait_until(lambda: len(list(sweep.glob("*/checkpoints/last.ckpt"))) >= count, f"{count} checkpoints")


@pytest.mark.slow
def test_sweep_killed_ten_times_equals_uninterrupted_sweep(start: Start, tmp_path: Path) -> None:
    command = ["-m", *SMALL[:-1], "seed=1,2,3", "optimizer.lr=0.001,0.01", "trainer.max_epochs=3"]
    assert run_command(ROOT / "train.py", *command, "hydra.sweep.dir=whole", cwd=tmp_path).code == 0
    chance = random.Random(0)
    kills = 0
    while kills < 10:
        process = start(*command, "hydra.sweep.dir=killed")
        time.sleep(chance.uniform(3, 9))
        process.send_signal(chance.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        process.communicate(timeout=60)
        kills += 1
    assert start(*command, "hydra.sweep.dir=killed").wait(timeout=120) == 0
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "whole")
    assert table(tmp_path / "killed") == table(tmp_path / "whole")


def table(sweep: Path) -> list[str]:
    """The report's rows without the seconds, which differ between sweeps."""
    rows = [line for line in (sweep / "report.md").read_text().splitlines() if line.startswith("| ")]
    assert len(rows) == 3  # header and two learning rates
    return [row.rpartition(" | ")[0] for row in rows]
