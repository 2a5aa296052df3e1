"""Searches: sweeps whose values Optuna chooses."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import search, sweep_directory
from fmnist.sweeps.jobs import sample_jobs
from tests.helpers import TINY, Start, TrainHere, one_line, wait_until
from tests.sweeps.test_sweep import jobs, sweep_config

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.real_data

SEARCH = *TINY, "sweep=search", "model=cnn", "hydra.sweep.dir=sweep"
COMPLETE, PRUNED, FAIL = (optuna.trial.TrialState[name] for name in ("COMPLETE", "PRUNED", "FAIL"))


def study(path: Path) -> Any:
    found = search.load_study(path)
    assert found is not None
    return found


def count(path: Path, *states: Any) -> int:
    return len(study(path).get_trials(states=states))


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
    assert f"best value           {best.read_metrics()['val/acc']:.4f} in trial" in outcome.out
    assert (tmp_path / "sweep/search.png").stat().st_size > 10_000

    command = next(line for line in outcome.out.splitlines() if "to repeat" in line).partition("train.py ")[2]
    overrides = [part for part in command.split() if not part.startswith("seed=")]
    assert train_here(*overrides, "seed=7", "hydra.sweep.dir=again").code == 0
    (again,) = jobs(tmp_path / "again").values()
    assert again.read_configuration() == OmegaConf.merge(best.read_configuration(), {"seed": 7})


def test_killed_search_resumes_the_interrupted_trial(start: Start, train_here: TrainHere, tmp_path: Path) -> None:
    command = *SEARCH, "trainer.max_epochs=8", "hydra.sweeper.pruner=none", "hydra.sweeper.n_trials=2"
    sweep = tmp_path / "sweep"
    process = start(*command)
    wait_until(lambda: any(sweep.glob("*/checkpoints/last.ckpt")), "a checkpoint")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (first,) = jobs(sweep).values()
    assert not first.finished
    outcome = train_here(*command)
    assert outcome.code == 0
    assert "resuming after epoch" in outcome.out
    assert first.finished
    before = {name: job.metrics.read_bytes() for name, job in jobs(sweep).items()}
    assert train_here(*command[:-1], "hydra.sweeper.n_trials=3").code == 0  # one more
    after = {name: job.metrics.read_bytes() for name, job in jobs(sweep).items()}
    assert (len(before), len(after)) == (2, 3)
    assert before.items() < after.items()
    assert (count(sweep, COMPLETE), count(sweep, FAIL)) == (3, 1)
    assert "hydra.sweeper.n_trials=3" in str(sweep_directory.read(sweep).command)


def test_pruned_run_keeps_its_checkpoint_and_can_be_finished(train_here: TrainHere, tmp_path: Path) -> None:
    rates = "optimizer.lr=choice(0.003,0.01,1e-8,1e-9)"
    outcome = train_here(*SEARCH, "trainer.max_epochs=3", rates, "hydra.sweeper.n_trials=8", "hydra.sweeper.finish=0")
    assert (outcome.code, outcome.err) == (0, "")
    pruned = [job for job in sweep_directory.read(tmp_path / "sweep").jobs if job.state == "pruned"]
    assert len(pruned) == count(tmp_path / "sweep", PRUNED) > 0
    assert count(tmp_path / "sweep", COMPLETE, PRUNED) == 8
    job = pruned[0]
    assert job.run is not None
    assert job.error is not None
    assert job.error.startswith("pruned after epoch 1: val/acc 0.")
    assert job.error in outcome.out
    manifest = json.loads(job.run.manifest.read_text())
    assert (manifest["state"], manifest["sessions"][-1]["state"]) == ("pruned", "pruned")
    assert not job.run.finished
    resumed = train_here(f'resume="{job.run.path}"')
    assert resumed.code == 0
    assert "resuming after epoch 1" in resumed.out
    assert job.run.read_metrics()["epochs"] == 3


def test_search_ends_by_finishing_the_best_pruned_trials(train_here: TrainHere, tmp_path: Path) -> None:
    rates = "optimizer.lr=choice(0.003,0.01,1e-8,1e-9)"
    command = *SEARCH, "trainer.max_epochs=3", rates, "hydra.sweeper.n_trials=8", "hydra.sweeper.finish=1"
    for _ in range(2):  # the second time, nothing is left to do
        outcome = train_here(*command)
        assert (outcome.code, outcome.err) == (0, "")
        trials = study(tmp_path / "sweep").trials
        pruned = {trial.number: trial for trial in trials if trial.state == PRUNED}
        (finished,) = (trial for trial in trials if search.UNPRUNED in trial.user_attrs)
        assert (len(trials), finished.number, finished.state) == (9, 8, COMPLETE)
        best = max(pruned.values(), key=lambda trial: (trial.last_step, trial.value))
        assert finished.params == best.params
    (run,) = (job for job in jobs(tmp_path / "sweep").values() if len((job.read_manifest() or {})["sessions"]) == 2)
    assert (run.read_metrics()["epochs"], run.read_metrics()["val/acc"]) == (3, finished.value)


@pytest.mark.parametrize("killed", [False, True])
def test_two_processes_share_a_search_and_lose_no_trial(killed: bool, start: Start, tmp_path: Path) -> None:
    command = *SEARCH, "trainer.max_epochs=4", "hydra.sweeper.pruner=none", "hydra.sweeper.n_trials=4"
    sweep = tmp_path / "sweep"
    first = start(*command)
    wait_until(lambda: any(sweep.glob("*/checkpoints/last.ckpt")), "a checkpoint")
    second = start(*command)
    wait_until(lambda: len(jobs(sweep)) > 1, "a trial of the second process")
    if killed:
        first.send_signal(signal.SIGKILL)
    else:
        assert first.communicate(120)[1] == ""
    out, err = second.communicate(120)
    assert (second.returncode, err) == (0, "")
    assert "4 of 4 runs finished" in out
    assert count(sweep, COMPLETE) == len(jobs(sweep)) == 4
    assert count(sweep, FAIL) == killed


@pytest.fixture
def database() -> Iterator[str]:
    """URL of an empty database, on a PostgreSQL server that listens on a socket only."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs or os.geteuid() != 0:
        pytest.skip("needs Debian's package postgresql, and root")
    directory = Path(tempfile.mkdtemp(prefix="postgres", dir="/tmp"))  # the path of a socket must be short
    shutil.chown(directory, "postgres")  # the server refuses to run as root

    def run(program: str, *arguments: str) -> None:
        command = [
            "runuser",
            "-u",
            "postgres",
            "--",
            str(programs[-1] / program),
            "-D",
            f"{directory}/data",
            *arguments,
        ]
        subprocess.run(command, check=True, cwd=directory, stdout=subprocess.DEVNULL)

    run("initdb", "--auth=trust", "--no-sync")
    run("pg_ctl", "start", "-w", "-l", f"{directory}/log", "-o", f"-k {directory} -c listen_addresses='' -F")
    yield f"postgresql+psycopg://postgres@/postgres?host={directory}"
    run("pg_ctl", "stop", "-m", "immediate")
    shutil.rmtree(directory)


@pytest.mark.slow
def test_two_processes_share_a_search_in_a_database(database: str, start: Start, tmp_path: Path) -> None:
    psycopg = pytest.importorskip("psycopg", reason="needs make setup-extras")
    command = *SEARCH, f'hydra.sweeper.storage="{database}"', "hydra.sweeper.n_trials=6"
    processes = [start(*command)]
    wait_until((tmp_path / "sweep/.sweep/search").is_dir, "the search")
    processes.append(start(*command))
    ends = [(process.communicate(120)[1], process.returncode) for process in processes]
    assert ends == [("", 0), ("", 0)]
    with psycopg.connect(database.replace("+psycopg", "")) as connection:
        states = [state for (state,) in connection.execute("SELECT state FROM trials")]
        workers = [*connection.execute("SELECT DISTINCT value_json FROM trial_user_attributes WHERE key = 'worker'")]
    assert (len(states), len(workers), len(jobs(tmp_path / "sweep"))) == (6, 2, 6)
    assert set(states) <= {"COMPLETE", "PRUNED"}
    assert not (tmp_path / "sweep/study.journal").exists()


def test_failed_trial_does_not_stop_the_search_and_sets_exit_code_1(train_here: TrainHere, tmp_path: Path) -> None:
    outcome = train_here(*SEARCH, "optimizer.lr=choice(0.001,1e30)", "hydra.sweeper.n_trials=4")
    assert outcome.code == 1
    states = [job.state for job in sweep_directory.read(tmp_path / "sweep").jobs]
    assert (len(states), set(states)) == (4, {"finished", "failed"})


def test_joblib_runs_several_trials_at_once(train_here: TrainHere, tmp_path: Path) -> None:
    outcome = train_here(*SEARCH, "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra.sweeper.n_trials=4")
    assert outcome.code == 0, outcome.err
    assert count(tmp_path / "sweep", COMPLETE) == 4
    trials = sorted(study(tmp_path / "sweep").trials, key=lambda trial: trial.datetime_start)
    assert trials[1].datetime_start < trials[0].datetime_complete


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be at least 1, got 0"),
        (["hydra.sweeper.n_jobs=2"], "hydra.sweeper.n_jobs=2: jobs run one after the other; use hydra/launcher=joblib"),
        (["hydra.sweeper.pruner=hyperbrand"], "pruner must be one of hyperband, median, none, got 'hyperbrand'"),
        (["hydra.sweeper.sampler=tpee"], "sampler must be one of tpe, random, gp, cmaes, qmc, grid, got 'tpee'"),
        (["optimizer.lr=interval(0.1,0.01)"], "an interval goes from a smaller number to a greater one"),
        (["optimizer.lr=tag(log,interval(0,0.01))"], "on a logarithmic scale, all values must be above 0"),
        (["hydra.sweeper.n_trials=1001"], "the sweep would have 1,001 jobs; if you mean it, add max_jobs=1001"),
    ],
)
def test_wrong_option_is_rejected_before_anything_is_written(
    overrides: list[str], message: str, train_here: TrainHere, tmp_path: Path
) -> None:
    assert message in one_line(train_here(*SEARCH, *overrides))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["hydra.sweeper.storage=sqlite:////none/study.sqlite3"], "cannot open the study in sqlite:////none/study"),
        (["hydra.sweeper.storage=nonsense"], "cannot open the study in nonsense: "),
        (["hydra.sweeper.sampler=grid"], "sampler=grid needs values or a range with a step, not an interval"),
    ],
)
def test_study_that_cannot_be_opened_is_one_line(overrides: list[str], message: str, train_here: TrainHere) -> None:
    outcome = train_here(*SEARCH, *overrides)
    assert outcome.code == 1
    assert message in outcome.err
    assert "Traceback" not in outcome.err + outcome.out


def test_database_with_the_study_of_another_search_is_rejected(train_here: TrainHere, tmp_path: Path) -> None:
    storage = "hydra.sweeper.storage=sqlite:///study.sqlite3", "hydra.sweeper.study_name=mine"
    assert train_here(*SEARCH, *storage, "hydra.sweeper.n_trials=1").code == 0
    assert search.load_study(tmp_path / "sweep") is not None
    outcome = train_here(*SEARCH[:-1], "hydra.sweep.dir=other", "seed=1", *storage)
    assert "error: the storage has a study 'mine' of another search: give hydra.sweeper.study_name" in outcome.err


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("a=choice(1,b)", optuna.distributions.CategoricalDistribution(["1", "b"])),
        ("a=1,2", optuna.distributions.CategoricalDistribution(["1", "2"])),
        ("a=int(interval(1,5))", optuna.distributions.IntDistribution(1, 5)),
        ("a=interval(1,5)", optuna.distributions.FloatDistribution(1, 5)),
        ("a=tag(log,interval(0.1,1.0))", optuna.distributions.FloatDistribution(0.1, 1, log=True)),
        ("a=tag(log,int(interval(1,8)))", optuna.distributions.IntDistribution(1, 8, log=True)),
        ("a=range(1,10,3)", optuna.distributions.IntDistribution(1, 7, step=3)),
        ("a=range(0.5,2.0,0.5)", optuna.distributions.FloatDistribution(0.5, 1.5, step=0.5)),
    ],
)
def test_ranges_are_those_of_hydras_sweeps(override: str, expected: Any) -> None:
    from fmnist.sweeps.optuna_sweeper import distribution

    (parsed,) = OverridesParser.create().parse_overrides([override])
    assert distribution(parsed) == expected


@pytest.mark.parametrize(
    ("overrides", "direction"),
    [
        ([], "MAXIMIZE"),
        (["monitor.metric=val/loss", "monitor.mode=min"], "MINIMIZE"),
        (["data.val_size=0"], "MINIMIZE"),  # of train/loss
    ],
)
def test_search_optimizes_the_metric_that_ranks_runs(
    overrides: list[str], direction: str, composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    sweeper = {"pruner": "hyperband", "storage": None, "study_name": "a"}
    hydra = OmegaConf.create({"sweeper": sweeper, "sweep": {"dir": str(tmp_path)}})
    assert search.open_study(composed(*overrides), hydra).direction.name == direction


def test_number_of_trials_counts_as_the_number_of_jobs() -> None:
    sweeper = {"_target_": search.TARGET, "n_trials": 1001}
    with pytest.raises(UserError, match="the sweep would have 1,001 jobs"):
        list(sample_jobs(sweep_config(**sweeper)))
    assert list(sample_jobs(sweep_config("seed=1", **(sweeper | {"n_trials": 1})))) == [["seed=1"]]


def test_a_sweep_that_is_no_search_has_no_study(tmp_path: Path) -> None:
    sweep = RunDirectory(tmp_path).sweep
    sweep.mkdir()
    for content in ("", "- 1", "sweeper:\n  _target_: other", "{"):
        (sweep / "hydra.yaml").write_text(content)
        assert search.load_study(tmp_path) is None
