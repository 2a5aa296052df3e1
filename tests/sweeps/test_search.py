"""Searches: sweeps whose values Optuna chooses."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from fmnist.sweeps import search, sweep_directory
from tests import fork_server
from tests.cli.test_command_line import everything_in
from tests.conftest import Outcome, one_line
from tests.sweeps.test_sweep import SMALL, jobs

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.real_data

TrainHere = Callable[..., Outcome]
Start = Callable[..., fork_server.Popen]


def study(sweep: Path) -> Any:
    return study_at(f"sqlite:///{sweep / 'study.sqlite3'}")


def study_at(storage: str) -> Any:
    return optuna.load_study(study_name="search", storage=storage)


def test_search_tries_values_in_its_ranges_and_ends_with_a_report(train_here: TrainHere, tmp_path: Path) -> None:
    outcome = train_here(*SMALL, "sweep=search", "hydra.sweeper.n_trials=3")
    assert outcome.code == 0
    assert outcome.err == ""
    begun = jobs(tmp_path / "sweep").values()
    assert len(begun) == 3
    for job in begun:
        config = job.read_configuration()
        assert 0.0003 <= config.optimizer.lr <= 0.03
        assert 0.0001 <= config.optimizer.weight_decay <= 0.3
        assert config.data.batch_size in (50, 100, 200, 400)
        assert config.optimizer._target_ == "torch.optim.AdamW"
        assert not any(name.startswith("test/") for name in job.read_metrics())
    best = max(job.read_metrics()["val/acc"] for job in begun)
    assert study(tmp_path / "sweep").best_value == pytest.approx(best)
    assert "3 of 3 runs finished" in outcome.out
    assert "repeat the best with other seeds" in outcome.out


def test_command_that_repeats_a_trial_changes_only_the_seed(train_here: TrainHere, tmp_path: Path) -> None:
    assert train_here(*SMALL, "sweep=search", "hydra.sweeper.n_trials=2").code == 0
    job = max(jobs(tmp_path / "sweep").values(), key=lambda job: job.read_metrics()["val/acc"])
    report = (tmp_path / "sweep/report.md").read_text()
    command = next(line for line in report.splitlines() if "python train.py -m" in line).partition("train.py ")[2]
    overrides = [part for part in command.split() if not part.startswith("seed=")]
    assert train_here(*overrides, "seed=7", "hydra.sweep.dir=again").code == 0
    (again,) = jobs(tmp_path / "again").values()
    searched, repeated = job.read_configuration(), again.read_configuration()
    assert (searched.seed, repeated.seed) == (0, 7)
    searched.seed = 7
    assert repeated == searched


def test_killed_search_resumes_the_interrupted_trial(start: Start, train_here: TrainHere, tmp_path: Path) -> None:
    command = [*SMALL, "sweep=search", "trainer.max_epochs=30", "data.batch_size=50", "hydra.sweeper.n_trials=3"]
    process = start(*command)
    sweep = tmp_path / "sweep"
    while not any(sweep.glob("*/checkpoints/last.ckpt")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (first,) = jobs(sweep).values()
    assert not first.finished
    outcome = train_here(*command)
    assert outcome.code == 0
    assert "going on after epoch" in outcome.out
    assert first.finished
    assert len(jobs(sweep)) == 3
    assert sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in study(sweep).trials) == 3

    before = {name: job.metrics.read_bytes() for name, job in jobs(sweep).items()}
    assert train_here(*command).code == 0  # nothing is left to do
    assert {name: job.metrics.read_bytes() for name, job in jobs(sweep).items()} == before
    assert train_here(*command[:-1], "hydra.sweeper.n_trials=4").code == 0  # one more
    assert len(jobs(sweep)) == 4
    assert len({job.path for job in jobs(sweep).values()} & {sweep / name for name in before}) == 3


@pytest.mark.parametrize(
    ("overrides", "metric", "best"),
    [
        (["monitor.metric=val/loss", "monitor.mode=min"], "val/loss", min),
        (["data.val_size=0"], "train/loss", min),
    ],
)
def test_search_optimizes_the_metric_that_ranks_runs(
    overrides: list[str], metric: str, best: Callable[[list[float]], float], train_here: TrainHere, tmp_path: Path
) -> None:
    assert train_here(*SMALL, "sweep=search", *overrides, "hydra.sweeper.n_trials=3").code == 0
    found = [float(job.read_metrics()[metric]) for job in jobs(tmp_path / "sweep").values()]
    assert study(tmp_path / "sweep").best_value == pytest.approx(best(found))


def test_interrupted_search_with_more_trials_has_their_number_in_its_command(
    train_here: TrainHere, tmp_path: Path
) -> None:
    command = [*SMALL, "sweep=search", "hydra.sweeper.n_trials=1"]
    assert train_here(*command).code == 0
    assert train_here(*command[:-1], "hydra.sweeper.n_trials=2").code == 0
    begun = sweep_directory.read(tmp_path / "sweep")
    begun.jobs[-1].run.metrics.unlink()  # type: ignore[union-attr]  # interrupted at its end
    begun = sweep_directory.read(tmp_path / "sweep")
    assert len(begun.jobs) == 2
    assert "hydra.sweeper.n_trials=2" in str(begun.command)
    assert "hydra.sweeper.n_trials=1" not in str(begun.command)


def test_trial_to_be_repeated_is_queued_once(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.sqlite3'}"
    begun = optuna.create_study(study_name="search", storage=storage)
    for _ in range(2):
        begun.ask({"lr": optuna.distributions.UniformDistribution(0, 1)})  # and killed
    for _ in range(3):  # interrupted before the first of them started again
        sweeper = {"storage": storage, "study_name": "search", "n_trials": 4, "sampler": {"seed": 0}}
        search.resume(OmegaConf.create({"hydra": {"sweeper": sweeper}}))
    waiting = [trial for trial in study_at(storage).trials if trial.state == optuna.trial.TrialState.WAITING]
    assert len(waiting) == 2


def test_failed_trial_does_not_stop_the_search_and_sets_exit_code_1(train_here: TrainHere, tmp_path: Path) -> None:
    outcome = train_here(*SMALL, "sweep=search", "optimizer.lr=choice(0.001,1e30)", "hydra.sweeper.n_trials=5")
    assert outcome.code == 1
    states = [job.state for job in sweep_directory.read(tmp_path / "sweep").jobs]
    assert len(states) == 5
    assert set(states) == {"finished", "failed"}
    assert f"{states.count('finished')} of 5 runs finished" in outcome.out


def test_search_without_a_finished_trial_ends_in_one_line(train_here: TrainHere) -> None:
    outcome = train_here(*SMALL, "sweep=search", "optimizer.lr=1e30", "hydra.sweeper.n_trials=1")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == "error: no trial of the search has finished"
    assert "Traceback" not in outcome.err + outcome.out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be at least 1, got 0"),
        (["hydra.sweeper.n_trials=1001"], "the sweep would have 1,001 jobs; if you mean it, add max_jobs=1001"),
        (
            ["monitor.metric=val/loss", "monitor.mode=min", "hydra.sweeper.direction=maximize"],
            "runs are ranked by the minimum of val/loss; use hydra.sweeper.direction=minimize",
        ),
        (["optimizer.lr=interval(-1,0.1)"], "Invalid learning rate: -1"),
        (["optimizer.lrr=interval(0.01,0.1)"], "no key 'optimizer.lrr'"),
    ],
)
def test_mistake_ends_a_search_before_its_first_trial(
    overrides: list[str], message: str, train_here: TrainHere, tmp_path: Path
) -> None:
    assert message in one_line(train_here(*SMALL, "sweep=search", *overrides))
    assert everything_in(tmp_path) == {}
