"""Reading the directory of a sweep."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory
from fmnist.sweeps import ranking, report, sweep_directory
from fmnist.sweeps.sweep_directory import Overrides
from tests.sweep_fixtures import BASIC_SWEEPER, Metrics, make_job, make_sweep

SEEDS = {"seed": ["0", "1"]}


def some(_job: Overrides) -> Metrics:
    return {"val/acc": 0.5, "epochs": 3}


def states(path: Path) -> list[str]:
    return [job.state for job in sweep_directory.read(path).jobs]


def test_jobs_are_in_the_planned_order_with_those_that_have_not_started(tmp_path: Path) -> None:
    grid = {"optimizer.lr": ["0.1", "0.01"], **SEEDS}
    path = make_sweep(tmp_path / "s", grid, lambda job: None if job["seed"] == "1" else some(job))
    sweep = sweep_directory.read(path)
    assert [(*job.overrides.values(), job.state) for job in sweep.jobs] == [
        (lr, seed, state) for lr in ("0.1", "0.01") for seed, state in (("0", "finished"), ("1", "not started"))
    ]
    assert not sweep.complete
    first = sweep.jobs[0]
    assert (first.seconds, first.metrics, first.score) == (10.0, {"val/acc": 0.5, "epochs": 3}, ("val/acc", "max"))
    assert first.typed == ("optimizer.lr=0.1", "seed=0")
    for seed in SEEDS["seed"]:
        for lr in grid["optimizer.lr"]:
            make_job(path, {"optimizer.lr": lr, "seed": seed}, {})
    assert sweep_directory.read(path).complete


@pytest.mark.parametrize(
    ("params", "planned"),
    [
        ({"optimizer.lr": "0.1,0.01", "seed": "range(0,3)"}, 6),
        ({"seed": 5, "optimizer": "choice(adam,sgd)"}, 2),
        ({"model": "glob(*)"}, 0),  # only composing can list the values
        ({"seed": "["}, 0),
    ],
)
def test_plan_may_come_from_the_configuration(tmp_path: Path, params: dict[str, Any], planned: int) -> None:
    path = make_sweep(tmp_path / "s", {}, sweeper={"_target_": BASIC_SWEEPER, "params": params})
    assert states(path) == ["not started"] * planned


def test_search_has_its_number_of_trials(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", {}, sweeper={"_target_": "x.OptunaSweeper", "n_trials": 3})
    make_job(path, {"optimizer.lr": "0.123"}, {"val/acc": 0.5})
    assert states(path) == ["finished", "not started", "not started"]


def test_unfinished_job_has_the_state_of_its_manifest(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", SEEDS)
    for state, shown in (("interrupted", None), ("failed", "the loss is not finite?[2J"), ("killed", None)):
        make_job(path, {"seed": "0"}, None, state=state, error="the loss is\nnot finite\x1b[2J")
        job = sweep_directory.read(path).jobs[0]
        assert (job.state, job.error, job.finished) == (state, shown, False)


def test_job_without_a_lock_that_claims_to_run_was_killed(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", SEEDS)
    job = make_job(path, {"seed": "0"}, None, state="running")
    assert states(path)[0] == "killed"
    with RunDirectory(job).locked():
        assert states(path)[0] == "running"


def test_values_that_are_not_finite_numbers_are_left_out(tmp_path: Path) -> None:
    metrics = {"val/acc": None, "val/loss": 0.5, "huge": 1e100, "low": -1e100, "true": True}
    path = make_sweep(tmp_path / "s", {"seed": ["0"]}, lambda _job: metrics, seconds="long")
    (job,) = sweep_directory.read(path).jobs
    assert (job.metrics, job.seconds, job.finished) == ({"val/loss": 0.5}, None, True)


def test_job_without_validation_is_ranked_by_training_loss(tmp_path: Path) -> None:
    (job,) = sweep_directory.read(make_sweep(tmp_path / "s", {"seed": ["0"]}, some, val_size=0)).jobs
    assert job.score == ("train/loss", "min")


@pytest.mark.parametrize("monitor", [("val/acc", "best"), ("val/acc", ["max"]), (["val/acc"], "max"), (3, 3)])
def test_job_with_an_invalid_monitor_has_no_score(tmp_path: Path, monitor: tuple[Any, Any]) -> None:
    path = make_sweep(tmp_path / "s", {"seed": ["0"]}, some, monitor=monitor)
    assert sweep_directory.read(path).jobs[0].score is None


def test_command_resumes_in_the_same_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = make_sweep(tmp_path / "a sweep", {"seed": ["range(0,2)"]}, fixed={"experiment": "smoke"})
    expected = """python train.py -m experiment=smoke 'seed=range(0,2)' 'hydra.sweep.dir="a sweep"'"""
    assert sweep_directory.read(path).command == expected


def test_run_or_empty_directory_is_not_a_sweep(tmp_path: Path) -> None:
    run = make_job(make_sweep(tmp_path / "s", {}), {"seed": "0"}, {})
    for path, message in (
        (tmp_path / "nothing", r"no directory .*; sweeps are under runs/sweeps"),
        (tmp_path, r"is not the directory of a sweep: it has no \.sweep"),
        (run, "is the directory of one run, not of a sweep"),
    ):
        with pytest.raises(UserError, match=message):
            sweep_directory.read(path)


def test_damaged_files_are_reported(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", {"seed": ["0", "1", "2"]}, some)
    (path / "seed-0/metrics.json").write_text("{")
    (path / "seed-1/metrics.json").unlink()
    (path / "seed-2/manifest.json").write_text("[1]")
    jobs = sweep_directory.read(path).jobs
    assert [job.state for job in jobs] == ["damaged"] * 3
    assert [(job.error or "").partition(" ")[0] for job in jobs] == ["cannot", "metrics.json", "cannot"]


RUBBISH = st.one_of(
    st.binary(max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["hydra", "sweeper", "state", "val/acc", "monitor", "data"]), inner)
        ),
        max_leaves=8,
    ).map(lambda content: json.dumps(content).encode()),
)


@given(st.sampled_from(["metrics.json", "manifest.json", ".hydra/overrides.yaml", ".hydra/config.yaml"]), RUBBISH)
@settings(max_examples=60, deadline=None)
def test_sweep_is_readable_whatever_a_file_of_a_job_holds(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = make_sweep(tmp_path_factory.mktemp("rubbish") / "s", SEEDS, some)
    (path / "seed-0" / name).write_bytes(content)
    sweep = sweep_directory.read(path)
    assert "1" in [job.overrides.get("seed") for job in sweep.jobs if job.finished]
    ranks = ranking.rank(sweep.jobs)
    assert sum(len(setting.jobs) for setting in ranks.settings) == sum(bool(job.overrides) for job in sweep.jobs)
    for text in (report.terminal(sweep, ranks), report.markdown(sweep, ranks)):
        assert f"of {len(sweep.jobs)} runs finished" in text
        assert text.encode()


@given(RUBBISH)
@settings(max_examples=40, deadline=None)
def test_without_a_readable_plan_only_started_jobs_are_known(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = make_sweep(tmp_path_factory.mktemp("rubbish") / "s", SEEDS, some)
    (path / ".sweep/hydra.yaml").write_bytes(content)
    assert states(path) == ["finished"] * 2


def test_job_with_an_empty_hydra_directory_has_not_started(tmp_path: Path) -> None:
    path = make_sweep(tmp_path / "s", {"seed": ["0"]})
    (path / "seed-0/.hydra").mkdir(parents=True)
    assert states(path) == ["not started"]
    (path / ".sweep/hydra.yaml").write_text(yaml.safe_dump({}))
    assert states(path) == ["not started"]
