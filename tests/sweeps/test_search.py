"""Searches: sweeps whose values Optuna chooses."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.sweeps import search, sweep_directory
from fmnist.sweeps.jobs import sample_jobs
from tests.helpers import TINY, Start, TrainHere, one_line, wait_until
from tests.sweeps.test_sweep import jobs, sweep_config

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.real_data

SEARCH = *TINY, "sweep=search", "model=cnn", "hydra.sweep.dir=sweep"


def study(path: Path) -> Any:
    return optuna.load_study(study_name="search", storage=f"sqlite:///{path / 'study.sqlite3'}")


def test_search_tries_values_in_its_ranges_and_its_report_repeats_the_best(
    train_here: TrainHere, tmp_path: Path
) -> None:
    outcome = train_here(*SEARCH, "hydra.sweeper.n_trials=2")
    assert (outcome.code, outcome.err) == (0, "")
    begun = jobs(tmp_path / "sweep").values()
    for job in begun:
        config = job.read_configuration()
        assert 0.0003 <= config.optimizer.lr <= 0.03
        assert 0.0001 <= config.optimizer.weight_decay <= 0.3
        assert config.data.batch_size in (50, 100, 200, 400)
        assert config.optimizer._target_ == "torch.optim.AdamW"
        assert not any(name.startswith("test/") for name in job.read_metrics())
    best = max(begun, key=lambda job: job.read_metrics()["val/acc"])
    assert study(tmp_path / "sweep").best_value == pytest.approx(best.read_metrics()["val/acc"])
    assert "2 of 2 runs finished" in outcome.out

    command = next(line for line in outcome.out.splitlines() if "to repeat" in line).partition("train.py ")[2]
    overrides = [part for part in command.split() if not part.startswith("seed=")]
    assert train_here(*overrides, "seed=7", "hydra.sweep.dir=again").code == 0
    (again,) = jobs(tmp_path / "again").values()
    assert again.read_configuration() == OmegaConf.merge(best.read_configuration(), {"seed": 7})


def test_killed_search_resumes_the_interrupted_trial(start: Start, train_here: TrainHere, tmp_path: Path) -> None:
    command = *SEARCH, "trainer.max_epochs=8", "hydra.sweeper.n_trials=2"
    sweep = tmp_path / "sweep"
    process = start(*command)
    wait_until(lambda: any(sweep.glob("*/checkpoints/last.ckpt")), "a checkpoint")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (first,) = jobs(sweep).values()
    assert not first.finished
    outcome = train_here(*command)
    assert outcome.code == 0
    assert "going on after epoch" in outcome.out
    assert first.finished
    before = {name: job.metrics.read_bytes() for name, job in jobs(sweep).items()}
    assert train_here(*command[:-1], "hydra.sweeper.n_trials=3").code == 0  # one more
    after = {name: job.metrics.read_bytes() for name, job in jobs(sweep).items()}
    assert (len(before), len(after)) == (2, 3)
    assert before.items() < after.items()
    assert sum(trial.state == optuna.trial.TrialState.COMPLETE for trial in study(sweep).trials) == 3
    assert "hydra.sweeper.n_trials=3" in str(sweep_directory.read(sweep).command)


@pytest.mark.parametrize(
    ("overrides", "direction"),
    [
        ([], "maximize"),
        (["monitor.metric=val/loss", "monitor.mode=min"], "minimize"),
        (["data.val_size=0"], "minimize"),  # of train/loss
    ],
)
def test_search_optimizes_the_metric_that_ranks_runs(
    overrides: list[str], direction: str, composed: Callable[..., DictConfig]
) -> None:
    config = composed(*overrides)
    OmegaConf.set_struct(config, False)
    for given in (None, direction):
        config.hydra = {"sweeper": {"direction": given}}
        search.set_direction(config)
        assert config.hydra.sweeper.direction == direction
    config.hydra.sweeper.direction = {"maximize": "minimize", "minimize": "maximize"}[direction]
    with pytest.raises(UserError, match=f"would search for the worst run: .* use hydra.sweeper.direction={direction}"):
        search.set_direction(config)


def test_trial_to_be_repeated_is_queued_once(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.sqlite3'}"
    begun = optuna.create_study(study_name="search", storage=storage)
    for _ in range(2):
        begun.ask({"lr": optuna.distributions.UniformDistribution(0, 1)})  # and killed
    for _ in range(3):  # interrupted before the first of them started again
        sweeper = {"storage": storage, "study_name": "search", "n_trials": 4, "sampler": {"seed": 0}}
        config = OmegaConf.create({"hydra": {"sweeper": sweeper}})
        search.resume(config)
    states = [trial.state for trial in study(tmp_path).trials]
    assert states == [optuna.trial.TrialState.FAIL] * 2 + [optuna.trial.TrialState.WAITING] * 2
    assert (config.hydra.sweeper.n_trials, config.hydra.sweeper.sampler.seed) == (4, 4)


def test_failed_trial_does_not_stop_the_search_and_sets_exit_code_1(train_here: TrainHere, tmp_path: Path) -> None:
    outcome = train_here(*SEARCH, "optimizer.lr=choice(0.001,1e30)", "hydra.sweeper.n_trials=4")
    assert outcome.code == 1
    states = [job.state for job in sweep_directory.read(tmp_path / "sweep").jobs]
    assert (len(states), set(states)) == (4, {"finished", "failed"})


def test_search_without_a_finished_trial_ends_in_one_line(train_here: TrainHere) -> None:
    outcome = train_here(*SEARCH, "optimizer.lr=1e30", "hydra.sweeper.n_trials=1")
    assert outcome.code == 1
    assert outcome.err.splitlines()[-1] == "error: no trial of the search has finished"
    assert "Traceback" not in outcome.err + outcome.out


def test_impossible_number_of_trials_is_rejected(train_here: TrainHere, tmp_path: Path) -> None:
    line = one_line(train_here(*SEARCH, "hydra.sweeper.n_trials=0"))
    assert "hydra.sweeper.n_trials must be at least 1, got 0" in line
    assert list(tmp_path.iterdir()) == []
    target = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
    with pytest.raises(UserError, match="the sweep would have 1,001 jobs; if you mean it, add max_jobs=1001"):
        list(sample_jobs(sweep_config(_target_=target, n_trials=1001)))
    assert list(sample_jobs(sweep_config("seed=1", _target_=target, n_trials=1))) == [["seed=1"]]
