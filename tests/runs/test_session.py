"""One process's work on a run: lock, signals, disk errors."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.runs import create, manifest
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.session import working_on
from fmnist.runs.signals import interruptible

Composed = Callable[..., DictConfig]


def state(run: RunDirectory) -> str:
    return str((run.read_manifest() or {})["state"])


@pytest.fixture
def config(composed: Composed) -> DictConfig:
    return composed()


@pytest.fixture
def run(tmp_path: Path, config: DictConfig, monkeypatch: pytest.MonkeyPatch) -> RunDirectory:
    """A run that was started with the defaults. Its manifest lacks the description, which takes a second."""
    monkeypatch.setattr(manifest, "describe_run", lambda _config, _data: {"command": "", "start": ""})
    result = RunDirectory(tmp_path / "run")
    create.create_run_directory(result, {"config.yaml": OmegaConf.to_yaml(config)})
    return result


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_exit_with_the_code_that_shells_use(
    number: int, code: int, run: RunDirectory, config: DictConfig, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop, working_on(run, config, data={}):
        os.kill(os.getpid(), number)
    assert stop.value.code == code
    assert state(run) == "interrupted"
    assert signal.getsignal(number) == before
    assert caplog.messages == [
        f"interrupted: no epoch was finished, so there is no checkpoint in {run.path}; to resume:  {run.resume_command}"
    ]


def interrupt_a_library() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise ValueError("Invalid bounding box") from None  # as matplotlib does


def test_signal_that_a_library_turns_into_an_error_is_an_interruption(
    run: RunDirectory, config: DictConfig, caplog: pytest.LogCaptureFixture
) -> None:
    run.checkpoints.mkdir()
    run.last_checkpoint.touch()
    with pytest.raises(SystemExit) as stop, working_on(run, config, data={}):
        interrupt_a_library()
    assert stop.value.code == 130
    assert state(run) == "interrupted"
    assert caplog.messages == [
        f"interrupted: kept {run.last_checkpoint}, of the last finished epoch; to resume:  {run.resume_command}"
    ]


def test_ignored_signal_stays_ignored(run: RunDirectory, config: DictConfig) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with working_on(run, config, data={}):
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_slurm_job_leaves_sigterm_to_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGTERM)
    for executor, handled in (("slurm", False), ("local", True)):
        monkeypatch.setenv("SUBMITIT_EXECUTOR", executor)
        with interruptible(lambda: None):
            assert (signal.getsignal(signal.SIGTERM) != before) == handled


@pytest.mark.parametrize("name", ["ENOSPC", "EDQUOT", "EROFS", "EACCES", "EPERM", "EIO", "EFBIG", "ESTALE"])
def test_disk_error_is_reported_in_one_line_with_the_resume_command(
    name: str, run: RunDirectory, config: DictConfig
) -> None:
    number = getattr(errno, name)
    failure = ValueError("you tried to log 0.5")  # raised by Lightning's logger
    failure.__cause__ = OSError(number, os.strerror(number), str(run.last_checkpoint))
    with pytest.raises(UserError) as error, working_on(run, config, data={}):
        raise failure
    expected = f"cannot write {run.last_checkpoint}: {os.strerror(number)}; existing files are intact."
    assert str(error.value).startswith(expected)
    assert str(error.value).endswith(run.resume_command)
    assert state(run) == "failed"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file", "x"), FileNotFoundError),  # a defect
        (ZeroDivisionError(), ZeroDivisionError),
        (MisconfigurationException("no such\ndevice"), UserError),
    ],
)
def test_lightnings_message_is_translated_and_a_defect_is_not(
    error: Exception, expected: type[Exception], run: RunDirectory, config: DictConfig
) -> None:
    with pytest.raises(expected, match=r"^(|no such device|.*No such file.*)$"), working_on(run, config, data={}):
        raise error
    assert state(run) == "failed"


def test_run_of_another_configuration_is_rejected_and_unchanged(run: RunDirectory, composed: Composed) -> None:
    run.write_metrics({"val/acc": 0.5})
    with (
        pytest.raises(UserError, match="was started with another configuration: data, model, seed changed"),
        working_on(run, composed("seed=1", "model.pixel_mean=7.0"), data={}),
    ):
        pass
    assert run.finished
    with working_on(run, composed("trainer.max_epochs=99", "trust=[timm]"), data={}):
        pass


def test_run_in_progress_is_locked_and_not_finished(run: RunDirectory, config: DictConfig) -> None:
    run.write_metrics({"val/acc": 0.5})
    (run.path / ".leftover.tmp").touch()
    with working_on(run, config, data={}):
        assert not run.finished
        assert run.running
        assert not (run.path / ".leftover.tmp").exists()
        with pytest.raises(UserError, match="written by another process"), working_on(run, config, data={}):
            pass
    assert not run.running
