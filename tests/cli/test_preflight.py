"""What happens before and around the jobs: defects, sweeps, and the other processes of a run. Nothing is trained."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

from fmnist.cli import worker
from fmnist.cli.preflight import PreflightCallback
from fmnist.config.errors import UserError
from fmnist.distributed import workers
from fmnist.distributed.process_info import ProcessInfo
from fmnist.runs.run_directory import RunDirectory
from fmnist.training import fitting, schedule_check
from tests.helpers import TINY, Outcome, TrainHere, one_line


def test_defect_ends_with_its_traceback(train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def defective(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError("a defect")

    for place in ("fmnist.build.check", "fmnist.build.configure_process"):  # before and after the directory is created
        with monkeypatch.context() as patch:
            patch.setattr(place, defective)
            outcome = train_here("experiment=smoke")
        assert outcome.code == 1
        assert "Traceback" in outcome.err
        assert outcome.err.splitlines()[-1] == "ZeroDivisionError: a defect"
    assert len(list((tmp_path / "runs/train").glob("*/*"))) == 1  # the first call created none


def test_hydra_keeps_no_configuration_of_a_finished_job(composed: Callable[..., DictConfig]) -> None:
    job = JobReturn(cfg=composed(), hydra_cfg=composed())
    job.status = JobStatus.COMPLETED
    PreflightCallback().on_job_end(composed(), job)
    assert (job.cfg, job.hydra_cfg) == (None, None)


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, bool, int]]:
    """Directory, ``test`` and batch size of each run, instead of its training. Runs with ``seed=1`` may fail."""
    runs = []

    def fit_and_test(_trainer: object, _module: object, data: Any, run: RunDirectory, *, test: bool) -> Any:
        if "seed-1" in run.path.name and Path("failing").exists():
            raise UserError("no luck")
        runs.append((run.path, test, data.batch_size))
        return {"val/acc": 0.5, "val/loss": 0.7, "epochs": 1, "best_epoch": 1}

    monkeypatch.setattr(fitting, "fit_and_test", fit_and_test)
    monkeypatch.setattr(fitting, "training_cost", lambda _trainer: {})
    return runs


def test_failed_job_does_not_stop_the_sweep_and_the_same_command_repeats_it(
    train_here: TrainHere, fitted: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "failing").touch()
    sweep = OmegaConf.create({"hydra": {"sweep": {"dir": "sweep"}}})
    overrides = *TINY, "-m", "seed=1,2", "hydra.sweep.dir=sweep"
    outcome = train_here(*overrides)
    assert (outcome.code, outcome.err.splitlines()[-1]) == (1, "error: job #0 failed, see above")
    assert "\njob #0 failed: no luck\n\t#1 : " in outcome.out
    assert outcome.out.rstrip().endswith("report               sweep/report.md")
    with pytest.raises(SystemExit):  # with launchers that return after a failed job
        PreflightCallback().on_multirun_end(sweep)

    (tmp_path / "failing").unlink()
    (tmp_path / "sweep/.sweep/hydra.yaml").unlink()  # written again, since the number of trials may be higher
    outcome = train_here(*overrides)
    assert (outcome.code, outcome.err) == (0, "")
    assert "resuming the sweep in sweep\n" in outcome.out
    assert "finished before\n" in outcome.out
    assert (tmp_path / "sweep/.sweep/hydra.yaml").is_file()
    assert len(fitted) == len(list((tmp_path / "sweep").glob("*/metrics.json"))) == 2
    PreflightCallback().on_multirun_end(sweep)


def test_resumed_run_goes_on_in_its_directory_if_its_schedule_allows_more_epochs(
    train_here: TrainHere, untrained_run: RunDirectory, fitted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained_run.metrics.unlink()
    untrained_run.last_checkpoint.unlink()
    epochs: list[tuple[int, int]] = []
    monkeypatch.setattr(schedule_check, "check_more_epochs", lambda _module, old, new: epochs.append((old, new)))
    for checked in ([], [(10, 12)]):
        outcome = train_here("resume=run", *(["trainer.max_epochs=12"] if checked else []))
        assert outcome.code == 0, outcome.err
        assert epochs == checked
        untrained_run.metrics.unlink()
    assert [path for path, *_ in fitted] == [untrained_run.path] * 2


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Makes this process a rank of two."""

    def call(rank: int) -> None:
        for name, value in (("RANK", rank), ("WORLD_SIZE", 2), ("MASTER_PORT", 1)):
            monkeypatch.setenv(name, str(value))

    return call


def test_other_ranks_become_workers(
    launched: Callable[[int], None], train_here: TrainHere, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[ProcessInfo] = []
    monkeypatch.setattr(worker, "run", ran.append)
    launched(1)
    assert train_here(*TINY) == Outcome(0, "", "")
    assert [process.rank for process in ran] == [1]
    assert list(tmp_path.iterdir()) == []


def test_rejected_run_releases_the_workers_that_a_launcher_started(
    launched: Callable[[int], None], train_here: TrainHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    released: list[ProcessInfo] = []
    monkeypatch.setattr(workers, "release_workers", released.append)
    launched(0)
    assert "must be at least 1, got 0" in one_line(train_here("data.batch_size=0"))
    assert [process.rank for process in released] == [0]
    assert "the launcher started several processes, and each would" in one_line(train_here("-m", "seed=1,2"))


def test_worker_trains_what_rank_zero_sends_and_logs_nothing(
    composed: Callable[..., DictConfig], fitted: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def join_rank_zero(me: ProcessInfo) -> Iterator[tuple[RunDirectory, DictConfig]]:
        assert me == ProcessInfo()
        yield RunDirectory(tmp_path), composed("test=false")

    ended_by: list[signal.Signals] = []
    monkeypatch.setattr(workers, "join_rank_zero", join_rank_zero)
    monkeypatch.setattr(worker, "exit_with_parent", lambda by: ended_by.append(by))
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR2, signal.SIGTERM)}
    try:
        worker.main()
        assert {signal.getsignal(number) for number in before} == {signal.SIG_IGN}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ended_by == [signal.SIGKILL]
    assert fitted == [(tmp_path, False, 100)]
