"""One process's work on a run, and how it ends."""

import errno
import os
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
    """One that was started with the defaults."""
    result = RunDirectory(tmp_path / "run")
    create.for_run(result, {"config.yaml": OmegaConf.to_yaml(composed())})
    return result


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_signals_end_the_work_with_the_code_that_shells_give_them(
    number: signal.Signals, code: int, run: RunDirectory, composed: Composed
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as stop, working_on(run, composed()):
        os.kill(os.getpid(), number)
    assert stop.value.code == code
    assert state(run) == "interrupted"
    assert signal.getsignal(number) == before


def test_a_signal_that_library_code_turns_into_an_error_is_still_an_interruption(
    run: RunDirectory, composed: Composed, caplog: pytest.LogCaptureFixture
) -> None:
    def work() -> None:
        with working_on(run, composed()):
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                raise ValueError("Invalid bounding box") from None  # what matplotlib made of it

    with pytest.raises(SystemExit) as stop:
        work()
    assert stop.value.code == 130
    assert state(run) == "interrupted"
    assert run.resume_command in caplog.messages[-1]


def test_a_signal_that_is_ignored_stays_so(run: RunDirectory) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, '.');"
        "from hydra import compose, initialize_config_dir; from fmnist.runs.session import working_on;"
        "import fmnist.cli.preflight; from fmnist.runs.run_directory import RunDirectory;"
        "initialize_config_dir(str(Path('conf').absolute()), version_base='1.3').__enter__();\n"
        f"with working_on(RunDirectory({str(run.path)!r}), compose('train')): os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('went on')"
    )
    result = subprocess.run(["nohup", sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "went on" in result.stdout


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_what_the_disk_refuses_is_told_in_one_line_with_how_to_go_on(
    number: int, run: RunDirectory, composed: Composed
) -> None:
    def work() -> None:
        with working_on(run, composed()):
            try:
                raise OSError(number, os.strerror(number), str(run.last_checkpoint))
            except OSError as cause:  # as Lightning's logger does
                raise ValueError("you tried to log 0.5") from cause

    with pytest.raises(UserError) as error:
        work()
    assert str(error.value).startswith(f"cannot write {run.last_checkpoint}: {os.strerror(number)}")
    assert run.resume_command in str(error.value)
    assert state(run) == "failed"


def test_a_run_of_another_configuration_is_refused_and_stays_as_it_is(run: RunDirectory, composed: Composed) -> None:
    run.write_metrics({"val/acc": 0.5})
    with (
        pytest.raises(UserError, match="began with another configuration: data, model, seed changed"),
        working_on(run, composed("seed=1", "model.pixel_mean=7.0")),
    ):
        pass
    assert run.finished
    with working_on(run, composed("trainer.max_epochs=99", "trust=[timm]")):
        pass


def test_a_run_of_before_an_argument_came_goes_on_as_if_it_had_had_it(tmp_path: Path, composed: Composed) -> None:
    then = composed("model=residual")
    del then.model.fixed_stem, then.model.activation
    older = RunDirectory(tmp_path / "older")
    create.for_run(older, {"config.yaml": OmegaConf.to_yaml(then)})
    with working_on(older, composed("model=residual")):
        pass
    with (
        pytest.raises(UserError, match="began with another configuration: model changed"),
        working_on(older, composed("model=residual", "model.fixed_stem=true")),
    ):
        pass


def test_a_defect_stays_one(run: RunDirectory, composed: Composed) -> None:
    for defect in (FileNotFoundError(errno.ENOENT, "No such file", "x"), ZeroDivisionError()):
        with pytest.raises(type(defect)), working_on(run, composed()):
            raise defect
        assert state(run) == "failed"


def test_a_finished_run_is_none_while_it_is_worked_on(run: RunDirectory, composed: Composed) -> None:
    run.write_metrics({"val/acc": 0.5})
    with working_on(run, composed()):
        assert not run.finished
        assert run.running
        with pytest.raises(UserError, match="written by another process"), working_on(run, composed()):
            pass
    assert not run.running
