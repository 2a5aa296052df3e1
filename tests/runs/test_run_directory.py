"""The run directory."""

import multiprocessing.synchronize
import signal
from pathlib import Path

import pytest

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory


def test_metrics_survive_a_round_trip(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert not run.finished
    run.write_metrics({"test/acc": 0.8733000159263611, "epochs": 10})
    assert run.finished
    assert run.read_metrics() == {"test/acc": 0.8733000159263611, "epochs": 10}


def test_one_process_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert not run.running
    with run.locked():
        assert RunDirectory(tmp_path).running
        with pytest.raises(UserError, match="is being written by another process"), RunDirectory(tmp_path).locked():
            pass
    assert not RunDirectory(tmp_path).running


def hold(path: Path, ready: multiprocessing.synchronize.Event) -> None:
    with RunDirectory(path).locked():
        ready.set()
        signal.pause()


def test_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    assert RunDirectory(tmp_path).running
    process.kill()
    process.join()
    assert not RunDirectory(tmp_path).running


def test_only_temporary_files_are_removed(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.checkpoints.mkdir()
    kept = [run.last_checkpoint, run.metrics, tmp_path / "notes.tmp"]
    for path in [*kept, run.checkpoints / ".last.ckpt.abc.tmp", tmp_path / ".metrics.json.x.tmp"]:
        path.touch()
    (tmp_path / ".hydra.x.tmp").mkdir()
    (tmp_path / ".hydra.x.tmp/config.yaml").touch()
    run.remove_leftovers()
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(kept)
