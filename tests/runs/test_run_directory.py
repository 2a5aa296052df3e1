"""The run directory."""

import os
from pathlib import Path

import pytest

from fmnist.config.errors import UserError
from fmnist.runs.run_directory import RunDirectory
from tests import fork_server


def test_metrics_survive_a_round_trip(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert not run.finished
    run.write_metrics({"test/acc": 0.8733000159263611, "epochs": 10})
    assert run.finished
    assert run.read_metrics() == {"test/acc": 0.8733000159263611, "epochs": 10}


def test_path_is_shown_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunDirectory(tmp_path / "a/run")
    assert run.resume_command == "python train.py resume=a/run"
    assert str(run.evaluation("best", "val", "shift").relative_to(run.path)) == "evaluation/best-val-shift"
    assert str(run.evaluation("last", "test").relative_to(run.path)) == "evaluation/last-test"
    assert RunDirectory(tmp_path.parent).shown == tmp_path.parent


def test_one_process_at_a_time_holds_the_lock(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert not run.running
    with run.locked():
        assert RunDirectory(tmp_path).running
        with pytest.raises(UserError, match="is being written by another process"), RunDirectory(tmp_path).locked():
            pass
    assert not RunDirectory(tmp_path).running
    run.path.joinpath(".lock").unlink()
    run.path.joinpath(".lock").mkdir()
    with pytest.raises(UserError, match=r"cannot write the directory .*: Is a directory"), run.locked():
        pass


def test_lock_of_a_killed_process_is_released(tmp_path: Path) -> None:
    code = "import time; from fmnist.runs.run_directory import RunDirectory\n"
    code += "with RunDirectory('.').locked(): print(flush=True); time.sleep(300)"
    process = fork_server.Popen(["-c", code], cwd=tmp_path, env=os.environ)
    assert process.stdout.readline() == "\n"
    assert RunDirectory(tmp_path).running
    process.kill()
    process.communicate()
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
    assert not (tmp_path / ".hydra.x.tmp").exists()


@pytest.mark.parametrize("content", ["a: [", "- a", "\x00"])
def test_damaged_files_are_rejected(content: str, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.hydra.mkdir()
    for path in (run.hydra / "config.yaml", run.metrics, run.manifest):
        path.write_text(content)
    for read in (run.read_configuration, run.read_metrics, run.read_manifest):
        with pytest.raises(UserError, match=r"cannot read .*(yaml|json): "):
            read()


def test_anything_but_a_run_is_rejected(tmp_path: Path) -> None:
    for path, message in (("none", "no directory .*none"), (".", "is not a run directory: it has no .hydra/config")):
        with pytest.raises(UserError, match=message):
            RunDirectory(tmp_path / path).read_configuration()
