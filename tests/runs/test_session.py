"""One process's work on a run: lock, signals, disk errors."""

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from fmnist.config.errors import UserError
from fmnist.runs import create
from fmnist.runs.run_directory import RunDirectory
from fmnist.runs.session import working_on

Composed = Callable[..., DictConfig]


def state(run: RunDirectory) -> str:
    content = run.read_manifest()
    assert content is not None
    return str(content["state"])


@pytest.fixture
def run(tmp_path: Path, composed: Composed) -> RunDirectory:
    """A run that was started with the defaults."""
    result = RunDirectory(tmp_path / "run")
    create.create_run_directory(result, {"config.yaml": OmegaConf.to_yaml(composed())})
    return result


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_signals_exit_with_the_code_that_shells_use(
    number: signal.Signals, code: int, run: RunDirectory, composed: Composed
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop, working_on(run, composed(), data={}):
        os.kill(os.getpid(), number)
    assert stop.value.code == code
    assert state(run) == "interrupted"
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("epochs", "message"), [(0, "no epoch was finished"), (1, "kept .*last.ckpt, of the last")])
def test_interruption_names_the_checkpoint_and_the_command_that_resumes(
    epochs: int,
    message: str,
    number: signal.Signals,
    run: RunDirectory,
    composed: Composed,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if epochs:
        run.checkpoints.mkdir()
        run.last_checkpoint.touch()
    with pytest.raises(SystemExit), working_on(run, composed(), data={}):
        os.kill(os.getpid(), number)
    (line,) = caplog.messages
    assert re.search(f"interrupted: {message}", line)
    assert run.resume_command in line


def test_signal_that_a_library_turns_into_an_error_is_an_interruption(
    run: RunDirectory, composed: Composed, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        with working_on(run, composed(), data={}):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise ValueError("Invalid bounding box") from None  # as matplotlib does

    with pytest.raises(SystemExit) as stop:
        work()
    assert stop.value.code == 130
    assert state(run) == "interrupted"
    assert run.resume_command in caplog.messages[-1]


def test_ignored_signal_stays_ignored(run: RunDirectory) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, '.');"
        "from hydra import compose, initialize_config_dir; from fmnist.runs.session import working_on;"
        "import fmnist.cli.preflight; from fmnist.runs.run_directory import RunDirectory;"
        "initialize_config_dir(str(Path('conf').absolute()), version_base='1.3').__enter__();\n"
        f"with working_on(RunDirectory({str(run.path)!r}), compose('train'), data={{}}):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('continued')"
    )
    result = subprocess.run(["nohup", sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "continued" in result.stdout


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_disk_error_is_reported_in_one_line_with_the_resume_command(
    number: int, run: RunDirectory, composed: Composed
) -> None:
    def work() -> None:
        with working_on(run, composed(), data={}):
            try:
                raise OSError(number, os.strerror(number), str(run.last_checkpoint))
            except OSError as cause:  # as Lightning's logger does
                raise ValueError("you tried to log 0.5") from cause

    with pytest.raises(UserError) as error:
        work()
    assert str(error.value).startswith(f"cannot write {run.last_checkpoint}: {os.strerror(number)}")
    assert run.resume_command in str(error.value)
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


def test_defect_is_not_translated(run: RunDirectory, composed: Composed) -> None:
    for defect in (FileNotFoundError(errno.ENOENT, "No such file", "x"), ZeroDivisionError()):
        with pytest.raises(type(defect)), working_on(run, composed(), data={}):
            raise defect
        assert state(run) == "failed"


def test_run_in_progress_is_not_finished(run: RunDirectory, composed: Composed) -> None:
    run.write_metrics({"val/acc": 0.5})
    with working_on(run, composed(), data={}):
        assert not run.finished
        assert run.running
        with pytest.raises(UserError, match="written by another process"), working_on(run, composed(), data={}):
            pass
    assert not run.running
